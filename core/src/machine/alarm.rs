//! Active alarms, as the cluster agreed on them. Leaves out raising them.
//!
//! ```text
//! Table::Alarms  member id (8 bytes big-endian) kind (1 byte)  → nothing
//! ```
//!
//! Worked example: the row `00×7 01 01` says that member n1 is out of space.

use std::ops::ControlFlow;

use crate::id::MemberId;
use crate::response::{Alarm, AlarmKind};
use crate::store::{Table, View};

/// All of them, by member and kind.
pub fn alarms(view: &dyn View) -> Vec<Alarm> {
    let mut found = Vec::new();
    view.table_scan(Table::Alarms, b"", &mut |key, _| {
        found.extend(alarm_of(key));
        ControlFlow::Continue(())
    });
    found
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
