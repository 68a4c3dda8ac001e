//! What happened, in the scripts' words.

use holdfast_core::alarm::AlarmOp;
use holdfast_core::codec;
use holdfast_core::entry::{Entry, EntryKind};
use holdfast_core::fact::Fact;
use holdfast_core::id::MemberId;
use holdfast_core::message::{Message, RaftKind, RaftMessage};
use holdfast_core::output::Effect;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{LeaseNote, Op};
use holdfast_core::response::{Body, Member, Response};
use holdfast_core::status::Status;

/// Facts that scripts tell; the others are seen in `show`.
pub fn is_told(fact: &Fact) -> bool {
    match fact {
        Fact::BecameRole { .. }
        | Fact::LeaseExpired { .. }
        | Fact::CheckpointSaved { .. }
        | Fact::SnapshotInstalled { .. }
        | Fact::AlarmRaised { .. }
        | Fact::AlarmCleared { .. }
        | Fact::Parted { .. }
        | Fact::ProposalsFailed { .. }
        | Fact::LeadershipOffered { .. }
        | Fact::MembersChanged { .. }
        | Fact::ChangeRefused { .. }
        | Fact::MatchedLowered { .. } => true,
        Fact::LeaderChanged { .. }
        | Fact::Committed { .. }
        | Fact::Applied { .. }
        | Fact::LeaseRenewed { .. }
        | Fact::Removed
        | Fact::HashAsked { .. }
        | Fact::HashTold { .. }
        | Fact::Compacted { .. }
        | Fact::CompactionFinished { .. } => false,
    }
}

/// The line of an order, if it has one.
pub fn effect(id: MemberId, effect: &Effect, trace: bool) -> Option<String> {
    match effect {
        Effect::Purge { upto } => Some(format!("{id} purges up to {upto}")),
        Effect::Fetch { from, below, .. } => {
            Some(format!("{id} fetches {from} to {}", below.0 - 1))
        }
        Effect::Ship { to, meta, .. } => Some(format!("{id} ships {} to {to}", meta.at)),
        Effect::Install { meta, .. } => Some(format!("{id} installs {}", meta.at)),
        Effect::Discard { at } => Some(format!("{id} discards {at}")),
        Effect::Append(append) if trace => {
            Some(format!("{id} writes {} [{}]", append.seq, entries(&append.entries)))
        }
        Effect::Send { to, message } if trace => {
            message_words(message).map(|words| format!("{id} → {to} {words}"))
        }
        Effect::Append(_)
        | Effect::Send { .. }
        | Effect::Publish { .. }
        | Effect::Reply { .. }
        | Effect::Flush { .. }
        | Effect::Membership(_) => None,
        Effect::Halt(fault) => Some(format!("{id} halts: {}", fault.what)),
    }
}

pub fn answer(result: &Result<Response, Rejection>) -> String {
    match result {
        Err(rejection) => format!("error: {rejection}"),
        Ok(response) => match response.body {
            Body::LeaseKeepAlive { ttl } => format!("ok, {ttl}s again"),
            Body::LeaseTimeToLive { ttl, granted, applied } => {
                format!("ok, {ttl}s of {granted}s left when {applied} was applied")
            }
            Body::MemberAdd { ref members, .. } | Body::Members(ref members) => {
                format!("ok, {}", membership(members))
            }
            _ => format!("ok {} {}", response.revision, response.term),
        },
    }
}

/// `n1 n2 n4(learner)`
pub fn membership(members: &[Member]) -> String {
    let show = |member: &Member| match member.is_learner {
        true => format!("{}(learner)", member.id),
        false => member.id.to_string(),
    };
    members.iter().map(show).collect::<Vec<_>>().join(" ")
}

pub fn status(status: &Status) -> String {
    let Status { term, role, commit, last, applied, .. } = status;
    format!("{role:?} {term} log {last} commit {commit} applied {}", applied.index)
}

/// `3@2 put a=1, put b=2; 4@2 nothing`
pub fn entries(entries: &[Entry]) -> String {
    let show = |entry: &Entry| format!("{} {}", entry.at, commands(entry));
    entries.iter().map(show).collect::<Vec<_>>().join("; ")
}

