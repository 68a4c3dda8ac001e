//! Observe: the present leader's value, then every change of it, then the next leader's, without end.
//!
//! Law: values may be left out where the leadership changes, never the newest. Without a leader it
//! waits, in silence.

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::kv::KeyValue;
use holdfast_core::query::{Answer, Header};
use holdfast_core::request::KeyRange;
use holdfast_core::watch::WatchResponse;
use holdfast_net::call::GrpcStatus;
use holdfast_net::proto::v3electionpb as pb;
use holdfast_net::wire::Origin;

use super::{Step, encoded, fail, oldest, pair, prefixed, ranged, read, under};

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
            return fail("election: observe closed early");
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
