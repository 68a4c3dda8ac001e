//! From events to responses: previous pairs, pieces of large responses.
//!
//! Laws:
//!  1. The previous pair is read when the response is made; once compaction has reached the event's
//!     revision it is left out without a word.
//!  2. Only a response of two events or more is split, only when the watcher agreed to it, and each
//!     piece but the last says that more follows.
//!
//! Worked example: three events of 900 KiB with a limit of 2 MiB leave as two pieces: two events
//! with `fragment`, then one without.

use std::iter::Peekable;

use bytes::Bytes;

use super::log::EventLog;
use super::watcher::Watcher;
use super::{WatchEvent, WatchResponse};
use crate::id::{RevSub, Revision};
use crate::kv::varint_len;
use crate::mutant;
use crate::mvcc::Budget;
use crate::response::Event;
use crate::store::{Fault, View};

/// A message without events, for a watcher or, with id -1, for the stream.
pub(super) fn control(revision: Revision, id: i64) -> WatchResponse {
    WatchResponse { revision, id, ..WatchResponse::default() }
}

/// The refusal of a creation.
pub(super) fn refusal(revision: Revision, reason: &str) -> WatchResponse {
    let mut response = control(revision, -1);
    (response.created, response.canceled) = (true, true);
    response.cancel_reason = reason.to_owned();
    response
}

/// What a watcher whose history is gone is told: header revision 0 and no reason, as in etcd.
pub(super) fn compacted(compacted: Revision, id: i64) -> WatchResponse {
    let mut response = control(Revision(0), id);
    (response.canceled, response.compact_revision) = (true, compacted);
    response
}

/// Makes of an event what a watcher gets, and spends what that takes to read. `logged` is where the log has
/// it, if it does.
pub(super) fn event(
    watcher: &Watcher,
    (event, logged): (&Event, Option<(&EventLog, u64)>),
    view: &dyn View,
    budget: &mut Budget,
) -> Result<WatchEvent, Fault> {
    let readable = watcher.prev_kv && event.at.main > view.mark().compacted;
    let prev_kv = match event.prev.filter(|_| readable) {
        Some(prev) => {
            let prev = older(prev, view)?;
            let read = || view.record(prev).map(|record| record.kv);
            let kv = match logged {
                Some((log, seq)) => log.previous(seq, read)?,
                None => read()?,
            };
            budget.spend(1, kv.len());
            Some(kv)
        }
        None => None,
    };
    Ok(WatchEvent { delete: event.delete, kv: event.kv.clone(), prev_kv })
}

/// The next events of a response that all together are smaller than `limit` bytes, at least one of them, and
/// their bytes.
pub(super) fn piece(
    events: &mut Peekable<impl Iterator<Item = WatchEvent>>,
    limit: usize,
) -> (Vec<WatchEvent>, usize) {
    let (mut piece, mut bytes) = (Vec::new(), HEADER_BYTES);
    let fits = |event: &WatchEvent, bytes: usize| bytes + event_len(event) < limit;
    while let Some(event) = events.next_if(|event| piece.is_empty() || fits(event, bytes)) {
        bytes += event_len(&event);
        piece.push(event);
    }
    (piece, bytes)
}

/// The change before `prev`, where there is one, for mutant M50 alone.
fn older(prev: RevSub, view: &dyn View) -> Result<RevSub, Fault> {
    if !mutant::on(50) {
        return Ok(prev);
    }
    let before = view.record(prev)?.prev;
    Ok(before.filter(|at| at.main > view.mark().compacted).unwrap_or(prev))
}

/// Appends a response to `out`, in pieces smaller than `limit` bytes as far as single events are.
pub(super) fn fragments(mut whole: WatchResponse, limit: usize, out: &mut Vec<WatchResponse>) {
    let size = |events: &[WatchEvent]| HEADER_BYTES + events.iter().map(event_len).sum::<usize>();
    if whole.events.len() < 2 || size(&whole.events) < limit {
        out.push(whole);
        return;
    }
    let mut rest = std::mem::take(&mut whole.events).into_iter().peekable();
    while rest.peek().is_some() {
        let (events, _) = piece(&mut rest, limit);
        let fragment = rest.peek().is_some() && !mutant::on(49);
        out.push(WatchResponse { events, fragment, ..control(whole.revision, whole.id) });
    }
}

/// A response's header, watch id and flags at most; encoding them exactly would need the wire's ids.
const HEADER_BYTES: usize = 64;

/// The encoded length of an event within a response.
fn event_len(event: &WatchEvent) -> usize {
    let field = |bytes: &Bytes| 1 + varint_len(bytes.len() as u64) + bytes.len();
    let kind = if event.delete { 2 } else { 0 };
    let inner = kind + field(&event.kv) + event.prev_kv.as_ref().map_or(0, field);
    1 + varint_len(inner as u64) + inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(sizes: &[usize]) -> WatchResponse {
        let events = sizes.iter().map(|&size| {
            let kv = Bytes::from(vec![0; size]);
            WatchEvent { delete: false, kv, prev_kv: None }
        });
        WatchResponse { events: events.collect(), ..control(Revision(9), 4) }
    }

    fn pieces(sizes: &[usize], limit: usize) -> Vec<(usize, bool)> {
        let mut out = Vec::new();
        fragments(whole(sizes), limit, &mut out);
        assert!(out.iter().all(|piece| piece.revision == Revision(9) && piece.id == 4));
        out.iter().map(|piece| (piece.events.len(), piece.fragment)).collect()
    }

    #[test]
    fn only_large_responses_of_several_events_are_split() {
        assert_eq!(pieces(&[900 << 10; 3], 2 << 20), [(2, true), (1, false)]);
        assert_eq!(pieces(&[100; 3], 2 << 20), [(3, false)]);
        assert_eq!(pieces(&[3 << 20], 2 << 20), [(1, false)]);
        assert_eq!(pieces(&[3 << 20, 1, 1, 3 << 20], 2 << 20), [(1, true), (2, true), (1, false)]);
    }
}
