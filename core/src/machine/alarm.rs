//! Active alarms, as the cluster agreed on them.
//!
//! ```text
//! Table::Alarms  member id (8 bytes big-endian) kind (1 byte)  → 01 if the member raised it itself,
//!                                                                else nothing
//! ```
//!
//! Leaves out when alarms are raised and cleared (`node/space.rs`), and what they forbid
//! ([`crate::alarm`]).
//!
//! Worked example: the row `00×7 01 01 → 01` says that member n1 has found itself out of space.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::alarm::{AlarmOp, Raised};
use crate::id::MemberId;
use crate::machine::draft::Draft;
use crate::response::{Alarm, AlarmKind, Body};
use crate::store::{Table, View};

/// All of them, by member and kind.
pub fn alarms(view: &dyn View) -> Vec<Alarm> {
    rows(view).into_iter().map(|(alarm, _)| alarm).collect()
}

/// All of them, and whether the member concerned raised it itself.
pub(crate) fn rows(view: &dyn View) -> Vec<(Alarm, bool)> {
    let mut found = Vec::new();
    view.table_scan(Table::Alarms, b"", &mut |key, value| {
        found.extend(alarm_of(key).map(|alarm| (alarm, !value.is_empty())));
        ControlFlow::Continue(())
    });
    found
}

/// Which kinds are among `alarms`.
pub(super) fn raised(alarms: &[(Alarm, bool)]) -> Raised {
    let has = |kind| alarms.iter().any(|(alarm, _)| alarm.kind == kind);
    Raised { no_space: has(AlarmKind::NoSpace), corrupt: has(AlarmKind::Corrupt) }
}

/// Does what is asked; answers the alarms concerned.
pub(super) fn perform(draft: &mut Draft<'_>, op: AlarmOp) -> Body {
    let all = alarms(draft.view());
    Body::Alarms(match op {
        AlarmOp::Nothing => Vec::new(),
        AlarmOp::List(kind) => all.into_iter().filter(|alarm| alarm.kind == kind).collect(),
        AlarmOp::Raise { member, kind, automatic } => {
            let alarm = Alarm { member, kind };
            if !all.contains(&alarm) {
                let by = if automatic { Bytes::from_static(&[1]) } else { Bytes::new() };
                draft.set(Table::Alarms, key_of(alarm), by);
            }
            vec![alarm]
        }
        AlarmOp::Clear { member, kind } => {
            let alarm = Alarm { member, kind };
            if !all.contains(&alarm) {
                return Body::Alarms(Vec::new());
            }
            draft.clear(Table::Alarms, key_of(alarm));
            vec![alarm]
        }
    })
}

fn key_of(alarm: Alarm) -> Bytes {
    let mut key = BytesMut::with_capacity(9);
    key.put_u64(alarm.member.0);
    key.put_u8(alarm.kind as u8);
    key.freeze()
}

fn alarm_of(key: &[u8]) -> Option<Alarm> {
    let (member, kind) = key.split_first_chunk()?;
    let kind = match kind {
        [1] => AlarmKind::NoSpace,
        [2] => AlarmKind::Corrupt,
        _ => return None,
    };
    Some(Alarm { member: MemberId(u64::from_be_bytes(*member)), kind })
}
