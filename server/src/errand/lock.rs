//! Lock: the own key is `<name>/<lease in hexadecimal>`, and whoever's is the oldest holds the lock.
//!
//! Law: a wait that fails, or that nobody waits for any more, removes the own key; a lock that is held
//! is left to its lease and to Unlock.

use bytes::Bytes;
use holdfast_core::query::{Answer, AnswerBody, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{KeyRange, Range, Txn, TxnOp};
use holdfast_core::watch::WatchResponse;
use holdfast_net::call::GrpcStatus;
use holdfast_net::proto::v3lockpb as pb;
use holdfast_net::wire::Origin;

use super::turn::{Seen, Turn};
use super::{
    Step, created_at, delete, done, fail, first_created, first_pair, grant, key_of, put, ranged,
    read, under,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Lock {
    turn: Turn,
    key: Bytes,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Grant,
    Try,
    Look,
    Watch,
    Check,
    /// The own key is being removed; then the call ends with this text.
    Release(&'static str),
}

impl Lock {
    pub(super) fn begin(message: &Bytes) -> Result<(Lock, Step), GrpcStatus> {
        let request: pb::LockRequest = read(message)?;
        let turn = Turn { prefix: under(&request.name), revision: 0 };
        let mut lock = Lock { turn, key: Bytes::new(), stage: Stage::Grant };
        let step = if request.lease == 0 { grant() } else { lock.acquire(request.lease) };
        Ok((lock, step))
    }

    fn acquire(&mut self, lease: i64) -> Step {
        self.stage = Stage::Try;
        self.key = key_of(&self.turn.prefix, lease);
        let own = TxnOp::Range(Range::of(KeyRange::single(self.key.clone())));
        let owner = TxnOp::Range(first_created(&self.turn.prefix));
        Step::Ask(Query::Txn(Txn {
            compares: vec![created_at(&self.key, 0)],
            success: vec![TxnOp::Put(put(self.key.clone(), Bytes::new(), lease)), owner.clone()],
            failure: vec![own, owner],
        }))
    }

    pub(super) fn answered(&mut self, origin: Origin, answer: &Answer) -> Step {
        match (&self.stage, &answer.body) {
            (Stage::Grant, AnswerBody::LeaseGrant { id, .. }) => self.acquire(id.0),
            (Stage::Try, AnswerBody::Txn(txn)) => {
                let own = first_pair(ranged(answer, 0)).filter(|_| !txn.succeeded);
                self.turn.revision =
                    own.map_or(answer.header.revision, |own| own.create_revision).0;
                let owner = first_pair(ranged(answer, 1));
                if owner.is_none_or(|owner| owner.create_revision.0 == self.turn.revision) {
                    return self.held(origin, answer);
                }
                self.stage = Stage::Look;
                self.turn.look()
            }
            (Stage::Look, _) => match Turn::found(answer) {
                Some(watch) => {
                    self.stage = Stage::Watch;
                    watch
                }
                None => {
                    self.stage = Stage::Check;
                    Step::Ask(Query::Range(Range::of(KeyRange::single(self.key.clone()))))
                }
            },
            (Stage::Check, _) if first_pair(ranged(answer, 0)).is_none() => {
                fail("mutex: session is expired")
            }
            (Stage::Check, _) => self.held(origin, answer),
            (Stage::Release(text), _) => fail(text),
            (Stage::Grant | Stage::Try | Stage::Watch, _) => fail(Rejection::Corrupt.text()),
        }
    }

    pub(super) fn refused(&mut self, rejection: Rejection) -> Step {
        match self.stage {
            Stage::Grant | Stage::Try => fail(rejection.text()),
            Stage::Look | Stage::Watch | Stage::Check => self.release(rejection.text()),
            Stage::Release(text) => fail(text),
        }
    }

    pub(super) fn watched(&mut self, response: &WatchResponse) -> Step {
        match Turn::seen(response) {
            Seen::Nothing => Step::Wait,
            Seen::Deleted => {
                self.stage = Stage::Look;
                self.turn.look()
            }
            Seen::Lost(text) => self.release(text),
        }
    }

    pub(super) fn abandoned(&self) -> Option<Query> {
        let waits = matches!(self.stage, Stage::Look | Stage::Watch | Stage::Check);
        waits.then(|| delete(self.key.clone()))
    }

    fn release(&mut self, text: &'static str) -> Step {
        self.stage = Stage::Release(text);
        Step::Ask(delete(self.key.clone()))
    }

    fn held(&self, origin: Origin, answer: &Answer) -> Step {
        let header = Some(origin.header(answer.header));
        done(&pb::LockResponse { header, key: self.key.clone() })
    }
}
