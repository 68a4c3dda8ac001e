//! Scripts and recorded answers as text that can be read and compared.
//!
//! ```text
//! # A remark.
//! ! members 3                     how many members; 1 unless told
//! ! flag --max-txn-ops=8          a flag of every member
//!
//! > KV.Put key:"a",value:"1"      a step, as step.rs has it
//! < ok header{revision:2}         a line that it gave
//! ```
//!
//! Law: what is written reads back as the same table.

use std::fmt::Write;
use std::path::Path;

use super::step::Step;

/// A step, and what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Lines in front of it that say something about it.
    pub remarks: Vec<String>,
    /// What is done.
    pub step: Step,
    /// What it gave; nothing in a script that was not recorded.
    pub lines: Vec<String>,
}

/// What the members of a table's cluster are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How many there are.
    pub members: usize,
    /// Flags of each.
    pub flags: Vec<String>,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting { members: 1, flags: Vec::new() }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The first remarks, about all of it.
    pub head: Vec<String>,
    /// The cluster.
    pub setting: Setting,
    /// The steps in order.
    pub entries: Vec<Entry>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no table.
    pub fn load(path: &Path) -> Result<Table, String> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|cause| format!("{}: {cause}", path.display()))?;
        Table::parse(&text).map_err(|what| format!("{}: {what}", path.display()))
    }

    /// Reads text.
    ///
    /// # Errors
    /// A line that means nothing.
    pub fn parse(text: &str) -> Result<Table, String> {
        let mut table = Table::default();
        let mut remarks = Vec::new();
        let mut in_head = true;
        for line in text.lines() {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            match mark {
                "" if in_head && !remarks.is_empty() => {
                    table.head = std::mem::take(&mut remarks);
                    in_head = false;
                }
                "" => {}
                "#" => remarks.push(rest.to_owned()),
                "!" => table.set(rest).ok_or_else(|| format!("no setting: {line}"))?,
                ">" => {
                    in_head = false;
                    let (remarks, step) = (std::mem::take(&mut remarks), Step::parse(rest)?);
                    table.entries.push(Entry { remarks, step, lines: Vec::new() });
                }
                "<" => {
                    let entry = table.entries.last_mut().ok_or("an answer to nothing")?;
                    entry.lines.push(rest.to_owned());
                }
                _ => return Err(format!("no line of a table: {line}")),
            }
        }
        Ok(table)
    }

    fn set(&mut self, text: &str) -> Option<()> {
        match text.split_once(' ')? {
            ("members", count) => self.setting.members = count.parse().ok()?,
            ("flag", flag) => self.setting.flags.push(flag.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// The text of it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |mark: &str, rest: &str| {
            writeln!(out, "{}", format!("{mark} {rest}").trim_end()).expect("a string grows");
        };
        self.head.iter().for_each(|remark| line("#", remark));
        if self.setting.members != 1 {
            line("!", &format!("members {}", self.setting.members));
        }
        self.setting.flags.iter().for_each(|flag| line("!", &format!("flag {flag}")));
        for entry in &self.entries {
            line("", "");
            entry.remarks.iter().for_each(|remark| line("#", remark));
            line(">", &entry.step.to_string());
            entry.lines.iter().for_each(|answer| line("<", answer));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let text = "# About it.\n! members 3\n! flag --a=1\n\n# Why.\n> KV.Put key:\"a\"\n< ok header{revision:2}\n\n> gather\n";
        let table = Table::parse(text).expect("a table");
        assert_eq!((table.head.len(), table.setting.members, table.entries.len()), (1, 3, 2));
        assert_eq!(table.entries[0].lines, ["ok header{revision:2}"]);
        assert_eq!(table.text(), text);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["< ok", "> nonsense", "! members x", "what"] {
            assert!(Table::parse(text).is_err(), "{text}");
        }
    }
}
