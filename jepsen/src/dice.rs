//! Random numbers from a seed (splitmix64): the same seed makes the same choices, though real processes
//! then do not do the same twice.
//!
//! Worked example: `Dice::new(7).below(6)` is a number from 0 to 5, the same on every machine.

use std::time::Duration;

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A source for a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// An independent source for part number `part`.
    pub fn fork(&mut self, part: u64) -> Dice {
        Dice(self.any() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.any() % bound
    }

    /// True once in `times` times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A moment within `span`.
    pub fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.below(span.as_micros().max(1) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_repeat_with_the_seed_and_differ_between_forks() {
        let run = |part| {
            let mut dice = Dice::new(7).fork(part);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(1).iter().all(|number| *number < 1000));
    }
}
