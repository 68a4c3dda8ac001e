//! What the clients did and what they were told: every write with its outcome, and the laws that answers
//! must keep while the test runs.
//!
//! Keys are of two kinds. A *single* `u/<connection>/<number>` is written once, with a value that follows
//! from its name, and perhaps deleted later by the same connection. A *register* `r/<number>` is only
//! ever swapped: written on the condition that it is still as it was read, with a value that names the
//! swap. Leaves out the judgement at the end ([`verdict`](crate::verdict)).
//!
//! Laws:
//!  1. A write is recorded before it is sent, as unknown; only an answer makes it acknowledged.
//!  2. A write that was acknowledged is never sent again.
//!  3. `floor` is the highest revision of any acknowledged write; a write sent later gets a higher one, a
//!     linearizable read sent later sees at least it.
//!
//! Worked example: connection 2 sends `u/02/0000007` and is killed off before the answer: the single stays
//! unknown, and at the end it may be absent or have its one value, nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::proto::mvccpb::KeyValue;

/// What is known of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: it happened, or did not, or still may.
    Unknown,
    /// The server said that it happened.
    Acked {
        /// At this revision.
        revision: i64,
        /// After so long a test.
        at: Duration,
    },
}

/// A key that is written once.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// Its put.
    pub put: Outcome,
    /// Its removal, if that was tried.
    pub delete: Option<Outcome>,
}

/// One attempt to swap a register.
#[derive(Clone, Copy, Debug)]
pub struct Swap {
    /// Which register.
    pub register: usize,
    /// The revision that it was read at, 0 if it did not exist.
    pub before: i64,
    /// The swap whose value was read.
    pub parent: Option<u64>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Counts for the progress and the closing lines.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Acknowledged puts of singles.
    pub puts: u64,
    /// Acknowledged removals.
    pub deletes: u64,
    /// Acknowledged swaps that found their register unchanged.
    pub swaps: u64,
    /// Acknowledged swaps that did not.
    pub missed: u64,
    /// Reads, all of them checked.
    pub reads: u64,
    /// Writes whose outcome stayed unknown.
    pub unknown: u64,
    /// The errors that calls ended with, and how often.
    pub errors: BTreeMap<String, u64>,
}

impl Totals {
    /// Acknowledged writes that changed something.
    pub fn acked(&self) -> u64 {
        self.puts + self.deletes + self.swaps
    }
}

/// Everything that was done.
pub struct History {
    start: Instant,
    /// By connection, by number.
    pub singles: Vec<Vec<Single>>,
    /// By their number.
    pub swaps: Vec<Swap>,
    /// How many registers there are.
    pub registers: usize,
    /// Law 3.
    pub floor: i64,
    /// Counts.
    pub totals: Totals,
    /// The first answers that broke a law while the test ran.
    pub broken: Vec<String>,
}

impl History {
    /// Nothing done yet.
    pub fn new(connections: usize, registers: usize) -> History {
        History {
            start: Instant::now(),
            singles: vec![Vec::new(); connections],
            swaps: Vec::new(),
            registers,
            floor: 0,
            totals: Totals::default(),
            broken: Vec::new(),
        }
    }

    /// How long the test has run.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Records that a single is about to be written; gives its number.
    pub fn begin_put(&mut self, connection: usize) -> usize {
        let singles = &mut self.singles[connection];
        singles.push(Single { put: Outcome::Unknown, delete: None });
        self.totals.unknown += 1;
        singles.len() - 1
    }

    /// Records its answer; `floor` is that of the moment it was sent.
    pub fn acked_put(&mut self, (connection, number): (usize, usize), revision: i64, floor: i64) {
        self.singles[connection][number].put = self.acknowledge(revision, floor);
        self.totals.puts += 1;
    }

    /// Records that a single is about to be removed.
    pub fn begin_delete(&mut self, (connection, number): (usize, usize)) {
        self.singles[connection][number].delete = Some(Outcome::Unknown);
        self.totals.unknown += 1;
    }

    /// Records its answer.
    pub fn acked_delete(
        &mut self,
        (connection, number): (usize, usize),
        (revision, existed): (i64, bool),
        floor: i64,
    ) {
        if !existed {
            let single = self.singles[connection][number];
            let key = single_key(connection, number);
            self.break_law(format!("{} was gone before its removal: {single:?}", text(&key)));
        }
        self.singles[connection][number].delete = Some(self.acknowledge(revision, floor));
        self.totals.deletes += 1;
    }

    /// Records that a register is about to be swapped; gives the swap's number.
    pub fn begin_swap(&mut self, register: usize, before: i64, parent: Option<u64>) -> u64 {
        self.swaps.push(Swap { register, before, parent, outcome: Outcome::Unknown });
        self.totals.unknown += 1;
        self.swaps.len() as u64 - 1
    }

    /// Records the answer of one that found its register unchanged.
    pub fn acked_swap(&mut self, swap: u64, revision: i64, floor: i64) {
        self.swaps[swap as usize].outcome = self.acknowledge(revision, floor);
        self.totals.swaps += 1;
    }

    /// Forgets a swap that the server said did not happen: nobody may see its value.
    pub fn missed_swap(&mut self, swap: u64, revision: i64, floor: i64) {
        let outcome = Outcome::Acked { revision: MISSED, at: self.now() };
        self.swaps[swap as usize].outcome = outcome;
        self.totals.unknown -= 1;
        self.totals.missed += 1;
        if revision < floor {
            self.break_law(format!("swap {swap} was answered at r{revision}, below r{floor}"));
        }
    }

