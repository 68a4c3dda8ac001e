//! The lessor against a dumb twin: a list of leases in which everything is found by looking at all.

use std::time::Duration;

use holdfast_core::id::{Index, LeaseId};
use holdfast_core::lessor::{Lessor, Renewal};
use holdfast_core::machine::LeaseRow;
use holdfast_core::time::Instant;
use proptest::prelude::*;

const EXTEND_MS: u64 = 1000;

/// One lease of the twin: id, granted seconds, deadline in ms, and whether it was reported expired.
#[derive(Clone, Copy)]
struct Simple {
    id: i64,
    ttl: i64,
    deadline: u64,
    reported: bool,
}

#[derive(Default)]
struct Twin {
    primary: bool,
    leases: Vec<Simple>,
}

impl Twin {
    fn add(&mut self, id: i64, ttl: i64, deadline: u64) {
        self.leases.retain(|lease| lease.id != id);
        self.leases.push(Simple { id, ttl, deadline, reported: false });
    }

    fn renew(&mut self, now: u64, id: i64) -> Renewal {
        match self.leases.iter_mut().find(|lease| lease.id == id) {
            None => Renewal::Missing,
            Some(lease) if lease.deadline <= now => Renewal::Expiring,
            Some(lease) => {
                lease.deadline = lease.deadline.max(now + lease.ttl as u64 * 1000);
                Renewal::Renewed { ttl: lease.ttl }
            }
        }
    }

    fn expired(&mut self, now: u64, max: usize) -> Vec<LeaseId> {
        let open = |lease: &&mut Simple| !lease.reported && lease.deadline <= now;
        let mut due: Vec<&mut Simple> = self.leases.iter_mut().filter(open).collect();
        due.sort_by_key(|lease| (lease.deadline, lease.id));
        due.truncate(max);
        due.iter_mut().for_each(|lease| lease.reported = true);
        due.iter().map(|lease| LeaseId(lease.id)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Promote(Vec<(i64, i64)>),
    Demote,
    Grant(i64, i64),
    Revoke(i64),
    Renew(i64),
    Remaining(i64),
    Expired(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..8i64;
    let ttl = 1..12i64;
    prop_oneof![
        4 => (0..4000u64).prop_map(Step::Wait),
        1 => prop::collection::btree_map(id.clone(), ttl.clone(), 0..6)
            .prop_map(|leases| Step::Promote(leases.into_iter().collect())),
        1 => Just(Step::Demote),
        3 => (id.clone(), ttl).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        1 => id.clone().prop_map(Step::Revoke),
        3 => id.clone().prop_map(Step::Renew),
        2 => id.prop_map(Step::Remaining),
        4 => (0..4usize).prop_map(Step::Expired),
    ]
}

/// Does one step on both and compares every answer.
fn both(
    lessor: &mut Lessor,
    twin: &mut Twin,
    ms: &mut u64,
    step: Step,
) -> Result<(), TestCaseError> {
    let now = Instant(*ms * 1_000_000);
    match step {
        Step::Wait(more) => *ms += more,
        Step::Promote(leases) => {
            let given = leases.iter().map(|&(id, ttl)| LeaseRow {
                id: LeaseId(id),
                ttl,
                granted: Index(1),
                left: None,
            });
            lessor.promote(now, Duration::from_millis(EXTEND_MS), given);
            *twin = Twin { primary: true, leases: Vec::new() };
            for (id, ttl) in leases {
                twin.add(id, ttl, *ms + ttl as u64 * 1000 + EXTEND_MS);
            }
        }
        Step::Demote => {
            lessor.demote();
            *twin = Twin::default();
        }
        Step::Grant(id, ttl) => {
            lessor.granted(now, LeaseId(id), (ttl, Index(1)));
            if twin.primary {
                twin.add(id, ttl, *ms + ttl as u64 * 1000);
            }
        }
        Step::Revoke(id) => {
            lessor.revoked(LeaseId(id));
            twin.leases.retain(|lease| lease.id != id);
        }
        Step::Renew(id) => prop_assert_eq!(lessor.renew(now, LeaseId(id)), twin.renew(*ms, id)),
        Step::Remaining(id) => {
            let lease = twin.leases.iter().find(|lease| lease.id == id);
            let left = lease.map(|l| ((l.deadline.saturating_sub(*ms) / 1000) as i64, l.ttl));
            prop_assert_eq!(lessor.remaining(now, LeaseId(id)), left);
        }
        Step::Expired(max) => prop_assert_eq!(lessor.expired(now, max), twin.expired(*ms, max)),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_lessor_answers_as_its_twin(steps in prop::collection::vec(step(), 1..120)) {
        live(steps)?;
    }
}

fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut lessor = Lessor::new();
    let (mut twin, mut ms) = (Twin::default(), 1000);
    for step in steps {
        both(&mut lessor, &mut twin, &mut ms, step)?;
        prop_assert_eq!(lessor.is_primary(), twin.primary);
        let open = twin.leases.iter().filter(|lease| !lease.reported);
        let reported = twin.leases.iter().filter(|lease| lease.reported).count();
        prop_assert_eq!(lessor.reported(), reported);
        let next = open.map(|lease| lease.deadline).min();
        let next = next.map_or(Instant::NEVER, |ms| Instant(ms * 1_000_000));
        prop_assert_eq!(lessor.deadline(), next);
    }
    Ok(())
}

#[cfg(feature = "mutants")]
#[test]
fn the_twin_notices_every_lessor_mutant() {
    use holdfast_core::mutant;
    use proptest::test_runner::TestRunner;

    for number in [57, 58] {
        let config =
            ProptestConfig { max_shrink_iters: 0, failure_persistence: None, ..<_>::default() };
        let strategy = prop::collection::vec(step(), 1..120);
        let outcome = TestRunner::new(config).run(&strategy, |steps| {
            mutant::activate(number);
            live(steps)
        });
        mutant::activate(0);
        assert!(outcome.is_err(), "mutant {number} went unnoticed");
    }
}
