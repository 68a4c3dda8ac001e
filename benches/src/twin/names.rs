//! Names for what a server chooses: its ids, its addresses, the ids of its leases, its tokens.
//!
//! Two servers choose differently, so a script says `$m1`, and so do recorded answers. A name is stronger than
//! leaving a value out: an id that should be the first member's and is another's stays visible.
//!
//! ```text
//! $cluster $m1 $m2 ..      ids of the cluster and its members, the one that leads at the beginning first
//! name:"$n1" ..            members' names
//! $client1 $peer1 ..       members' URLs
//! $lease1 ..               ids of leases that the server chose, in the order of their grants
//! $found1 ..               ids of leases that the server chose without telling
//! $added1 ..               ids of members that were added; $added is the last one's
//! $token1 ..               tokens of logins
//! ```
//!
//! Worked example: bound to `4242`, `$lease1` in a request becomes `4242`; in an answer `ID:4242` becomes
//! `ID:$lease1`, and the key `lock/1092` (the same in hexadecimal) becomes `lock/$lease1.hex`.

use std::collections::BTreeMap;

/// One side's names, and what stands behind each.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// What is written, and its name; the longest first.
    shown: Vec<(String, String)>,
    meaning: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Gives `value` this name.
    pub fn bind(&mut self, name: &str, value: &str) {
        if value.is_empty() || value == "0" {
            return;
        }
        self.meaning.insert(name.to_owned(), value.to_owned());
        self.show(value.to_owned(), name.to_owned());
    }

    /// Gives a number the next name of its kind; what is written in hexadecimal is its name too.
    pub fn bind_next(&mut self, kind: &'static str, value: &str) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let name = format!("${kind}{count}");
        self.bind(&name, value);
        if let Ok(number) = value.parse::<i64>() {
            self.bind(&format!("{name}.hex"), &format!("{number:x}"));
        }
    }

    /// Names leases that a server chose without telling: those that pairs in an answer carry.
    pub fn meet_leases(&mut self, text: &str) {
        for part in text.split("lease:").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let id = &part[..end];
            // Scripts choose small ones, and the largest there is.
            let chosen = id.len() > 12 && id != i64::MAX.to_string();
            if chosen && !self.shown.iter().any(|(written, _)| written == id) {
                self.bind_next("found", id);
            }
        }
    }

    /// Gives what has a name another one, for requests.
    pub fn alias(&mut self, name: &str, value: &str) {
        self.meaning.insert(name.to_owned(), value.to_owned());
    }

    fn show(&mut self, written: String, name: String) {
        self.shown.retain(|(other, _)| *other != written);
        self.shown.push((written, name));
        self.shown.sort_by_key(|(written, _)| std::cmp::Reverse(written.len()));
    }

    /// What stands behind a name; what is no name stands for itself.
    pub fn resolve(&self, text: &str) -> String {
        if !text.contains('$') {
            return text.to_owned();
        }
        let mut text = expand_fill(text);
        // Longer names first: $lease10 begins with $lease1.
        let mut names: Vec<_> = self.meaning.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, value) in names {
            text = text.replace(name.as_str(), value);
        }
        text
    }

    /// Puts names where their meanings stand.
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (written, name) in &self.shown {
            text = replace_whole(&text, written, name);
        }
        shorten_fill(&text)
    }
}

/// Replaces where neither neighbour is a letter or a digit.
fn replace_whole(text: &str, from: &str, to: &str) -> String {
    let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let behind = &rest[at + from.len()..];
        let before = rest[..at].chars().next_back().or(out.chars().next_back());
        let whole = !part(before) && !part(behind.chars().next());
        out.push_str(&rest[..at]);
        out.push_str(if whole { to } else { from });
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Runs of x from this length on are written as `$fill(N)`.
const FILL_MIN: usize = 65;

fn expand_fill(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("$fill(") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + "$fill(".len()..];
        let end = inner.find(')').unwrap_or(inner.len());
        let count = inner[..end].parse::<usize>().unwrap_or(0);
        out.extend(std::iter::repeat_n('x', count));
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn shorten_fill(text: &str) -> String {
    if !text.contains(&"x".repeat(FILL_MIN)) {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.len() - rest.trim_start_matches('x').len();
        if run >= FILL_MIN {
            out.push_str(&format!("$fill({run})"));
            rest = &rest[run..];
            continue;
        }
        let next = rest[run..].find('x').map_or(rest.len(), |at| run + at);
        out.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_values_both_ways() {
        let mut names = Names::default();
        names.bind("$m1", "77");
        names.bind_next("lease", "4242");
        names.bind_next("lease", "5");
        assert_eq!(names.resolve("ID:$lease1,x:$m1,$none"), "ID:4242,x:77,$none");
        assert_eq!(
            names.hide("ID:4242,key:\"lock/1092\",n:777"),
            "ID:$lease1,key:\"lock/$lease1.hex\",n:777"
        );
        assert_eq!(names.hide("77 77"), "$m1 $m1");
    }

    #[test]
    fn long_runs_are_short() {
        let names = Names::default();
        let long = names.resolve("value:\"$fill(100)\"");
        assert_eq!(long.len(), "value:\"\"".len() + 100);
        assert_eq!(names.hide(&long), "value:\"$fill(100)\"");
        assert_eq!(names.hide("xx a x"), "xx a x");
    }
}
