//! What clients do about space: without any they compact or delete; now and then one raises an alarm, as
//! an operator can, and clears it again.

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::MemberId;
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{DeleteRange, KeyRange, RangeEnd};
use holdfast_core::response::AlarmKind;
use holdfast_core::rng::Rng;

use super::{Client, Told, kv};
use crate::swarm::{Stream, Swarm};

/// What a client has on its mind.
#[derive(Debug)]
pub(super) struct Worries {
    rng: Rng,
    members: u64,
    no_space: bool,
    /// The alarm that it has raised and not cleared.
    raised: Option<MemberId>,
}

impl Worries {
    pub(super) fn new(swarm: &Swarm, number: usize) -> Worries {
        let rng = Stream::Space.rng(swarm.seed).fork(100 + number as u64);
        Worries { rng, members: swarm.members as u64, no_space: false, raised: None }
    }

    pub(super) fn refused(&mut self, rejection: Rejection) {
        self.no_space |= rejection == Rejection::NoSpace;
    }
}

/// What is asked because of that, if anything.
pub(super) fn draw(client: &mut Client, told: Told) -> Option<Query> {
    let worries = &mut client.space;
    let kind = AlarmKind::NoSpace;
    if let Some(member) = worries.raised
        && worries.rng.chance(25)
    {
        worries.raised = None;
        return Some(Query::Alarm(AlarmOp::Clear { member, kind }));
    }
    if worries.no_space {
        worries.no_space = false;
        return match worries.rng.below(4) {
            0 => {
                let keys = KeyRange {
                    start: kv::PREFIX.into(),
                    end: RangeEnd::Before(Bytes::from_static(b"k0")),
                };
                Some(Query::DeleteRange(DeleteRange { keys, prev_kv: false }))
            }
            1 | 2 => {
                let revision = told.revision.max(told.compacted + 1).max(1);
                Some(Query::Compact { revision, physical: false })
            }
            _ => None,
        };
    }
    let at = worries.rng.below(100);
    let member = MemberId(0x10 + worries.rng.below(worries.members));
    match at {
        0 => {
            worries.raised = Some(member);
            Some(Query::Alarm(AlarmOp::Raise { member, kind, automatic: false }))
        }
        // Somebody else's, or one that a member has raised itself.
        1 => Some(Query::Alarm(AlarmOp::Clear { member, kind })),
        2 => Some(Query::Alarm(AlarmOp::List(kind))),
        _ => None,
    }
}
