//! The judgement at the end: what is stored against what was acknowledged, and one member against
//! another.
//!
//! Leaves out what can be seen while the test runs ([`history`](crate::history)).
//!
//! Laws that are checked:
//!  1. An acknowledged single is there with its value and its revision, unless its removal was tried; one
//!     whose removal was acknowledged is not there.
//!  2. Nothing is there that nobody wrote.
//!  3. Every acknowledged swap is an ancestor of its register's final value, at the revision that was
//!     acknowledged: two swaps of one state, or a lost one, would leave the line.
//!  4. No two pairs have the same revision: each write was a request of its own.
//!  5. All members hold the same pairs at the same revision.
//!
//! Worked example: a register read as `swap 9` at r40 whose swap 9 was made from r33 written by swap 4:
//! swaps 9 and 4 and what swap 4 was made from are its line; an acknowledged swap 7 outside is lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{
    History, MISSED, Outcome, register_key, shown, single_key, single_of, swap_of, text,
};
use crate::proto::mvccpb::KeyValue;

/// Problems that are named at most; one is enough to fail.
const PROBLEMS_MAX: usize = 20;

/// Judges what one member holds at the end. `pairs` are in key order.
pub fn judge(history: &History, pairs: &[KeyValue]) -> Vec<String> {
    let by_key: BTreeMap<&[u8], &KeyValue> =
        pairs.iter().map(|pair| (&pair.key[..], pair)).collect();
    let mut problems = strangers(history, pairs);
    for connection in 0..history.singles.len() {
        for number in 0..history.singles[connection].len() {
            let key = single_key(connection, number);
            let pair = by_key.get(&key[..]).copied();
            if let Some(problem) = history.single_problem(connection, number, pair) {
                problems.push(format!("found {problem}"));
            }
        }
    }
    for register in 0..history.registers {
        let pair = by_key.get(&register_key(register)[..]).copied();
        problems.extend(judge_register(history, register, pair));
    }
    let mut revisions = BTreeMap::new();
    for pair in pairs {
        if let Some(other) = revisions.insert(pair.mod_revision, &pair.key) {
            let (key, revision) = (text(&pair.key), pair.mod_revision);
            problems.push(format!("{key} and {} were both written at r{revision}", text(other)));
        }
    }
    problems.truncate(PROBLEMS_MAX);
    problems
}

/// Where two members differ. Both are in key order.
pub fn compare(left: (&str, &[KeyValue]), right: (&str, &[KeyValue])) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut ours, mut theirs) = (left.1.iter().peekable(), right.1.iter().peekable());
    while problems.len() < PROBLEMS_MAX {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(our), Some(their)) => our.key.cmp(&their.key),
        };
        let our = if order.is_le() { ours.next() } else { None };
        let their = if order.is_ge() { theirs.next() } else { None };
        if our != their {
            let shown = |pair: Option<&KeyValue>| pair.map_or("nothing".to_owned(), shown);
            problems.push(format!(
                "{} has {} where {} has {}",
                left.0,
                shown(our),
                right.0,
                shown(their)
            ));
        }
    }
    problems
}

/// Keys of no kind that this test writes.
fn strangers(history: &History, pairs: &[KeyValue]) -> Vec<String> {
    let registers: BTreeSet<_> = (0..history.registers).map(register_key).collect();
    let known = |pair: &&KeyValue| match single_of(&pair.key) {
        Some((connection, number)) => {
            let singles = history.singles.get(connection).map_or(0, Vec::len);
            number < singles && single_key(connection, number) == pair.key
        }
        None => registers.contains(&pair.key),
    };
    let strange = pairs.iter().filter(|pair| !known(pair));
    strange.map(|pair| format!("nobody wrote {}", shown(pair))).collect()
}

