//! What differs between two answers, field by field, for people.
//!
//! Worked example: `ok header{revision:2}` beside `ok header{revision:3}` is the one line
//! `0.header.revision: 2 | 3`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::step::Step;

/// One step that the two answered differently.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which step of its script, from 1.
    pub at: usize,
    /// The step.
    pub step: Step,
    /// The reference's lines.
    pub theirs: Vec<String>,
    /// Ours.
    pub ours: Vec<String>,
}

impl Difference {
    /// What it is about, without the values: two differences of one kind are probably one.
    pub fn kind(&self) -> String {
        let fields = fields(&self.theirs, &self.ours);
        let fields: Vec<_> = fields.iter().map(|(path, ..)| without_numbers(path)).collect();
        let mut fields: Vec<_> = fields.into_iter().take(3).collect();
        fields.dedup();
        format!("{} {}", self.step.method().unwrap_or("gather"), fields.join(" "))
    }

    /// All of it, for people.
    pub fn text(&self) -> String {
        let mut out = format!("step {}\n  > {}\n", self.at, shorten(&self.step.to_string()));
        for (who, lines) in [("etcd    ", &self.theirs), ("holdfast", &self.ours)] {
            if lines.is_empty() {
                writeln!(out, "  {who} (nothing)").expect("a string grows");
            }
            for line in lines {
                writeln!(out, "  {who} {}", shorten(line)).expect("a string grows");
            }
        }
        for (path, theirs, ours) in fields(&self.theirs, &self.ours).into_iter().take(FIELDS_MAX) {
            writeln!(out, "    {path}: {} | {}", shorten(&theirs), shorten(&ours))
                .expect("a string grows");
        }
        out
    }
}

const FIELDS_MAX: usize = 12;
const LINE_MAX: usize = 2000;

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{} .. ({} bytes)", &text[..at], text.len()),
    }
}

fn without_numbers(path: &str) -> String {
    let parts = path.split('.').filter(|part| part.parse::<usize>().is_err());
    parts.collect::<Vec<_>>().join(".")
}

/// The fields that differ: path, theirs, ours. What is not there is `-`.
pub fn fields(theirs: &[String], ours: &[String]) -> Vec<(String, String, String)> {
    let (theirs, ours) = (flatten(theirs), flatten(ours));
    let paths: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).cloned().collect();
    let value = |of: &BTreeMap<String, String>, path: &String| match of.get(path) {
        Some(value) => value.clone(),
        None => "-".to_owned(),
    };
    let rows = paths.into_iter().map(|path| {
        let (theirs, ours) = (value(&theirs, &path), value(&ours, &path));
        (path, theirs, ours)
    });
    rows.filter(|(_, theirs, ours)| theirs != ours).collect()
}

fn flatten(lines: &[String]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (nth, line) in lines.iter().enumerate() {
        // The call's name in front of what came on it.
        let line = match line.split_once(": ") {
            Some((name, rest)) if !name.contains(['"', '{', ' ']) => rest,
            _ => line,
        };
        let message = line.find([':', '{']).filter(|at| !line[..*at].contains('"'));
        match message {
            None => {
                out.insert(format!("{nth}"), line.to_owned());
            }
            Some(at) => {
                let name = line[..at].rfind(' ').map_or(0, |space| space + 1);
                if name > 0 {
                    out.insert(format!("{nth}"), line[..name].trim().to_owned());
                }
                let mut reader = Reader { rest: &line[name..], out: &mut out };
                reader.fields(&format!("{nth}"));
            }
        }
    }
    out
}

/// Reads the compact text format; what it does not understand it keeps as it is.
struct Reader<'a> {
    rest: &'a str,
    out: &'a mut BTreeMap<String, String>,
}

impl Reader<'_> {
    fn fields(&mut self, prefix: &str) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        while !self.rest.is_empty() && !self.rest.starts_with('}') {
            let end = self.rest.find([':', '{', '}', ',']).unwrap_or(self.rest.len());
            let name = self.rest[..end].trim().to_owned();
            self.rest = self.rest[end..].trim_start_matches(':').trim_start();
            let count = seen.entry(name.clone()).or_default();
            let path = if *count == 0 {
                format!("{prefix}.{name}")
            } else {
                format!("{prefix}.{name}.{count}")
            };
            *count += 1;
            self.value(&path);
            self.rest = self.rest.trim_start_matches([',', ' ']);
        }
    }

    fn value(&mut self, path: &str) {
        match self.rest.chars().next() {
            Some('{') => {
                self.rest = &self.rest[1..];
                self.fields(path);
                self.rest = self.rest.strip_prefix('}').unwrap_or(self.rest);
            }
            Some('[') => {
                self.rest = &self.rest[1..];
                let mut nth = 0;
                while !self.rest.is_empty() && !self.rest.starts_with(']') {
                    self.value(&format!("{path}.{nth}"));
                    nth += 1;
                    self.rest = self.rest.trim_start_matches([',', ' ']);
                }
                self.rest = self.rest.strip_prefix(']').unwrap_or(self.rest);
            }
            _ => {
                let end = scalar_end(self.rest);
                self.out.insert(path.to_owned(), self.rest[..end].to_owned());
                self.rest = &self.rest[end..];
            }
        }
    }
}

/// Where a string or a word ends; at least one character, so that reading goes on.
fn scalar_end(text: &str) -> usize {
    if !text.starts_with('"') {
        return text.find([',', '}', ']']).unwrap_or(text.len()).max(text.len().min(1));
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(theirs: &str, ours: &str) -> Vec<String> {
        let fields = fields(&[theirs.to_owned()], &[ours.to_owned()]);
        fields
            .into_iter()
            .map(|(path, theirs, ours)| format!("{path}: {theirs} | {ours}"))
            .collect()
    }

    #[test]
    fn fields_are_named() {
        assert_eq!(
            differ("ok header{revision:2}", "ok header{revision:3}"),
            ["0.header.revision: 2 | 3"]
        );
        let (theirs, ours) =
            (r#"ok kvs:[{key:"a,}",version:1}],count:1"#, r#"ok kvs:[{key:"a,}"}],count:1"#);
        assert_eq!(differ(theirs, ours), ["0.kvs.0.version: 1 | -"]);
        assert_eq!(
            differ("w1: created:true", "w1: canceled:true"),
            ["0.canceled: - | true", "0.created: true | -"]
        );
    }

    #[test]
    fn statuses_are_whole() {
        let (theirs, ours) = (r#"NotFound "a: b""#, "ok header{revision:1}");
        assert_eq!(differ(theirs, ours), ["0: NotFound \"a: b\" | ok", "0.header.revision: - | 1"]);
    }
}
