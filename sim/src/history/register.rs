//! Histories of one register, and the search that decides whether they are linearizable.
//!
//! The search never looks at revisions: it only knows who asked what when, and what was answered
//! (Wing and Gong's search in the streaming form of Lowe: a set of configurations is carried along
//! the events). So an error in the revision witness, or in the tap on the log, cannot hide from it.
//!
//! Laws:
//!  1. A request takes effect at one instant between its invocation and its return; one without a
//!     return at any later instant or never.
//!  2. The register begins empty.
//!
//! Worked example: `c1 write 1 0 5` and `c2 read none 6 9` cannot be put in order: the write was over
//! when the read began.

use std::collections::BTreeSet;

use holdfast_core::query::{Answer, AnswerBody, Query};
use holdfast_core::request::{CompareTarget, TxnOp};

use super::{Outcome, Record};
use crate::pair::Pair;

/// What one request did, with what it was told; `None` where it was told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Saw this value.
    Read(Option<u64>),
    /// Set this value.
    Write(u64),
    /// Emptied the register, and whether there was something in it.
    Delete(Option<bool>),
    /// Set `new` if the register held `old`.
    Swap {
        /// What must be there.
        old: Option<u64>,
        /// What is set then.
        new: u64,
        /// Whether it was.
        done: Option<bool>,
    },
}

/// One request on the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub client: u64,
    /// What.
    pub action: Action,
    /// From when.
    pub invoked: u64,
    /// Until when; `None` when the outcome is unknown.
    pub returned: Option<u64>,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Legal,
    /// There is none: the access at this place could not be put in.
    Illegal(usize),
    /// The search would have taken too long.
    Undecided,
}

/// Value of the register, and which of the open accesses have taken effect.
type Configuration = (Option<u64>, u128);

/// Whether the accesses can be put in an order that explains every answer.
pub fn search(accesses: &[Access]) -> Verdict {
    let mut slots = Slots::default();
    let mut configurations: BTreeSet<Configuration> = [(None, 0)].into();
    for (_, is_return, place) in events(accesses) {
        if !is_return {
            if !slots.open(place) {
                return Verdict::Undecided;
            }
            continue;
        }
        let slot = slots.slot_of(place);
        let Some(next) = linearize(&configurations, &slots, accesses, slot) else {
            return Verdict::Undecided;
        };
        if next.is_empty() {
            return Verdict::Illegal(place);
        }
        configurations =
            next.into_iter().map(|(value, done)| (value, done & !(1 << slot))).collect();
        slots.close(slot);
    }
    Verdict::Legal
}

/// Invocations and returns in order of time; what happens at one instant is concurrent.
fn events(accesses: &[Access]) -> Vec<(u64, bool, usize)> {
    let mut events = Vec::new();
    for (place, access) in accesses.iter().enumerate() {
        events.push((access.invoked, false, place));
        events.extend(access.returned.map(|at| (at, true, place)));
    }
    events.sort();
    events
}

/// Extends every configuration by open accesses until the one in `slot` has taken effect.
fn linearize(
    from: &BTreeSet<Configuration>,
    slots: &Slots,
    accesses: &[Access],
    slot: usize,
) -> Option<BTreeSet<Configuration>> {
    let mut seen = from.clone();
    let mut frontier: Vec<Configuration> = from.iter().copied().collect();
    let mut complete = BTreeSet::new();
    while let Some((value, done)) = frontier.pop() {
        if done & (1 << slot) != 0 {
            complete.insert((value, done));
            continue;
        }
        for (other, place) in slots.all() {
            if done & (1 << other) != 0 {
                continue;
            }
            let Some(after) = accesses[place].action.apply(value) else { continue };
            let next = (after, done | 1 << other);
            if seen.insert(next) {
                frontier.push(next);
            }
        }
        if seen.len() > CONFIGURATIONS_MAX {
            return None;
        }
    }
    Some(complete)
}

/// Beyond this a search is given up.
const CONFIGURATIONS_MAX: usize = 50_000;

impl Action {
    /// The value afterwards, if the action can explain its answer on this value.
    fn apply(self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            Action::Read(seen) => (seen == value).then_some(value),
            Action::Write(new) => Some(Some(new)),
            Action::Delete(None) => Some(None),
            Action::Delete(Some(found)) => (found == value.is_some()).then_some(None),
            Action::Swap { old, new, done } => match (done, old == value) {
                (Some(said), holds) if said != holds => None,
                (_, true) => Some(Some(new)),
                (_, false) => Some(value),
            },
        }
    }
}

/// Open accesses, each in a bit of its own.
#[derive(Default)]
struct Slots(Vec<Option<usize>>);

impl Slots {
    fn open(&mut self, place: usize) -> bool {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(place);
            return true;
        }
        self.0.push(Some(place));
        self.0.len() <= 128
    }

    fn slot_of(&self, place: usize) -> usize {
        let found = self.0.iter().position(|slot| *slot == Some(place));
        found.expect("a return follows its invocation")
    }

    fn close(&mut self, slot: usize) {
        self.0[slot] = None;
    }

    fn all(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.0.iter().enumerate().filter_map(|(slot, place)| Some((slot, (*place)?)))
    }
}

