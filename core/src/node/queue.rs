//! Admitted commands that are not proposed yet, as the bytes that they have in an entry: each is
//! encoded once, when it comes. Bounded in sum.
//!
//! Law: `encoded[gone..]` is what `waiting` says, one command after the other.
//!
//! Worked example: three puts of 30 bytes come; an entry is made of the bytes of all three, and if
//! raft takes it they are gone, otherwise nothing has happened.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec;
use crate::command::Command;
use crate::id::RequestId;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::request::Op;

/// Bytes for which memory is kept when nothing waits.
const KEPT_BYTES: usize = 4 << 20;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    encoded: Vec<u8>,
    /// Bytes at the front that were taken.
    gone: usize,
}

/// What is said about a command that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Whose request it is.
    pub id: RequestId,
    /// Whether it revokes a lease, or notes what is left of some.
    pub is_of_lessor: bool,
    bytes: usize,
}

/// The next entry, and what it takes from the queue.
pub(super) struct Next {
    /// For the log.
    pub entry: Bytes,
    /// Bytes of its commands.
    pub bytes: usize,
    count: usize,
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.encoded.len() - self.gone
    }

    /// Adds a session's command at the end.
    ///
    /// # Errors
    /// It is larger than a request may be, or there is no room for it now.
    pub fn admit(&mut self, command: &Command, limits: &Limits) -> Result<(), Rejection> {
        let before = self.encoded.len();
        let room = limits.queued_bytes_max.saturating_sub(self.bytes());
        let refused = match codec::append_command(command, &mut self.encoded) {
            Some(bytes) if bytes <= limits.command_bytes_max() && bytes <= room => None,
            Some(bytes) if bytes <= limits.command_bytes_max() => Some(Rejection::TooManyRequests),
            _ => Some(Rejection::RequestTooLarge),
        };
        if let Some(rejection) = refused {
            self.encoded.truncate(before);
            return Err(rejection);
        }
        self.note(command, before);
        Ok(())
    }

    /// Adds one of the member's own, which are small and few.
    pub fn push(&mut self, command: &Command) {
        let before = self.encoded.len();
        codec::append_command(command, &mut self.encoded).expect("no transaction of this member's");
        self.note(command, before);
    }

    /// The next entry: at least one command, as many as the bounds allow, and `more` behind them. A
    /// command over the bound goes alone. It stays queued until [`Queue::proposed`].
    pub fn next(&self, more: Option<&Command>, limits: &Limits) -> Option<Next> {
        let (mut count, mut bytes) = (0, 0);
        for waiting in self.waiting.iter().take(limits.entry_commands_max) {
            if count > 0 && bytes + waiting.bytes > limits.entry_bytes_max {
                break;
            }
            count += 1;
            bytes += waiting.bytes;
        }
        let encoded = &self.encoded[self.gone..self.gone + bytes];
        let entry = || codec::join_commands(count, encoded, more);
        (count > 0).then(|| Next { entry: entry(), bytes, count })
    }

    /// Raft has taken an entry.
    pub fn proposed(&mut self, next: &Next) {
        self.waiting.drain(..next.count);
        self.gone += next.bytes;
        if self.waiting.is_empty() {
            self.encoded.clear();
            self.encoded.shrink_to(KEPT_BYTES);
            self.gone = 0;
        } else if self.gone > self.encoded.len() / 2 {
            self.encoded.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// Drops the commands that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&Waiting) -> bool) {
        if self.waiting.iter().all(&mut keep) {
            return;
        }
        let (mut kept, mut from) = (Vec::with_capacity(self.encoded.len()), self.gone);
        let encoded = &self.encoded;
        self.waiting.retain(|waiting| {
            let bytes = &encoded[from..from + waiting.bytes];
            from += waiting.bytes;
            let keep = keep(waiting);
            if keep {
                kept.extend_from_slice(bytes);
            }
            keep
        });
        (self.encoded, self.gone) = (kept, 0);
    }

    fn note(&mut self, command: &Command, before: usize) {
        let is_of_lessor = matches!(command.op, Op::LeaseRevoke { .. } | Op::LeaseCheckpoint(_));
        let bytes = self.encoded.len() - before;
        self.waiting.push_back(Waiting { id: command.id, is_of_lessor, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::LeaseId;
    use crate::request::{Identity, Put};

    fn put(sequence: u64, value_bytes: usize) -> Command {
        let put = Put {
            key: "k".into(),
            value: vec![0; value_bytes].into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        };
        let id = RequestId { sequence, ..RequestId::default() };
        Command { id, identity: Identity::default(), op: Op::Put(put) }
    }

    fn take(queue: &mut Queue, limits: &Limits) -> Vec<Command> {
        let next = queue.next(None, limits).expect("something waits");
        queue.proposed(&next);
        codec::decode_entry(&next.entry).expect("just encoded")
    }

    #[test]
    fn an_entry_keeps_both_bounds_and_a_large_command_goes_alone() {
        let limits = Limits { entry_bytes_max: 1000, entry_commands_max: 3, ..Limits::default() };
        let mut queue = Queue::default();
        let commands: Vec<_> =
            (1..).zip([10, 10, 10, 10, 5000, 600, 600]).map(|(n, len)| put(n, len)).collect();
        commands.iter().for_each(|command| queue.push(command));
        let (mut counts, mut taken) = (Vec::new(), Vec::new());
        while !queue.is_empty() {
            let entry = take(&mut queue, &limits);
            counts.push(entry.len());
            taken.extend(entry);
        }
        assert_eq!(counts, [3, 1, 1, 1, 1]);
        assert_eq!(taken, commands);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_was_not_proposed_stays_and_comes_first_again() {
        let limits = Limits { entry_commands_max: 1, ..Limits::default() };
        let mut queue = Queue::default();
        queue.push(&put(1, 1));
        queue.push(&put(2, 2));
        let before = queue.bytes();
        let first = queue.next(None, &limits).expect("two wait").entry;
        assert_eq!(queue.bytes(), before);
        assert_eq!(codec::decode_entry(&first), Ok(take(&mut queue, &limits)));
        assert_eq!(take(&mut queue, &limits), [put(2, 2)]);
    }

    #[test]
    fn what_is_refused_or_dropped_leaves_the_others_as_they_were() {
        let room = codec::encoded_len(&put(1, 9)) * 3;
        let limits = Limits { request_bytes_max: 100, queued_bytes_max: room, ..Limits::default() };
        let mut queue = Queue::default();
        for sequence in 1..=3 {
            assert_eq!(queue.admit(&put(sequence, 9), &limits), Ok(()));
        }
        assert_eq!(queue.admit(&put(4, 9), &limits), Err(Rejection::TooManyRequests));
        assert_eq!(queue.admit(&put(5, 20_000), &limits), Err(Rejection::RequestTooLarge));
        let own = Limits { entry_commands_max: 1, ..limits };
        assert_eq!(take(&mut queue, &own), [put(1, 9)]);
        queue.retain(|waiting| waiting.id.sequence != 2);
        assert_eq!(queue.bytes(), room / 3);
        queue.push(&put(6, 1));
        assert_eq!(take(&mut queue, &Limits::default()), [put(3, 9), put(6, 1)]);
    }
}