    /// Checks what a linearizable read of one's own single found.
    pub fn saw_single(
        &mut self,
        (connection, number): (usize, usize),
        (revision, pair): (i64, Option<&KeyValue>),
        floor: i64,
    ) {
        self.saw(revision, floor);
        if let Some(problem) = self.single_problem(connection, number, pair) {
            self.break_law(format!("a read at r{revision} found {problem}"));
        }
    }

    /// Checks what a linearizable read of a register found; gives the swap that wrote it.
    pub fn saw_register(
        &mut self,
        register: usize,
        (revision, pair): (i64, Option<&KeyValue>),
        floor: i64,
    ) -> Option<u64> {
        self.saw(revision, floor);
        let pair = pair?;
        let swap = swap_of(&pair.value).filter(|swap| {
            let known = self.swaps.get(*swap as usize);
            known.is_some_and(|known| {
                let missed = matches!(known.outcome, Outcome::Acked { revision: MISSED, .. });
                known.register == register && !missed
            })
        });
        if swap.is_none() {
            let (key, value) = (text(&pair.key), text(&pair.value));
            self.break_law(format!("{key} had the value {value}, which nobody wrote to it"));
        }
        swap
    }

    /// Counts an error.
    pub fn error(&mut self, text: &str) {
        const KINDS_MAX: usize = 64;
        let errors = &mut self.totals.errors;
        if errors.len() < KINDS_MAX || errors.contains_key(text) {
            *errors.entry(text.to_owned()).or_default() += 1;
        }
    }

    /// What is wrong with a single that is seen as `pair` after all that was done to it has ended.
    pub fn single_problem(
        &self,
        connection: usize,
        number: usize,
        pair: Option<&KeyValue>,
    ) -> Option<String> {
        let key = single_key(connection, number);
        let Some(single) = self.singles[connection].get(number) else {
            return Some(format!("{}, which nobody wrote", text(&key)));
        };
        let Some(pair) = pair else {
            let acked = matches!(single.put, Outcome::Acked { .. });
            return (acked && single.delete.is_none()).then(|| {
                let value = text(&single_value(connection, number));
                format!("nothing at {}, acknowledged with {value}: {single:?}", text(&key))
            });
        };
        if let Some(Outcome::Acked { .. }) = single.delete {
            return Some(format!("{} after its acknowledged removal: {single:?}", text(&key)));
        }
        let once = pair.version == 1 && pair.create_revision == pair.mod_revision;
        let right = match single.put {
            Outcome::Acked { revision, .. } => pair.mod_revision == revision,
            Outcome::Unknown => true,
        };
        let expected = single_value(connection, number);
        (!once || !right || pair.value != expected)
            .then(|| format!("{}, which should be {}: {single:?}", shown(pair), text(&expected)))
    }

    fn acknowledge(&mut self, revision: i64, floor: i64) -> Outcome {
        if revision <= floor {
            self.break_law(format!(
                "a write got r{revision} though r{floor} was acknowledged before it was sent"
            ));
        }
        self.totals.unknown -= 1;
        self.floor = self.floor.max(revision);
        Outcome::Acked { revision, at: self.now() }
    }

    fn saw(&mut self, revision: i64, floor: i64) {
        self.totals.reads += 1;
        if revision < floor {
            self.break_law(format!(
                "a linearizable read was answered at r{revision} though r{floor} was acknowledged \
                 before it was sent"
            ));
        }
    }

    fn break_law(&mut self, what: String) {
        const SHOWN_MAX: usize = 20;
        if self.broken.len() < SHOWN_MAX {
            self.broken.push(format!("after {:.3} s: {what}", self.now().as_secs_f64()));
        }
    }
}

/// The revision recorded for a swap that found its register changed.
pub const MISSED: i64 = -1;

/// The name of a single.
pub fn single_key(connection: usize, number: usize) -> Bytes {
    format!("u/{connection:02}/{number:07}").into()
}

/// The connection and number in a single's name.
pub fn single_of(key: &[u8]) -> Option<(usize, usize)> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix("u/")?;
    let (connection, number) = name.split_once('/')?;
    Some((connection.parse().ok()?, number.parse().ok()?))
}

/// The value that a single is written with: its name, and a length that varies with it.
pub fn single_value(connection: usize, number: usize) -> Bytes {
    let mut value = format!("{connection}.{number}:").into_bytes();
    let spread = (connection * 31 + number).wrapping_mul(2_654_435_761) >> 7;
    let filler = if spread.is_multiple_of(251) { 20_000 } else { spread % 173 };
    value.resize(value.len() + filler, b'a' + (spread % 26) as u8);
    value.into()
}

/// The name of a register.
pub fn register_key(register: usize) -> Bytes {
    format!("r/{register:02}").into()
}

/// The value that a swap writes.
pub fn swap_value(swap: u64) -> Bytes {
    format!("swap {swap}").into()
}

/// The swap in a register's value.
pub fn swap_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.strip_prefix("swap ")?.parse().ok()
}

/// A pair for people.
pub fn shown(pair: &KeyValue) -> String {
    format!(
        "{} = {} (created r{}, modified r{}, version {}, lease {})",
        text(&pair.key),
        text(&pair.value),
        pair.create_revision,
        pair.mod_revision,
        pair.version,
        pair.lease
    )
}

/// Bytes for people: the first of them.
pub fn text(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 60;
    let head = bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii();
    if bytes.len() > SHOWN_MAX {
        format!("\"{head}…\" ({} bytes)", bytes.len())
    } else {
        format!("\"{head}\"")
    }
}
