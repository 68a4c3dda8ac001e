//! Deliberate bugs, for proving that the simulator would notice them.
//!
//! A build with the `mutants` feature can switch one on per thread; in every other build
//! [`on`] is `false` at compile time and the bug does not exist. `sim/MUTANTS.md` lists them with
//! the checker that must catch each.

/// Whether mutant `number` (M1, M2, …) is switched on in this thread.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_number: u16) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    thread_local!(static ACTIVE: Cell<u16> = const { Cell::new(0) });

    /// Whether mutant `number` (M1, M2, …) is switched on in this thread.
    pub fn on(number: u16) -> bool {
        ACTIVE.get() == number
    }

    /// Switches mutant `number` on in this thread; 0 switches off.
    pub fn activate(number: u16) {
        ACTIVE.set(number);
    }
}

#[cfg(feature = "mutants")]
pub use switch::{activate, on};
