//! Whether to believe a batch that recovery finds: a pure, total function from what was seen to a
//! verdict.
//!
//! A checksum that does not fit has two causes that look alike: the machine stopped while the batch
//! was being written (a *torn* batch, which nobody was told is durable, and which must be cut), or
//! bytes that were durable have changed since (*rot*, where cutting could lose an acknowledged
//! write, so the member refuses to start). What tells them apart is *proof*: a batch number at or
//! below any watermark was durable when that watermark was written. A good descriptor is no proof,
//! because it is written beside the body; nor is a later batch that is whole, because several are
//! in flight at once; nor is the kernel's boot, because a killed process leaves a torn body, too;
//! nor is `commit`.
//!
//! The price, which storage engines that flush twice do not pay: rot in the last batches before a
//! crash, those without proof, looks like a torn tail and is cut, with a note. Seals keep that
//! window small.
//!
//! Laws:
//!  1. Total: every combination of [`Seen`] has exactly one row (a test enumerates them).
//!  2. What is proven is never cut.
//!  3. What is not whole is never kept.
//!
//! Worked example: batch 8 torn, 9 whole with watermark 7: 8 is [`Verdict::Torn`], the log ends at
//! 7. The same with a batch whose watermark is 8: [`Verdict::Rot`].

/// The state of a batch in the data area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Header and records are whole.
    Whole,
    /// A header or a descriptor says what should be there; it is not.
    Broken,
    /// Nothing says anything.
    Absent,
}

/// The state of a batch's slot in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// The same bytes as the header, or, where the header is unreadable, a whole descriptor.
    Same,
    /// Whole, but not the same as the header.
    Other,
    /// Not readable.
    Absent,
}

/// What recovery saw of one batch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In the data area.
    pub body: Body,
    /// In the directory.
    pub descriptor: Descriptor,
    /// Whether its chain is the checksum of the header before it.
    pub chained: bool,
    /// Whether a watermark proves that it was durable.
    pub proven: bool,
    /// Whether anything of a later batch was seen.
    pub later: bool,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Good,
    /// Keep it and write its descriptor again.
    Redescribe,
    /// Refuse to start: durable bytes have changed.
    Rot,
    /// Cut the log from here: it was being written when the machine or the process stopped.
    Torn,
    /// The log ends before it.
    End,
}

/// The verdict on one batch number, everything before which is good.
pub fn classify(seen: Seen) -> Verdict {
    match (seen.body, seen.descriptor, seen.chained, seen.proven, seen.later) {
        (Body::Whole, Descriptor::Same, true, _, _) => Verdict::Good,
        (Body::Whole, Descriptor::Other | Descriptor::Absent, true, _, _) => Verdict::Redescribe,
        // Cuts are made durable before anything is appended, so no crash leaves this: a write went
        // astray, or was lost.
        (Body::Whole, _, false, _, _) => Verdict::Rot,
        (Body::Broken | Body::Absent, _, _, true, _) => Verdict::Rot,
        (Body::Absent, Descriptor::Absent, _, false, false) => Verdict::End,
        (Body::Broken, _, _, false, _)
        | (Body::Absent, Descriptor::Same | Descriptor::Other, _, false, _)
        | (Body::Absent, Descriptor::Absent, _, false, true) => Verdict::Torn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row: which states it covers, as text of one letter a choice, and its verdict. The
    /// letters: body Whole Broken Absent; descriptor Same Other Absent; chained, proven, later Yes
    /// No; `*` any.
    const TABLE: [(&str, Verdict); 11] = [
        ("WSY**", Verdict::Good),
        ("WOY**", Verdict::Redescribe),
        ("WAY**", Verdict::Redescribe),
        ("W*N**", Verdict::Rot),
        ("B**Y*", Verdict::Rot),
        ("A**Y*", Verdict::Rot),
        ("B**N*", Verdict::Torn),
        ("AS*N*", Verdict::Torn),
        ("AO*N*", Verdict::Torn),
        ("AA*NY", Verdict::Torn),
        ("AA*NN", Verdict::End),
    ];

    fn all() -> impl Iterator<Item = (String, Seen)> {
        let bodies = [('W', Body::Whole), ('B', Body::Broken), ('A', Body::Absent)];
        let slots = [('S', Descriptor::Same), ('O', Descriptor::Other), ('A', Descriptor::Absent)];
        (0..72).map(move |case: usize| {
            let (b, body) = bodies[case % 3];
            let (d, descriptor) = slots[case / 3 % 3];
            let flag = |bit: usize| (case / 9) >> bit & 1 == 1;
            let seen = Seen { body, descriptor, chained: flag(0), proven: flag(1), later: flag(2) };
            let letter = |yes| if yes { 'Y' } else { 'N' };
            let flags = [seen.chained, seen.proven, seen.later].map(letter);
            ([b, d].iter().chain(&flags).collect(), seen)
        })
    }

    fn covers(row: &str, case: &str) -> bool {
        row.chars().zip(case.chars()).all(|(row, case)| row == '*' || row == case)
    }

    #[test]
    fn every_combination_hits_exactly_one_row() {
        let mut seen_cases = std::collections::BTreeSet::new();
        for (case, seen) in all() {
            let rows: Vec<_> = TABLE.iter().filter(|(row, _)| covers(row, &case)).collect();
            assert_eq!(rows.len(), 1, "{case} hits {rows:?}");
            assert_eq!(classify(seen), rows[0].1, "{case}");
            seen_cases.insert(case);
        }
        assert_eq!(seen_cases.len(), 72);
    }

    #[test]
    fn the_laws_hold() {
        for (case, seen) in all() {
            let verdict = classify(seen);
            let cut = matches!(verdict, Verdict::Torn | Verdict::End);
            assert!(!(seen.proven && cut), "{case}: proven and cut");
            let kept = matches!(verdict, Verdict::Good | Verdict::Redescribe);
            assert!(!kept || seen.body == Body::Whole, "{case}: kept and not whole");
        }
    }
}
