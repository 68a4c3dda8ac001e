//! Differences that are meant: each is listed, with its reason, in `docs/DIFFERENCES.md`.
//!
//! Law: a listed difference names words of that page, which a test looks for.

use std::collections::BTreeSet;

use super::rules::number_behind as field;
use super::step::Step;

/// A difference that is meant.
pub struct Listed {
    /// How reports call it.
    pub name: &'static str,
    /// Words of its row in `docs/DIFFERENCES.md`.
    pub row: &'static str,
    fits: fn(&Step, &[String], &[String]) -> bool,
}

/// All of them.
pub const LISTED: &[Listed] = &[
    Listed {
        name: "update-bad-urls",
        row: "MemberUpdate with URLs that are none",
        fits: |step, _, ours| {
            let refused = "InvalidArgument \"etcdserver: given member URLs are invalid\"";
            step.method() == Some("Cluster.MemberUpdate") && ours == [refused]
        },
    },
    Listed {
        name: "permission-stored-twice",
        row: "a permission granted again, beside others of the same key",
        fits: |step, theirs, ours| {
            let permissions = |lines: &[String]| {
                let text = lines.join("");
                let list = text.split_once("perm:[").map_or("", |(_, list)| list).to_owned();
                list.trim_end_matches(['}', ']'])
                    .split("},{")
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let range = |perm: &String| perm.split_once("key:").map(|(_, range)| range.to_owned());
            let ranges = |perms: Vec<String>| perms.iter().map(range).collect::<BTreeSet<_>>();
            step.method() == Some("Auth.RoleGet")
                && permissions(theirs).len() > permissions(ours).len()
                && ranges(permissions(theirs)) == ranges(permissions(ours))
        },
    },
    Listed {
        name: "range-stream-target",
        row: "RangeStream with a sort target and no order",
        fits: |step, _, ours| {
            let sorted =
                step.message().contains("sort_target:") && !step.message().contains("sort_order:1");
            step.method() == Some("KV.RangeStream")
                && sorted
                && ours.last().is_some_and(|end| end == "end ok")
        },
    },
    Listed {
        name: "hash-of-a-compaction",
        row: "HashKV at a compacted revision, or at the one compacted last",
        fits: |step, theirs, ours| {
            let asked = field(step.message(), "revision:").unwrap_or_default();
            let compacted = "OutOfRange \"etcdserver: mvcc: required revision has been compacted\"";
            let ours_is_ours = ours == [compacted]
                || field(&ours.join(""), "compact_revision:").unwrap_or_default() == asked;
            step.method() == Some("Maintenance.HashKV")
                && field(&theirs.join(""), "hash_revision:").unwrap_or_default() == asked
                && ours_is_ours
        },
    },
];

/// The listed difference that explains what the two said, the reference's lines first.
pub fn explain(step: &Step, theirs: &[String], ours: &[String]) -> Option<&'static Listed> {
    LISTED.iter().find(|listed| (listed.fits)(step, theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_in_the_page() {
        let page = include_str!("../../../docs/DIFFERENCES.md");
        let missing: Vec<_> = LISTED.iter().filter(|listed| !page.contains(listed.row)).collect();
        let missing: Vec<_> = missing.iter().map(|listed| listed.name).collect();
        assert!(missing.is_empty(), "not in docs/DIFFERENCES.md: {missing:?}");
    }
}
