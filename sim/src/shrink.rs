//! Makes a failure small: leaves faults out as long as the same law is still broken.
//!
//! Faults are independent of each other (each has a generator of its own), so leaving one out leaves
//! the rest of the schedule as it was; what the cluster makes of it may differ, and then the fault
//! was needed. Halves are tried first, then quarters, down to single faults.

use std::collections::BTreeSet;

use crate::nemesis::Mask;

/// The largest mask, of those tried, under which a run of `faults` faults still fails as it did under
/// `mask`; `still_fails` runs it.
pub fn shrink_mask(faults: u32, mask: Mask, mut still_fails: impl FnMut(&Mask) -> bool) -> Mask {
    let mut left: Vec<u32> = (0..faults).filter(|ordinal| !mask.0.contains(ordinal)).collect();
    let mut best = mask;
    let mut size = left.len().div_ceil(2).max(1);
    loop {
        let mut smaller = false;
        let mut start = 0;
        while start < left.len() {
            let end = (start + size).min(left.len());
            let mut masked: BTreeSet<u32> = best.0.clone();
            masked.extend(&left[start..end]);
            let candidate = Mask(masked);
            if still_fails(&candidate) {
                best = candidate;
                left.drain(start..end);
                smaller = true;
            } else {
                start = end;
            }
        }
        if size == 1 && !smaller {
            return best;
        }
        size = (size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_faults_that_matter() {
        let fails = |mask: &Mask| !mask.0.contains(&7) && !mask.0.contains(&31);
        let shrunk = shrink_mask(40, Mask::default(), fails);
        assert_eq!(shrunk.to_string(), "0-6,8-30,32-39");
    }
}
