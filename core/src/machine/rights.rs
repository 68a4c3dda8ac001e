//! What a user may read and write: the union of the ranges of all its roles.
//!
//! Laws:
//!  1. A range is allowed exactly if every key of it is in the union: two grants that touch combine.
//!  2. A range without a key is allowed exactly if its start is (etcd's interval tree finds it there).
//!  3. A granted range without a key, and a kind that etcd does not know, allow nothing.
//!
//! Worked example: reading `[a, c)` and `c` are granted: `[a, c\0)` may be read, `[a, d)` may not.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::auth::Permission;
use crate::mvcc::range::after;
use crate::request::{KeyRange, RangeEnd};

/// What is asked of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Reading it.
    Read,
    /// Writing it.
    Write,
}

/// The merged permissions of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    read: Union,
    write: Union,
}

impl Rights {
    /// The union of `permissions`.
    pub(super) fn of<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Rights {
        let pick = |wanted: fn(&Permission) -> bool| {
            Union::of(permissions.clone().filter(|permission| wanted(permission)))
        };
        Rights { read: pick(|p| p.kind.reads()), write: pick(|p| p.kind.writes()) }
    }

    /// Whether all of `keys` is allowed.
    pub(super) fn allow(&self, need: Need, keys: &KeyRange) -> bool {
        match need {
            Need::Read => self.read.covers(keys),
            Need::Write => self.write.covers(keys),
        }
    }

    /// Where the allowed range that `key` is in ends; `None` when it has no end. `key` is allowed.
    pub(super) fn reach(&self, need: Need, key: &[u8]) -> Option<Bytes> {
        let Union(spans) = match need {
            Need::Read => &self.read,
            Need::Write => &self.write,
        };
        let later = spans.partition_point(|(start, _)| start.as_ref() <= key);
        spans[..later].last().and_then(|(_, end)| end.clone())
    }
}

/// Ranges in order, of which no two touch; an end of `None` is no end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Union(Vec<(Bytes, Option<Bytes>)>);

impl Union {
    fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Union {
        let mut spans: Vec<(Bytes, Option<Bytes>)> = permissions.filter_map(span).collect();
        spans.sort_unstable();
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| start <= *last) => {
                    if further(&end, last) {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Union(merged)
    }

    fn covers(&self, keys: &KeyRange) -> bool {
        let later = self.0.partition_point(|(start, _)| *start <= keys.start);
        let Some((_, end)) = later.checked_sub(1).map(|at| &self.0[at]) else { return false };
        let Some(end) = end else { return true };
        match &keys.end {
            RangeEnd::Open => false,
            RangeEnd::Before(last) if *last > keys.start => last <= end,
            RangeEnd::Before(_) | RangeEnd::Single => keys.start < *end,
        }
    }
}

/// The half-open range of a permission; `None` when no key is in it.
fn span(permission: &Permission) -> Option<(Bytes, Option<Bytes>)> {
    let start = permission.key.clone();
    match KeyRange::from_wire(start.clone(), permission.range_end.clone()).end {
        RangeEnd::Single => Some((start.clone(), Some(after(&start)))),
        RangeEnd::Open => Some((start, None)),
        RangeEnd::Before(end) => (start < end).then_some((start, Some(end))),
    }
}

/// Whether `end` lies behind `other`.
fn further(end: &Option<Bytes>, other: &Option<Bytes>) -> bool {
    let order = match (end, other) {
        (Some(end), Some(other)) => end.cmp(other),
        (end, other) => other.is_some().cmp(&end.is_some()),
    };
    order == Ordering::Greater
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PermissionType;
    use proptest::prelude::*;

    fn grant(key: &str, range_end: &str, kind: PermissionType) -> Permission {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Permission { key: bytes(key), range_end: bytes(range_end), kind }
    }

    fn keys(start: &str, end: &str) -> KeyRange {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        KeyRange::from_wire(bytes(start), bytes(end))
    }

    #[test]
    fn grants_that_touch_combine() {
        let rights = [
            grant("a", "c", PermissionType::READ),
            grant("c", "", PermissionType::READ_WRITE),
            grant("c\0", "e", PermissionType::READ),
            grant("x", "\0", PermissionType::WRITE),
            grant("z", "y", PermissionType::READ),
            grant("m", "n", PermissionType(7)),
        ];
        let rights = Rights::of(rights.iter());
        for (need, start, end, allowed) in [
            (Need::Read, "a", "e", true),
            (Need::Read, "a", "e\0", false),
            (Need::Read, "c", "", true),
            (Need::Read, "e", "", false),
            (Need::Read, "b", "a", true),
            (Need::Read, "e", "a", false),
            (Need::Read, "a", "\0", false),
            (Need::Write, "c", "", true),
            (Need::Write, "c", "d", false),
            (Need::Write, "c", "c\0", true),
            (Need::Write, "y", "\0", true),
            (Need::Write, "w", "\0", false),
            (Need::Write, "y", "zz", true),
            (Need::Read, "z", "", false),
            (Need::Read, "m", "", false),
        ] {
            let asked = keys(start, end);
            assert_eq!(rights.allow(need, &asked), allowed, "{need:?} [{start:?}, {end:?})");
        }
    }

    /// Keys of up to two letters of a small alphabet, in order: every border of a range is one.
    fn points() -> Vec<String> {
        let letters = ["\0", "a", "b", "c"];
        let two = letters.iter().flat_map(|a| letters.iter().map(move |b| format!("{a}{b}")));
        let mut points: Vec<String> = letters.iter().map(|a| a.to_string()).chain(two).collect();
        points.sort();
        points
    }

    fn border() -> impl Strategy<Value = String> {
        (0..points().len()).prop_map(|at| points()[at].clone())
    }

    fn end() -> impl Strategy<Value = String> {
        prop_oneof![2 => Just(String::new()), 1 => Just("\0".to_owned()), 5 => border()]
    }

    proptest! {
        /// The twin looks at every point of a small world and at what lies just behind the last one.
        #[test]
        fn the_union_is_that_of_its_points(
            grants in proptest::collection::vec((border(), end()), 0..6),
            start in border(),
            last in end(),
        ) {
            let grants: Vec<Permission> =
                grants.iter().map(|(key, end)| grant(key, end, PermissionType::READ)).collect();
            let asked = keys(&start, &last);
            let allowed = |key: &str| grants.iter().any(|granted| {
                KeyRange::from_wire(granted.key.clone(), granted.range_end.clone())
                    .contains(key.as_bytes())
            });
            // Between two neighbouring borders all keys are alike; those just behind a border stand
            // for them.
            let mut world: Vec<String> = points();
            world.extend(points().iter().map(|point| format!("{point}\0\0\0")));
            let inside: Vec<&String> =
                world.iter().filter(|key| asked.contains(key.as_bytes())).collect();
            let expected = match asked.is_empty() {
                true => allowed(&start),
                false => inside.iter().all(|key| allowed(key)),
            };
            let rights = Rights::of(grants.iter());
            prop_assert_eq!(rights.allow(Need::Read, &asked), expected);
            if allowed(&start) {
                let end = rights.reach(Need::Read, start.as_bytes());
                let inside = |key: &&String| {
                    **key >= start && end.as_ref().is_none_or(|end| key.as_bytes() < &end[..])
                };
                prop_assert!(world.iter().filter(inside).all(|key| allowed(key)));
                if let Some(end) = end {
                    let end = std::str::from_utf8(&end).expect("borders are text");
                    prop_assert!(end > start.as_str() && !allowed(end));
                }
            }
        }
    }
}