fn commands(entry: &Entry) -> String {
    if entry.data.is_empty() {
        return "nothing".to_owned();
    }
    if entry.kind == EntryKind::ConfChange {
        let change = codec::decode_change(&entry.data).expect("a node proposes what it can read");
        return op(&change.op);
    }
    let commands = codec::decode_entry(&entry.data).expect("a node proposes what it can read");
    // Digests ride along with everything.
    let told = commands.iter().filter(|command| !matches!(command.op, Op::Audit(_)));
    told.map(|command| op(&command.op)).collect::<Vec<_>>().join(", ")
}

fn op(op: &Op) -> String {
    match op {
        Op::Put(put) => {
            let (key, value) =
                (String::from_utf8_lossy(&put.key), String::from_utf8_lossy(&put.value));
            format!("put {key}={value}")
        }
        Op::LeaseGrant { id, ttl } => format!("grant {id} {ttl}s"),
        Op::LeaseRevoke { id } => format!("revoke {id}"),
        Op::LeaseCheckpoint(notes) => {
            let note = |note: &LeaseNote| match note.left {
                0 => format!("{} has its time again", note.id),
                left => format!("{} has {left}s left", note.id),
            };
            notes.iter().map(note).collect::<Vec<_>>().join(", ")
        }
        Op::Alarm(AlarmOp::Raise { member, kind, .. }) => format!("raise {} {member}", kind.name()),
        Op::Alarm(AlarmOp::Clear { member, kind }) => format!("clear {} {member}", kind.name()),
        Op::DeleteRange(_)
        | Op::Txn(_)
        | Op::Alarm(_)
        | Op::Compact { .. }
        | Op::AlarmList
        | Op::Audit(_)
        | Op::Auth(_)
        | Op::Publish { .. } => "another command".to_owned(),
        Op::Member(change) => change.to_string(),
        Op::Started { member, .. } => format!("{member} has started"),
        Op::ClusterVersion(version) => format!("cluster version {version}"),
    }
}

fn message_words(message: &Message) -> Option<String> {
    match message {
        Message::Raft(message) => raft_words(message),
        Message::LeaseAsk(ask) => Some(format!("asks for lease {}", ask.id)),
        Message::LeaseAnswer(answer) => Some(format!("answers {:?}", answer.outcome)),
        Message::ChangeRefused(refused) => Some(format!("refuses: {}", refused.why)),
        Message::HashAsk(ask) => Some(format!("asks for the hash at {}", ask.revision)),
        Message::HashAnswer(answer) => Some(format!("tells its hash {:?}", answer.outcome)),
        Message::Transfer(_) => None,
    }
}

fn raft_words(message: &RaftMessage) -> Option<String> {
    let refusal = if message.reject { "refuses " } else { "" };
    Some(match message.kind {
        RaftKind::Heartbeat | RaftKind::HeartbeatResponse => return None,
        RaftKind::Propose => {
            let proposed: Vec<String> = message.entries.iter().map(commands).collect();
            format!("propose {}", proposed.join("; "))
        }
        RaftKind::Append => {
            let (after, commit) = (message.log, message.commit);
            format!("append after {after} [{}] commit {commit}", entries(&message.entries))
        }
        RaftKind::AppendResponse if message.reject => format!("has no {}", message.log.index),
        RaftKind::AppendResponse => format!("has {}", message.log.index),
        RaftKind::RequestVote => format!("request vote {} log {}", message.term, message.log),
        RaftKind::RequestPreVote => format!("would win {}? log {}", message.term, message.log),
        RaftKind::RequestVoteResponse => format!("{refusal}vote {}", message.term),
        RaftKind::RequestPreVoteResponse => format!("{refusal}pre-vote {}", message.term),
        RaftKind::ReadIndex => "read index?".to_owned(),
        RaftKind::ReadIndexResponse => format!("read index {}", message.log.index),
        RaftKind::TimeoutNow => "elect yourself".to_owned(),
        RaftKind::TransferLeader => "hand over".to_owned(),
        RaftKind::Snapshot => "snapshot".to_owned(),
    })
}