/// The access that a record stands for, if it is one on a single register that may have happened.
pub fn access_of(record: &Record) -> Option<(Vec<u8>, Access)> {
    let answer = match &record.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Unknown | Outcome::Pending => None,
        Outcome::Rejected(_) => return None,
    };
    let (key, action) = match &record.query {
        Query::Put(put) => (&put.key, Action::Write(number(&put.value)?)),
        Query::Range(range) if !range.serializable && range.revision == 0 => {
            (&range.keys.start, Action::Read(read_answer(answer?)?))
        }
        Query::DeleteRange(delete) => (&delete.keys.start, Action::Delete(deleted(answer))),
        Query::Txn(txn) => {
            let compare = txn.compares.first()?;
            let old = match &compare.target {
                CompareTarget::Value(value) => Some(number(value)?),
                _ => None,
            };
            let Some(TxnOp::Put(put)) = txn.success.first() else { return None };
            let done = swapped(answer);
            (&put.key, Action::Swap { old, new: number(&put.value)?, done })
        }
        _ => return None,
    };
    let returned = answer.and(record.returned).map(|at| at.0);
    let client = record.client as u64;
    Some((key.to_vec(), Access { client, action, invoked: record.invoked.0, returned }))
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The value field of the only pair, without looking at its revisions.
fn read_answer(answer: &Answer) -> Option<Option<u64>> {
    let AnswerBody::Range(range) = &answer.body else { return None };
    match range.kvs.iter().next() {
        None => Some(None),
        Some(kv) if range.kvs.len() == 1 => Some(Some(number(&Pair::decode(kv)?.value)?)),
        Some(_) => None,
    }
}

fn deleted(answer: Option<&Answer>) -> Option<bool> {
    match &answer?.body {
        AnswerBody::DeleteRange(delete) => Some(delete.deleted > 0),
        _ => None,
    }
}

fn swapped(answer: Option<&Answer>) -> Option<bool> {
    match &answer?.body {
        AnswerBody::Txn(txn) => Some(txn.succeeded),
        _ => None,
    }
}

/// Reads a committed history: one access a line, `client action … invoked returned`; `#` begins a
/// comment, `?` stands for an unknown return, `none` for an empty register.
pub fn parse(text: &str) -> Result<Vec<Access>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines.filter(|line| !line.is_empty()).map(parse_line).collect()
}

fn parse_line(line: &str) -> Result<Access, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let wrong = || format!("cannot read {line:?}");
    let value = |word: &str| match word {
        "none" => Ok(None),
        _ => word.parse().map(Some).map_err(|_| wrong()),
    };
    let said = |word: &str| match word {
        "yes" => Ok(Some(true)),
        "no" => Ok(Some(false)),
        "?" => Ok(None),
        _ => Err(wrong()),
    };
    let (head, times) = words.split_at(words.len().saturating_sub(2));
    let action = match head {
        [_, "read", seen] => Action::Read(value(seen)?),
        [_, "write", new] => Action::Write(value(new)?.ok_or_else(wrong)?),
        [_, "delete", found] => Action::Delete(said(found)?),
        [_, "swap", old, new, done] => Action::Swap {
            old: value(old)?,
            new: value(new)?.ok_or_else(wrong)?,
            done: said(done)?,
        },
        _ => return Err(wrong()),
    };
    let [invoked, returned] = times else { return Err(wrong()) };
    Ok(Access {
        client: words[0].trim_start_matches('c').parse().map_err(|_| wrong())?,
        action,
        invoked: invoked.parse().map_err(|_| wrong())?,
        returned: match *returned {
            "?" => None,
            at => Some(at.parse().map_err(|_| wrong())?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Verdict {
        search(&parse(text).expect("the history is well formed"))
    }

    #[test]
    fn concurrent_accesses_may_take_effect_in_either_order() {
        for seen in ["none", "1"] {
            let history = format!("c1 write 1 0 10\nc2 read {seen} 5 6");
            assert_eq!(verdict(&history), Verdict::Legal);
        }
        assert_eq!(verdict("c1 write 1 0 10\nc2 read 2 5 6"), Verdict::Illegal(1));
    }

    #[test]
    fn an_unknown_write_may_take_effect_late_or_never_but_only_once() {
        let late = "c1 write 1 0 ?\nc2 read none 5 6\nc2 read 1 7 8";
        assert_eq!(verdict(late), Verdict::Legal);
        let twice = "c1 write 1 0 ?\nc2 read 1 5 6\nc2 delete yes 7 8\nc2 read 1 9 10";
        assert_eq!(verdict(twice), Verdict::Illegal(3));
    }

    #[test]
    fn of_two_swaps_from_one_value_one_fails() {
        let both = "c1 swap none 1 yes 0 9\nc2 swap none 2 yes 0 9";
        assert!(matches!(verdict(both), Verdict::Illegal(_)));
        assert_eq!(verdict("c1 swap none 1 yes 0 9\nc2 swap none 2 no 0 9"), Verdict::Legal);
    }
}
