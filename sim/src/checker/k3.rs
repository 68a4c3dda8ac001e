//! K3: every option of a range means what etcd says: limit and more, count, order and target with ties in
//! key order, filters, keys alone, the end of one zero byte. For reads of their own, serializable ones,
//! and those inside transactions, at the newest revision that their answer names.

use holdfast_core::query::RangeAnswer;
use holdfast_core::request::Range;

use super::ranges::{Told, told};
use super::{Checker, Scene, Seen};

/// Needs to remember nothing.
pub(super) struct RangesMeanWhatTheySay;

impl Checker for RangesMeanWhatTheySay {
    fn id(&self) -> &'static str {
        "K3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Returned { op } = seen else { return Ok(()) };
        for Told { range, answer, expected } in told(scene, *op) {
            if range.revision <= 0 {
                scene.compared();
                check(&range, &answer, &expected).map_err(|what| format!("{range:?}: {what}"))?;
            }
        }
        Ok(())
    }
}

/// What differs, the cheapest to understand first.
pub(super) fn check(
    range: &Range,
    answer: &RangeAnswer,
    expected: &RangeAnswer,
) -> Result<(), String> {
    let (found, wanted) = (answer.kvs.len(), expected.kvs.len());
    if answer.count != expected.count {
        return Err(format!("counts {}, the oracle {}", answer.count, expected.count));
    }
    if range.limit > 0 && found as i64 > range.limit {
        return Err(format!("holds {found} pairs, the limit is {}", range.limit));
    }
    if found != wanted {
        return Err(format!("holds {found} pairs, the oracle {wanted}"));
    }
    if answer.more != expected.more {
        return Err(format!("says more {}, the oracle {}", answer.more, expected.more));
    }
    match answer == expected {
        true => Ok(()),
        false => Err(format!("holds {:?}, the oracle {:?}", answer.kvs, expected.kvs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::trial::{Trial, answered, key, put};
    use holdfast_core::query::{AnswerBody, Query};
    use holdfast_core::request::{KeyRange, RangeEnd, SortOrder, SortTarget};

    fn all() -> Range {
        Range::of(KeyRange { start: key("a"), end: RangeEnd::Open })
    }

    /// `a`, `b` and `c`, of versions 2, 1 and 1.
    fn trial() -> Trial {
        let mut trial = Trial::default();
        for name in ["a", "b", "c", "a"] {
            trial.commit(put(name, "x"));
        }
        trial
    }

    /// What the checker says when `range` is answered as the oracle answers `instead`.
    fn verdict(range: Range, instead: &Range) -> Result<(), String> {
        let mut trial = trial();
        let (revision, answer) =
            (trial.model.revision(), trial.model.range(trial.model.revision(), instead));
        let op = trial.ask(Query::Range(range));
        trial.answer(op, answered(revision, AnswerBody::Range(answer)));
        trial.see(&mut RangesMeanWhatTheySay, &Seen::Returned { op })
    }

    #[test]
    fn right_answers_pass() {
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        for (limit, order) in (0..5).flat_map(|n| orders.map(|order| (n, order))) {
            let range = Range { limit, order, target: SortTarget::Version, ..all() };
            verdict(range.clone(), &range).expect("it is what the oracle says");
        }
    }

    #[test]
    fn each_kind_of_wrong_answer_is_noticed() {
        let limited = Range { limit: 2, ..all() };
        let by_version = Range { order: SortOrder::Ascend, target: SortTarget::Version, ..all() };
        let keys_only = Range { keys_only: true, ..all() };
        let narrow = Range::of(KeyRange { start: key("a"), end: RangeEnd::Before(key("c")) });
        let wrong = [
            (limited.clone(), all()),
            (limited, Range { limit: 1, ..all() }),
            (by_version, all()),
            (keys_only, all()),
            (all(), narrow),
            (Range { mod_min: 5, ..all() }, all()),
            (Range { count_only: true, ..all() }, all()),
        ];
        for (range, instead) in wrong {
            let verdict = verdict(range.clone(), &instead);
            assert!(verdict.is_err(), "{range:?} answered as {instead:?} is let through");
        }
    }

    #[test]
    fn more_must_be_said() {
        let (range, mut answer) = (Range { limit: 2, ..all() }, RangeAnswer::default());
        let mut trial = trial();
        answer.clone_from(&trial.model.range(trial.model.revision(), &range));
        answer.more = false;
        let op = trial.ask(Query::Range(range));
        let revision = trial.model.revision();
        trial.answer(op, answered(revision, AnswerBody::Range(answer)));
        let verdict = trial.see(&mut RangesMeanWhatTheySay, &Seen::Returned { op });
        assert!(verdict.is_err_and(|what| what.contains("more")));
    }
}
