//! How much reading may be done before somebody else has a turn.
//!
//! A budget is lent down a chain of readers; whoever reads spends. Leaves out what happens when it is
//! spent: every reader can stop then and go on later.
//!
//! Laws:
//!  1. A reader looks at its budget after a piece of work, not before, so that each call gets on.
//!  2. What goes over is counted too: a lender learns what was really spent.
//!
//! Worked example: of 10 keys and 1 KiB, 4 keys and 100 bytes are lent; a value of 900 bytes is read.
//! The borrower is at -800 bytes and stops; the lender has 9 keys and 124 bytes left.

/// Keys and bytes that may still be read. Each row looked at and each value read counts as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    keys: i64,
    bytes: i64,
}

impl Budget {
    /// More than anything takes.
    pub fn unbounded() -> Budget {
        Budget { keys: i64::MAX, bytes: i64::MAX }
    }

    /// So many keys and bytes.
    pub fn new(keys: usize, bytes: usize) -> Budget {
        let bounded = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Budget { keys: bounded(keys), bytes: bounded(bytes) }
    }

    /// Whether it is time to stop.
    pub fn is_spent(&self) -> bool {
        self.keys <= 0 || self.bytes <= 0
    }

    /// Notes that something was read.
    pub fn spend(&mut self, keys: usize, bytes: usize) {
        let spent = Budget::new(keys, bytes);
        self.keys = self.keys.saturating_sub(spent.keys);
        self.bytes = self.bytes.saturating_sub(spent.bytes);
    }

    /// Keys that are left; at least one (law 1).
    pub fn keys(&self) -> usize {
        usize::try_from(self.keys).unwrap_or(0).max(1)
    }

    /// Bytes that are left; at least one (law 1).
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0).max(1)
    }

    /// A part of it; at least one key and one byte.
    pub fn divided(&self, by: usize) -> Budget {
        Budget::new((self.keys() / by).max(1), (self.bytes() / by).max(1))
    }

    /// Both together; what was overspent stays so.
    pub fn plus(&self, more: Budget) -> Budget {
        Budget {
            keys: self.keys.saturating_add(more.keys),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    /// Lends at most `share` of what is left, and takes what `work` really spent (law 2).
    pub fn lend<T>(&mut self, share: Budget, work: impl FnOnce(&mut Budget) -> T) -> T {
        let lent = Budget { keys: self.keys.min(share.keys), bytes: self.bytes.min(share.bytes) };
        let mut rest = lent;
        let result = work(&mut rest);
        self.keys = self.keys.saturating_sub(lent.keys.saturating_sub(rest.keys));
        self.bytes = self.bytes.saturating_sub(lent.bytes.saturating_sub(rest.bytes));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lender_learns_what_was_really_spent() {
        let mut budget = Budget::new(10, 1024);
        budget.lend(Budget::new(4, 100), |share| {
            assert_eq!((share.keys(), share.bytes()), (4, 100));
            share.spend(1, 900);
            assert!(share.is_spent() && share.bytes() == 1);
        });
        assert_eq!(budget, Budget::new(9, 124));
        budget.lend(Budget::unbounded(), |share| share.spend(2, 200));
        assert!(budget.is_spent() && budget != Budget::new(7, 0));
        assert!(budget.plus(Budget::new(0, 76)).is_spent());
        assert_eq!(budget.plus(Budget::new(0, 77)), Budget::new(7, 1));
        assert_eq!(Budget::new(1, 7).divided(4), Budget::new(1, 1));
    }
}
