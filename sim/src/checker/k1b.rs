//! K1b: linearizability of registers, by a search that never looks at revisions. Each register is used
//! for a few seconds only, so its history is a small window that begins empty.

use std::collections::BTreeMap;

use super::{Checker, Scene, Seen};
use crate::history::History;
use crate::history::register::{Access, Verdict, access_of, search};
use crate::workload::register::PREFIX;

/// Searches at the end of a run.
pub(super) struct Search;

/// What the searches of a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Windows with at least two accesses.
    pub windows: u64,
    /// Accesses in them.
    pub accesses: u64,
    /// Windows that would have taken too long.
    pub undecided: u64,
}

/// Searches every register of a history; the error names the first that has no order.
///
/// # Errors
/// The register, and the access that cannot be put in.
pub fn search_all(history: &History) -> Result<Searched, String> {
    let mut registers: BTreeMap<Vec<u8>, Vec<Access>> = BTreeMap::new();
    for record in history.records() {
        if let Some((key, access)) = access_of(record)
            && key.starts_with(PREFIX.as_bytes())
        {
            registers.entry(key).or_default().push(access);
        }
    }
    let mut searched = Searched::default();
    for (key, accesses) in registers.into_iter().filter(|(_, accesses)| accesses.len() > 1) {
        searched.windows += 1;
        searched.accesses += accesses.len() as u64;
        match search(&accesses) {
            Verdict::Legal => {}
            Verdict::Undecided => searched.undecided += 1,
            Verdict::Illegal(place) => {
                let key = String::from_utf8_lossy(&key);
                let history: String =
                    accesses.iter().map(|access| format!("\n    {access:?}")).collect();
                return Err(format!("{key} has no order at access {place}:{history}"));
            }
        }
    }
    Ok(searched)
}

impl Checker for Search {
    fn id(&self) -> &'static str {
        "K1b"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Settled => {
                scene.compared();
                search_all(scene.history).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}
