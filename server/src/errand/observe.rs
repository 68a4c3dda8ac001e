//! Observe: the present leader's value, then every change of it, then the next leader's, without end.
//!
//! Law: values may be left out where the leadership changes, never the newest. Without a leader it
//! waits, in silence. A read that is refused, or a watch that is cancelled (a compaction has overtaken it), ends the
//! call without an error, as in etcd.

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::kv::KeyValue;
use holdfast_core::query::{Answer, Header};
use holdfast_core::request::KeyRange;
use holdfast_core::watch::WatchResponse;
use holdfast_net::call::GrpcStatus;
use holdfast_net::proto::v3electionpb as pb;
use holdfast_net::wire::Origin;

use super::{Step, encoded, oldest, over, pair, prefixed, ranged, read, under};

/// See the module.
#[derive(Debug)]
pub(super) struct Observe {
    prefix: Bytes,
    /// For the headers of what a watch tells.
    header: Header,
    /// The leader's key that is watched next, and from where.
    leader: Option<(Bytes, i64)>,
    /// A leader is known, and its key watched.
    follows: bool,
}

impl Observe {
    pub(super) fn begin(message: &Bytes) -> Result<(Observe, Step), GrpcStatus> {
        let request: pb::LeaderRequest = read(message)?;
        let prefix = under(&request.name);
        let step = Step::Ask(oldest(&prefix));
        Ok((Observe { prefix, header: Header::default(), leader: None, follows: false }, step))
    }

    pub(super) fn answered(&mut self, origin: Origin, answer: &Answer) -> Step {
        self.header = answer.header;
        let kv = ranged(answer, 0).and_then(|range| range.kvs.iter().next());
        match kv {
            Some(kv) => self.lead(origin, kv),
            None => {
                self.follows = false;
                Step::Watch(prefixed(&self.prefix), answer.header.revision.0)
            }
        }
    }

    pub(super) fn watched(&mut self, origin: Origin, response: &WatchResponse) -> Step {
        if response.canceled {
            return over();
        }
        if !self.follows {
            let Some(first) = response.events.iter().find(|event| !event.delete) else {
                return Step::Wait;
            };
            let revision = KeyValue::decode(&first.kv).map_or(Revision(0), |kv| kv.mod_revision);
            self.header.revision = revision;
            return self.lead(origin, &first.kv);
        }
        self.header.revision = response.revision;
        let mut told = Vec::new();
        for event in &response.events {
            if event.delete {
                self.follows = false;
                self.leader = None;
                return Step::Tell(told, Box::new(self.next()));
            }
            told.push(self.message(origin, &event.kv));
        }
        Step::Tell(told, Box::new(Step::Wait))
    }

    /// What follows a message that was sent.
    pub(super) fn next(&mut self) -> Step {
        match self.leader.take() {
            Some((key, from)) => {
                self.follows = true;
                Step::Watch(KeyRange::single(key), from)
            }
            None => Step::Ask(oldest(&self.prefix)),
        }
    }

    fn lead(&mut self, origin: Origin, kv: &[u8]) -> Step {
        let key = KeyValue::decode(kv).map(|kv| kv.key.to_vec()).unwrap_or_default();
        self.leader = Some((key.into(), self.header.revision.0 + 1));
        Step::Send(self.message(origin, kv).into())
    }

    fn message(&self, origin: Origin, kv: &[u8]) -> Bytes {
        let header = Some(origin.header(self.header));
        encoded(&pb::LeaderResponse { header, kv: pair(kv) })
    }
}

#[cfg(test)]
mod tests {
    use holdfast_core::query::{AnswerBody, RangeAnswer};
    use holdfast_core::rejection::Rejection;
    use holdfast_net::call::{Code, Method};
    use holdfast_net::wire::WireLimits;

    use super::*;
    use crate::errand::Errand;

    fn observed() -> Errand {
        let origin = Origin { cluster: Default::default(), member: Default::default() };
        let limits = WireLimits { txn_ops_max: 128, request_bytes_max: 1 << 20 };
        let request = pb::LeaderRequest { name: b"n"[..].into() };
        let (errand, step) = Errand::begin((Method::Observe, &encoded(&request)), origin, &limits)
            .expect("the request is good");
        assert!(matches!(step, Step::Ask(_)), "{step:?}");
        errand
    }

    fn ends_well(step: &Step) -> bool {
        matches!(step, Step::End(status) if status.code == Code::Ok && status.message.is_empty())
    }

    #[test]
    fn a_refused_read_ends_it_without_an_error() {
        let step = observed().answered(Err(Rejection::PermissionDenied));
        assert!(ends_well(&step), "{step:?}");
    }

    #[test]
    fn a_watch_that_a_compaction_has_overtaken_ends_it_without_an_error() {
        let mut errand = observed();
        let body = AnswerBody::Range(RangeAnswer::default());
        let step = errand.answered(Ok(Answer { header: Header::default(), body }));
        assert!(matches!(step, Step::Watch(..)), "nobody leads: {step:?}");
        let compacted = WatchResponse {
            canceled: true,
            compact_revision: Revision(7),
            ..WatchResponse::default()
        };
        let step = errand.watched(&compacted);
        assert!(ends_well(&step), "{step:?}");
    }
}
