//! What a peer's message must be like to be passed on to the raft crate, which takes what its own code would
//! never say for a bug, and panics. Losing a message is always allowed, so the others are dropped.
//!
//! Leaves out: that entries of an Append are consecutive and their terms do not go down, which the peer codec
//! demands, and who may hand over proposals, which [`crate::node`] decides.
//!
//! Laws: what passes has
//!  1. a term, unless it is of the two kinds that travel without one, which have none;
//!  2. numbers that can be counted on from for ever;
//!  3. from a leader no more committed than this log holds, from a follower no more of the log than there is;
//!  4. exactly one entry if it is about a read, at least one if it is a proposal;
//!  5. a term for each entry of an Append, none above the leader's, and for the one that they follow if there is one:
//!     the crate takes term 0 for that of every entry that a log does not have;
//!  6. nothing that members of ours have no use for: a wish for a snapshot, which is the leader's decision, or a
//!     priority in elections.
//!
//! Worked example: a heartbeat of term 0, or one that says that entry 9 is committed to a log that ends at 8.

use crate::id::Index;
use crate::message::{RaftKind, RaftMessage};

/// Terms and indexes from here on are nobody's: at a million a second they would take 146,000 years.
const NUMBERS_END: u64 = 1 << 62;

/// Whether the crate may see a message; `last` is the end of this member's log.
pub(super) fn is_sound(message: &RaftMessage, last: Index) -> bool {
    let forwarded = matches!(message.kind, RaftKind::Propose | RaftKind::ReadIndex);
    let said = match message.kind {
        RaftKind::Heartbeat => message.commit <= last,
        RaftKind::Append => attaches(message),
        RaftKind::AppendResponse => message.reject || message.log.index <= last,
        RaftKind::ReadIndex | RaftKind::ReadIndexResponse => message.entries.len() == 1,
        RaftKind::Propose => !message.entries.is_empty(),
        _ => true,
    };
    said && (message.term.0 == 0) == forwarded
        && message.request_snapshot.0 == 0
        && message.priority == 0
        && numbers(message).all(|number| number < NUMBERS_END)
}

/// Law 5.
fn attaches(message: &RaftMessage) -> bool {
    let terms = 1..=message.term.0;
    (message.log.index.0 == 0 && message.log.term.0 == 0 || terms.contains(&message.log.term.0))
        && message.entries.iter().all(|entry| terms.contains(&entry.at.term.0))
}

fn numbers(message: &RaftMessage) -> impl Iterator<Item = u64> {
    let RaftMessage { term, log, commit, commit_term, reject_hint, .. } = message;
    let own = [term.0, log.index.0, log.term.0, commit.0, commit_term.0, reject_hint.0];
    own.into_iter()
        .chain(message.entries.iter().flat_map(|entry| [entry.at.index.0, entry.at.term.0]))
}
