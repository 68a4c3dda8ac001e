//! Campaign: like a lock whose key has a value; whoever's key is the oldest leads.
//!
//! Laws: who campaigns again under the same lease keeps its place and proclaims the new value; a
//! candidacy that nobody waits for any more is withdrawn.

use bytes::Bytes;
use holdfast_core::query::{Answer, AnswerBody, Header, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{KeyRange, Range, Txn, TxnOp};
use holdfast_core::watch::WatchResponse;
use holdfast_net::call::GrpcStatus;
use holdfast_net::proto::v3electionpb as pb;
use holdfast_net::wire::Origin;

use super::turn::{Seen, Turn};
use super::{
    Step, created_at, done, fail, first_pair, grant, guarded, key_of, put, ranged, read, resign,
    under,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Campaign {
    name: Bytes,
    value: Bytes,
    lease: i64,
    turn: Turn,
    key: Bytes,
    header: Header,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Grant,
    Enter,
    Proclaim,
    Look,
    Watch,
    /// The candidacy is being withdrawn; then the call ends with this text.
    Withdraw(&'static str),
}

impl Campaign {
    pub(super) fn begin(message: &Bytes) -> Result<(Campaign, Step), GrpcStatus> {
        let pb::CampaignRequest { name, lease, value } = read(message)?;
        let turn = Turn { prefix: under(&name), revision: 0 };
        let (key, header, stage) = (Bytes::new(), Header::default(), Stage::Grant);
        let mut campaign = Campaign { name, value, lease, turn, key, header, stage };
        let step = if lease == 0 { grant() } else { campaign.enter(lease) };
        Ok((campaign, step))
    }

    fn enter(&mut self, lease: i64) -> Step {
        self.stage = Stage::Enter;
        self.lease = lease;
        self.key = key_of(&self.turn.prefix, lease);
        Step::Ask(Query::Txn(Txn {
            compares: vec![created_at(&self.key, 0)],
            success: vec![TxnOp::Put(put(self.key.clone(), self.value.clone(), lease))],
            failure: vec![TxnOp::Range(Range::of(KeyRange::single(self.key.clone())))],
        }))
    }

    pub(super) fn answered(&mut self, origin: Origin, answer: &Answer) -> Step {
        match (&self.stage, &answer.body) {
            (Stage::Grant, AnswerBody::LeaseGrant { id, .. }) => self.enter(id.0),
            (Stage::Enter, AnswerBody::Txn(txn)) => {
                self.header = answer.header;
                self.turn.revision = answer.header.revision.0;
                let Some(own) = first_pair(ranged(answer, 0)).filter(|_| !txn.succeeded) else {
                    return self.look();
                };
                self.turn.revision = own.create_revision.0;
                if own.value == self.value {
                    return self.look();
                }
                self.stage = Stage::Proclaim;
                let new = put(self.key.clone(), self.value.clone(), self.lease);
                Step::Ask(guarded((self.key.clone(), self.turn.revision), TxnOp::Put(new)))
            }
            (Stage::Proclaim, AnswerBody::Txn(txn)) if txn.succeeded => self.look(),
            (Stage::Proclaim, _) => self.withdraw("election: not leader"),
            (Stage::Look, _) => match Turn::found(answer) {
                Some(watch) => {
                    self.stage = Stage::Watch;
                    watch
                }
                None => self.elected(origin),
            },
            (Stage::Withdraw(text), _) => fail(text),
            (Stage::Grant | Stage::Enter | Stage::Watch, _) => fail(Rejection::Corrupt.text()),
        }
    }

    pub(super) fn refused(&mut self, rejection: Rejection) -> Step {
        match self.stage {
            Stage::Proclaim => self.withdraw(rejection.text()),
            Stage::Withdraw(text) => fail(text),
            // As in etcd the key stays where only the wait has failed.
            Stage::Grant | Stage::Enter | Stage::Look | Stage::Watch => fail(rejection.text()),
        }
    }

    pub(super) fn watched(&mut self, response: &WatchResponse) -> Step {
        match Turn::seen(response) {
            Seen::Nothing => Step::Wait,
            Seen::Deleted => self.look(),
            Seen::Lost(text) => fail(text),
        }
    }

    pub(super) fn abandoned(&self) -> Option<Query> {
        let waits = matches!(self.stage, Stage::Look | Stage::Watch);
        waits.then(|| resign(self.key.clone(), self.turn.revision))
    }

    fn look(&mut self) -> Step {
        self.stage = Stage::Look;
        self.turn.look()
    }

    fn withdraw(&mut self, text: &'static str) -> Step {
        self.stage = Stage::Withdraw(text);
        Step::Ask(resign(self.key.clone(), self.turn.revision))
    }

    /// The header is that of the request that made the candidacy.
    fn elected(&self, origin: Origin) -> Step {
        let leader = pb::LeaderKey {
            name: self.name.clone(),
            key: self.key.clone(),
            rev: self.turn.revision,
            lease: self.lease,
        };
        let header = Some(origin.header(self.header));
        done(&pb::CampaignResponse { header, leader: Some(leader) })
    }
}
