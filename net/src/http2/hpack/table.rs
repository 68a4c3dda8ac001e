//! The tables of RFC 7541: the static one, and the dynamic one of a decoder.
//!
//! The dynamic table is a list of places in one buffer. New bytes go to its end; when the end is
//! reached, what still lives moves to the front, so an entry costs one copy now and then, and no
//! allocation.
//!
//! Leaves out indices of a block, which count both tables together. Laws: (1) the entries' sizes, 32
//! and their bytes each (4.1), never exceed the limit; (2) an entry larger than the limit empties the
//! table and is not an error (4.4).
//!
//! Worked example: with a limit of 100, `ab: c` (35) and `de: f` (35) fit, and a third evicts the first.

use std::collections::VecDeque;

use super::Tag;

/// Names and values of appendix A; index 1 is the first.
pub(in crate::http2) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry costs beyond its bytes.
pub(super) const OVERHEAD: usize = 32;

/// What was found out about a field when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) tag: Tag,
    /// Whether another field may have this name.
    pub(super) name_good: bool,
}

struct Entry {
    start: usize,
    name: usize,
    value: usize,
    verdict: Verdict,
}

impl Entry {
    fn size(&self) -> usize {
        self.name + self.value + OVERHEAD
    }
}

/// A decoder's dynamic table.
pub(super) struct Table {
    /// The newest last.
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    size: usize,
    limit: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Table {
        Table { entries: VecDeque::new(), bytes: Vec::new(), size: 0, limit }
    }

    /// The newest entry is 0.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8], Verdict)> {
        let at = self.entries.len().checked_sub(index + 1)?;
        let entry = &self.entries[at];
        let (name, rest) = self.bytes[entry.start..].split_at(entry.name);
        Some((name, &rest[..entry.value], entry.verdict))
    }

    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(0);
    }

    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], verdict: Verdict) {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(size);
        if size > self.limit {
            return;
        }
        if self.bytes.len() + size > 2 * self.limit + OVERHEAD {
            self.compact();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name: name.len(), value: value.len(), verdict });
        self.size += size;
    }

    /// Makes room for `size`.
    fn evict(&mut self, size: usize) {
        while self.size + size > self.limit
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    fn compact(&mut self) {
        let Some(first) = self.entries.front().map(|entry| entry.start) else { return };
        self.bytes.drain(..first);
        self.entries.iter_mut().for_each(|entry| entry.start -= first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table as RFC 7541 tells it, with nothing clever.
    struct Twin(Vec<(Vec<u8>, Vec<u8>)>, usize);

    impl Twin {
        fn shrink(&mut self) {
            let size = |twin: &Twin| -> usize {
                twin.0.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
            };
            while size(self) > self.1 {
                self.0.pop();
            }
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_the_twin_holds(
            steps in proptest::collection::vec(
                (proptest::option::weighted(0.1, 0_usize..300), 0_usize..40, 0_usize..90), 0..80),
        ) {
            let mut table = Table::new(200);
            let mut twin = Twin(Vec::new(), 200);
            for (number, (limit, name, value)) in steps.into_iter().enumerate() {
                if let Some(limit) = limit {
                    table.set_limit(limit);
                    twin.1 = limit;
                } else {
                    let (name, value) = (vec![number as u8; name], vec![!number as u8; value]);
                    let verdict = Verdict { tag: Tag::Ordinary, name_good: true };
                    table.insert(&name, &value, verdict);
                    twin.0.insert(0, (name, value));
                }
                twin.shrink();
                for (index, (name, value)) in twin.0.iter().enumerate() {
                    let found = table.get(index).map(|(name, value, _)| (name, value));
                    prop_assert_eq!(found, Some((&name[..], &value[..])));
                }
                prop_assert!(table.get(twin.0.len()).is_none());
                prop_assert!(table.bytes.len() <= 2 * 300 + OVERHEAD);
            }
        }
    }
}
