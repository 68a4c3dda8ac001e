//! Which index has which term, as runs: a log changes its term rarely.
//!
//! Starts at a *base*: the last place before the first entry that is known. Leaves out the entries.
//!
//! Laws:
//!  1. Runs are ascending in index; the first begins at the base.
//!  2. `last` is at or above the base.
//!
//! Worked example: base `10@2`, entries 11 and 12 of term 2 and 13 of term 5 are the runs
//! `10@2 13@5` with last 13.

use std::collections::VecDeque;

use holdfast_core::id::{Index, Position, Term};

/// The terms of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    runs: VecDeque<Position>,
    last: Index,
}

impl Terms {
    /// An empty log behind `base`.
    pub fn new(base: Position) -> Terms {
        Terms { runs: [base].into(), last: base.index }
    }

    /// The lowest place whose term is known.
    pub fn base(&self) -> Position {
        self.runs[0]
    }

    /// The last place.
    pub fn last(&self) -> Position {
        let run = self.runs.back().expect("law 1: there is the base");
        Position { term: run.term, index: self.last }
    }

    /// The term at `index`, if it is known.
    pub fn at(&self, index: Index) -> Option<Term> {
        let above = self.runs.partition_point(|run| run.index <= index);
        let known = above > 0 && index <= self.last;
        known.then(|| self.runs[above - 1].term)
    }

    /// Forgets everything from `first` on; a `first` at or below the base moves the base down.
    pub fn truncate(&mut self, first: Index, prev_term: Term) {
        while self.runs.back().is_some_and(|run| run.index >= first) {
            self.runs.pop_back();
        }
        let before = Index(first.0 - 1);
        if self.runs.is_empty() {
            self.runs.push_back(Position { term: prev_term, index: before });
        }
        self.last = before;
    }

    /// Adds the entry that follows the last.
    pub fn push(&mut self, at: Position) {
        if self.last().term != at.term {
            self.runs.push_back(at);
        }
        self.last = at.index;
    }

    /// Adds entries up to `last` whose terms are these runs; what the log has already stays.
    pub fn extend(&mut self, runs: &[Position], last: Index) {
        for run in runs.iter().filter(|run| run.index > self.last) {
            if self.last().term != run.term {
                self.runs.push_back(*run);
            }
        }
        self.last = self.last.max(last);
    }

    /// Moves the base up to `upto`, or as far as there are entries.
    pub fn forget(&mut self, upto: Index) {
        let upto = upto.min(self.last);
        let Some(term) = self.at(upto) else { return };
        while self.runs.front().is_some_and(|run| run.index <= upto) {
            self.runs.pop_front();
        }
        self.runs.push_front(Position { term, index: upto });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_shrink_and_forget() {
        let mut terms = Terms::new(Position::new(10, 2));
        for (index, term) in [(11, 2), (12, 2), (13, 5), (14, 6)] {
            terms.push(Position::new(index, term));
        }
        let seen: Vec<_> = (9..=15).map(|index| terms.at(Index(index)).map(|t| t.0)).collect();
        assert_eq!(seen, [None, Some(2), Some(2), Some(2), Some(5), Some(6), None]);
        terms.truncate(Index(14), Term(5));
        assert_eq!(terms.last(), Position::new(13, 5));
        terms.forget(Index(12));
        assert_eq!((terms.base(), terms.at(Index(11))), (Position::new(12, 2), None));
        terms.truncate(Index(9), Term(1));
        assert_eq!((terms.base(), terms.last()), (Position::new(8, 1), Position::new(8, 1)));
    }
}
