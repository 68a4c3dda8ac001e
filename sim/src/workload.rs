//! What clients do: each sends one request after the other to a member of its choice, gives up after
//! a while, and then tries another member; some hold watch streams.
//!
//! Clients live outside of the cluster: their clock is the true one, and they know only what they
//! were told.
//!
//! Laws:
//!  1. What a client asks depends on its own generator and on what it was told, never on chance that
//!     it shares with others.
//!  2. Requests are such as `net/wire` would let through: no transaction writes a key twice.
//!
//! Worked example: client 2 puts `k/7` on member 0, hears nothing for its patience, notes the outcome
//! as unknown, and sends the same put to member 1.

use bytes::Bytes;
use holdfast_core::query::Query;
use holdfast_core::rejection::Rejection;
use holdfast_core::rng::Rng;

use crate::clock::Moment;
use crate::swarm::{Stream, Swarm, WorkMix};
use crate::world::member_id;

pub mod hostile;
pub mod kv;
pub mod lease;
pub mod register;
pub mod space;
pub mod users;
pub mod watch;

/// What everybody outside of the cluster may know when asking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// The newest revision that anybody was told of.
    pub revision: i64,
    /// The newest compaction that anybody was told of.
    pub compacted: i64,
}

/// One client.
pub struct Client {
    number: usize,
    rng: Rng,
    /// The member it speaks to.
    pub member: usize,
    /// The request it waits for an answer to.
    pub waits_for: Option<crate::history::OpId>,
    values: u64,
    /// A request whose outcome it does not know and which it will send again.
    again: Option<Query>,
    leases: Vec<i64>,
    grants: i64,
    /// For options of reads, and for what is asked rarely.
    extra: Rng,
    /// For what it does about alarms: a generator of its own, so that seeds without stay as they were.
    space: space::Worries,
    /// Who it is, in seeds with users.
    pub account: Option<users::Account>,
}

impl Client {
    /// A client with a generator of its own.
    pub fn new(swarm: &Swarm, number: usize) -> Client {
        let mut rng = Stream::Workload.rng(swarm.seed).fork(100 + number as u64);
        Client {
            member: rng.below(swarm.members as u64) as usize,
            number,
            rng,
            waits_for: None,
            values: 0,
            again: None,
            leases: Vec::new(),
            grants: 0,
            extra: Stream::Workload.rng(swarm.seed).fork(2_000 + number as u64),
            space: space::Worries::new(swarm, number),
            account: swarm.work.users.then(|| {
                let rng = Stream::Users.rng(swarm.seed).fork(100 + number as u64);
                users::Account::new(number, rng)
            }),
        }
    }

    /// What it asks next.
    pub fn next(&mut self, mix: &WorkMix, now: Moment, told: Told) -> Query {
        if let Some(query) = self.again.take() {
            return query;
        }
        if mix.alarms
            && let Some(query) = space::draw(self, told)
        {
            return query;
        }
        if let Some(query) = self.account.as_mut().and_then(users::Account::wish) {
            return query;
        }
        if self.extra.below(150) == 0 {
            let to = member_id(self.extra.below(mix.places as u64) as usize);
            return Query::MoveLeader { to };
        }
        if self.rng.chance(mix.registers) {
            return register::draw(self, now);
        }
        match self.rng.below(100) {
            0..=13 => lease::draw(self, mix),
            14..=15 if mix.compaction => kv::compact(self, told),
            _ => kv::draw(self, mix, told),
        }
    }

    /// It does not know what became of its request: another member may know better.
    pub fn gave_up(&mut self, members: usize, query: &Query) {
        self.member = self.rng.below(members as u64) as usize;
        if matches!(query, Query::Put(_) | Query::DeleteRange(_)) && self.rng.chance(40) {
            self.again = Some(query.clone());
        }
    }

    /// It was refused.
    pub fn refused(&mut self, rejection: Rejection) {
        self.space.refused(rejection);
    }

    /// Its member does not serve it: another may.
    pub fn move_on(&mut self, members: usize) {
        self.member = self.rng.below(members as u64) as usize;
    }

    /// Now and then it moves to another member for no reason.
    pub fn wander(&mut self, members: usize) {
        if self.rng.chance(5) {
            self.member = self.rng.below(members as u64) as usize;
        }
    }

    /// Its pause before the next request.
    pub fn think(&mut self, mix: &WorkMix) -> std::time::Duration {
        mix.think * self.rng.below(200) as u32 / 100
    }

    /// It was granted a lease.
    pub fn granted(&mut self, id: i64) {
        if !self.leases.contains(&id) {
            self.leases.push(id);
        }
    }

    /// It was told that a lease is gone.
    pub fn lease_gone(&mut self, id: i64) {
        self.leases.retain(|lease| *lease != id);
    }

    /// A value nobody else writes.
    fn value(&mut self, bytes_max: u64) -> Bytes {
        self.values += 1;
        let mut value = format!("c{}-{}", self.number, self.values).into_bytes();
        let len = self.rng.below(bytes_max + 1) as usize;
        while value.len() < len {
            value.extend_from_slice(&self.rng.next().to_le_bytes());
        }
        value.into()
    }
}
