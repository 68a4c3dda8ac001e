//! What an edge may read in one turn, and who gets how much of it.
//!
//! The edge shares the driver's thread, so all reading between two turns is bounded in sum. Half of it
//! is for reads when they come, a quarter for those under way, a quarter for watches; what one does not
//! use, the next one may. Leaves out what is read.
//!
//! Law: each of the three can read at least one key in every turn, so none starves the others.
//!
//! Worked example, 2048 keys: 300 point reads take 600 of their 1024; the reads under way may then take
//! 424 + 512, and watches whatever is left of that and 512 more.

use holdfast_core::mvcc::Budget;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    whole: Budget,
    /// For reads that come and, within [`Slice::go_on`], for those under way.
    reads: Budget,
    /// For watches, until the next turn.
    watches: Budget,
}

impl Slice {
    /// A turn's share.
    pub(super) fn new(whole: Budget) -> Slice {
        Slice { reads: whole.divided(2), watches: whole.divided(4), whole }
    }

    /// What reads may spend now.
    pub(super) fn reads(&mut self) -> &mut Budget {
        &mut self.reads
    }

    /// What watches may spend now.
    pub(super) fn watches(&mut self) -> &mut Budget {
        &mut self.watches
    }

    /// The most that one read may spend before others have their turn.
    pub(super) fn step(&self) -> Budget {
        self.whole.divided(8)
    }

    /// The reads under way have their turn.
    pub(super) fn go_on(&mut self) {
        self.reads = Slice::with_rest(self.reads, self.whole.divided(4));
    }

    /// The watches have theirs, and the next turn's reads may come.
    pub(super) fn end_reads(&mut self) {
        self.watches = Slice::with_rest(self.reads, self.whole.divided(4));
        self.reads = self.whole.divided(2);
    }

    /// A share and what another one has left. What another one has overspent, by its last value, is
    /// not made up for: the law comes first.
    fn with_rest(rest: Budget, share: Budget) -> Budget {
        if rest.is_spent() { share } else { share.plus(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_passed_on_and_nobody_is_left_without() {
        let mut slice = Slice::new(Budget::new(2048, 8192));
        slice.reads().spend(600, 0);
        slice.go_on();
        assert_eq!(slice.reads, Budget::new(424 + 512, 4096 + 2048));
        slice.reads().spend(400, 9000);
        slice.end_reads();
        assert_eq!(slice.watches, Budget::new(512, 2048), "the bytes were spent");
        assert_eq!(slice.reads, Budget::new(1024, 4096));
        let mut least = Slice::new(Budget::new(1, 1));
        assert!(!least.reads().is_spent() && !least.watches().is_spent());
        least.reads().spend(9, 9);
        least.go_on();
        assert!(!least.reads().is_spent());
    }
}
