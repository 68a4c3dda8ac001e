//! The null server's answers, made once.

use super::super::Config;
use super::super::frame::{self, Call};
use super::super::pb;
use super::super::requests::PAGE;
use super::super::values::{Pattern, name_key};

/// Where the revision stands in a message, and the bytes it always takes.
const REVISION: std::ops::Range<usize> = frame::PREFIX + 3..frame::PREFIX + 8;

/// Answers with their gRPC prefix and a header whose revision is written anew each time.
pub(super) struct Canned {
    revision: u64,
    plain: Vec<u8>,
    pair: Vec<u8>,
    page: Vec<u8>,
    count: Vec<u8>,
    succeeded: Vec<u8>,
    lease: Vec<u8>,
    created: Vec<u8>,
    event: Vec<u8>,
}

impl Canned {
    pub fn new(config: &Config) -> Canned {
        let pattern = Pattern::new(config.val_size.max(config.val_max));
        let mut key = Vec::new();
        name_key(&mut key, config, 0);
        let size = (config.val_size + config.val_max.max(config.val_size)) / 2;
        let pair = |out: &mut Vec<u8>| {
            pb::put_bytes(out, 1, &key);
            pb::put_number(out, 3, 1);
            pattern.put(out, (5, size), 7, 0);
        };
        let pairs = |out: &mut Vec<u8>, count: u64| {
            (0..count).for_each(|_| pb::put_message(out, 2, pair));
        };
        Canned {
            revision: 1,
            plain: message(|_| {}),
            pair: message(|out| pairs(out, config.span)),
            page: message(|out| pairs(out, PAGE)),
            count: message(|out| pb::put_number(out, 4, config.span)),
            // A transaction succeeds; a deletion deletes one key.
            succeeded: message(|out| pb::put_number(out, 2, 1)),
            lease: message(|out| {
                pb::put_number(out, 2, 1);
                pb::put_number(out, 3, config.ttl);
            }),
            created: message(|out| pb::put_number(out, 3, 1)),
            event: message(|out| {
                pb::put_message(out, 11, |out| pb::put_message(out, 2, pair));
            }),
        }
    }

    /// The answer to a message, and whether it makes a change.
    pub fn answer(&mut self, call: Call, request: &[u8]) -> (&[u8], bool) {
        let changes = matches!(call, Call::Put | Call::Txn | Call::DeleteRange);
        self.revision += u64::from(changes);
        let answer = match call {
            Call::Range => match pb::fields(request).map(|(field, _)| field).max() {
                Some(9) => &mut self.count,
                Some(8) => &mut self.plain,
                Some(3) => &mut self.page,
                _ => &mut self.pair,
            },
            Call::Txn | Call::DeleteRange => &mut self.succeeded,
            Call::LeaseGrant | Call::LeaseKeepAlive => &mut self.lease,
            Call::Watch => &mut self.created,
            _ => &mut self.plain,
        };
        stamp(answer, self.revision);
        (answer, changes)
    }

    pub fn event(&self) -> &[u8] {
        &self.event
    }
}

/// A gRPC message: a header with a revision, then what `fill` writes.
fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_grpc(&mut out, |out| {
        out.extend_from_slice(&[1 << 3 | 2, 6, 3 << 3]);
        out.extend_from_slice(&[0; 5]);
        fill(out);
    });
    stamp(&mut out, 1);
    out
}

/// Writes the revision as a varint of all its five bytes, so that nothing else moves.
fn stamp(message: &mut [u8], revision: u64) {
    for (nth, byte) in message[REVISION].iter_mut().enumerate() {
        let more = if nth < REVISION.len() - 1 { 128 } else { 0 };
        *byte = (revision >> (7 * nth)) as u8 & 127 | more;
    }
}