fn judge_register(history: &History, register: usize, pair: Option<&KeyValue>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut line = BTreeSet::new();
    let mut at = pair.map(|pair| (pair.mod_revision, swap_of(&pair.value)));
    while let Some((revision, id)) = at {
        let swap = id.and_then(|id| history.swaps.get(id as usize).map(|swap| (id, swap)));
        let Some((id, swap)) = swap.filter(|(_, swap)| swap.register == register) else {
            problems.push(format!("register {register} had a value at r{revision} of no swap"));
            break;
        };
        if let Outcome::Acked { revision: acked, .. } = swap.outcome
            && acked != revision
        {
            problems.push(format!("swap {id} is stored at r{revision}: {swap:?}"));
        }
        // Each step leads to an earlier revision, so the walk ends.
        if !line.insert(id) || swap.before >= revision {
            problems.push(format!("swap {id} follows itself at r{revision}: {swap:?}"));
            break;
        }
        at = (swap.before > 0).then_some((swap.before, swap.parent));
    }
    if pair.is_some_and(|pair| pair.version != line.len() as i64) && problems.is_empty() {
        problems.push(format!("register {register} was swapped {} times: {pair:?}", line.len()));
    }
    for (id, swap) in (0..).zip(&history.swaps) {
        let acked = matches!(swap.outcome, Outcome::Acked { revision, .. } if revision != MISSED);
        if acked && swap.register == register && !line.contains(&id) {
            problems
                .push(format!("acknowledged swap {id} of register {register} is lost: {swap:?}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{single_value, swap_value};
    use bytes::Bytes;

    fn pair(key: Bytes, value: Bytes, revision: i64) -> KeyValue {
        KeyValue {
            key,
            value,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        }
    }

    /// Three singles at r2, r3, unknown; the second removed at r4; a register swapped at r5 and r6.
    fn world() -> (History, Vec<KeyValue>) {
        let mut history = History::new(1, 1);
        for revision in [2, 3] {
            let number = history.begin_put(0);
            history.acked_put((0, number), revision, revision - 1);
        }
        history.begin_put(0);
        history.begin_delete((0, 1));
        history.acked_delete((0, 1), (4, true), 3);
        let first = history.begin_swap(0, 0, None);
        history.acked_swap(first, 5, 4);
        let second = history.begin_swap(0, 5, Some(first));
        history.acked_swap(second, 6, 5);
        let mut register = pair(register_key(0), swap_value(second), 6);
        register.create_revision = 5;
        register.version = 2;
        (history, vec![register, pair(single_key(0, 0), single_value(0, 0), 2)])
    }

    fn only_problem(history: &History, pairs: &[KeyValue]) -> String {
        let problems = judge(history, pairs);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn what_was_acknowledged_is_right() {
        let (history, mut pairs) = world();
        assert!(history.broken.is_empty(), "{:?}", history.broken);
        assert_eq!(judge(&history, &pairs), Vec::<String>::new());
        pairs.push(pair(single_key(0, 2), single_value(0, 2), 7));
        assert_eq!(judge(&history, &pairs), Vec::<String>::new(), "an unknown put may be there");
    }

    #[test]
    fn a_lost_single_is_named() {
        let (history, pairs) = world();
        let problem = only_problem(&history, &pairs[..1]);
        assert!(problem.contains("nothing at \"u/00/0000000\""), "{problem}");
    }

    #[test]
    fn a_removed_single_that_is_back_is_named() {
        let (history, mut pairs) = world();
        pairs.push(pair(single_key(0, 1), single_value(0, 1), 3));
        assert!(only_problem(&history, &pairs).contains("after its acknowledged removal"));
    }

    #[test]
    fn a_wrong_value_or_revision_is_named() {
        let (history, pairs) = world();
        let mut wrong = pairs.clone();
        wrong[1].value = single_value(0, 1);
        assert!(only_problem(&history, &wrong).contains("which should be"));
        let mut wrong = pairs;
        (wrong[1].create_revision, wrong[1].mod_revision) = (9, 9);
        assert!(only_problem(&history, &wrong).contains("which should be"));
    }

    #[test]
    fn a_key_that_nobody_wrote_is_named() {
        let (history, mut pairs) = world();
        pairs.push(pair(single_key(0, 3), single_value(0, 3), 9));
        assert!(only_problem(&history, &pairs).contains("nobody wrote"));
    }

    #[test]
    fn a_swap_that_left_the_line_is_named() {
        let (mut history, pairs) = world();
        let lost = history.begin_swap(0, 5, Some(0));
        history.acked_swap(lost, 7, 6);
        assert!(
            only_problem(&history, &pairs).contains("acknowledged swap 2 of register 0 is lost")
        );
    }

    #[test]
    fn members_that_differ_are_named() {
        let (_, pairs) = world();
        assert_eq!(compare(("m1", &pairs), ("m2", &pairs)), Vec::<String>::new());
        let problems = compare(("m1", &pairs), ("m2", &pairs[1..]));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("m2 has nothing"), "{problems:?}");
        let mut other = pairs.clone();
        other[1].lease = 3;
        assert_eq!(compare(("m1", &pairs), ("m2", &other)).len(), 1);
    }

    #[test]
    fn revisions_that_go_back_are_seen_at_once() {
        let (mut history, _) = world();
        let number = history.begin_put(0);
        history.acked_put((0, number), 6, 6);
        assert_eq!(history.broken.len(), 1, "{:?}", history.broken);
        history.saw_single((0, 0), (5, None), 6);
        assert_eq!(
            history.broken.len(),
            3,
            "an old revision, and a lost key: {:?}",
            history.broken
        );
    }
}
