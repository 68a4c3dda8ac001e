//! A seeded generator (xoshiro256++ of Blackman and Vigna, state filled by SplitMix64).
//!
//! Everything random in the core and in the simulator comes from one of these, forked by purpose,
//! so that drawing more in one place leaves the rest of a run as it was.

/// Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The same seed gives the same sequence, on every platform.
    pub fn new(seed: u64) -> Rng {
        let mut x = seed;
        Rng(std::array::from_fn(|_| split_mix(&mut x)))
    }

    /// A generator of its own for `purpose`: independent of how much this one was used before, since
    /// it depends on `self`'s current state only through a copy.
    pub fn fork(&self, purpose: u64) -> Rng {
        let mut x =
            self.0[0] ^ self.0[2].rotate_left(17) ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Rng(std::array::from_fn(|_| split_mix(&mut x)))
    }

    /// 64 uniform bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "a generator has no end, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in `0..bound`; `bound` must not be 0. (Lemire's multiplication; its bias is below
    /// 2^-32 for the bounds used here.)
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no element");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with probability `percent` / 100.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn split_mix(x: &mut u64) -> u64 {
    *x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *x;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
