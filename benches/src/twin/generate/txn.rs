//! Transactions: compares of every kind, branches of every operation, nesting, and what is refused in them.

use super::{Draw, kv};
use crate::twin::step::Step;

/// A step.
pub fn step(draw: &mut Draw) -> Step {
    match draw.below(100) {
        0..12 => Step::call("KV.Put", kv::put(draw)),
        12..16 => Step::call("KV.DeleteRange", kv::delete(draw)),
        16..18 => Step::call("KV.Compact", kv::compact(draw)),
        18..20 => Step::call("KV.Txn", wide(draw)),
        20..24 => Step::call("KV.Range", "key:\"\\000\",range_end:\"\\000\""),
        _ => Step::call("KV.Txn", txn(draw, 0)),
    }
}

/// The fields of a transaction.
pub fn txn(draw: &mut Draw, depth: usize) -> String {
    let compares = list(draw, &[0, 1, 1, 2, 3], compare);
    let branch = |draw: &mut Draw| list(draw, &[0, 1, 1, 2, 3, 4], |draw| op(draw, depth));
    let (success, failure) = (branch(draw), branch(draw));
    format!("compare:[{compares}],success:[{success}],failure:[{failure}]")
}

fn list(draw: &mut Draw, counts: &[usize], mut of: impl FnMut(&mut Draw) -> String) -> String {
    let count = draw.pick(counts);
    (0..count).map(|_| format!("{{{}}}", of(draw))).collect::<Vec<_>>().join(",")
}

fn compare(draw: &mut Draw) -> String {
    let result = draw.pick(&[0, 0, 1, 2, 3, 4]);
    let target = draw.pick(&[0, 1, 2, 3, 3, 4, 5]);
    let mut text = format!("result:{result},target:{target}");
    // Mostly the union's member that fits the target.
    let union = if draw.chance(92) { target } else { draw.below(5) };
    text += &match union {
        0 => format!(",version:{}", draw.pick(&[0, 1, 1, 2, 3, -1])),
        1 => format!(",create_revision:{}", draw.revision()),
        2 => format!(",mod_revision:{}", draw.revision()),
        3 => format!(",value:\"{}\"", draw.pick(&["v0", "v1", "v2", "v3", "", "zz"])),
        4 => format!(",lease:{}", draw.pick(&[0, 1, 7])),
        _ => String::new(),
    };
    let key = if draw.chance(75) { format!("key:\"{}\"", draw.key()) } else { draw.range() };
    format!("{text},{key}")
}

fn op(draw: &mut Draw, depth: usize) -> String {
    match draw.below(100) {
        0..45 => format!("request_put:{{{}}}", put(draw, depth)),
        45..70 => format!("request_range:{{{}}}", kv::range(draw)),
        70..86 => format!("request_delete_range:{{{}}}", delete(draw, depth)),
        86..98 if depth < 3 => format!("request_txn:{{{}}}", txn(draw, depth + 1)),
        98..100 => String::new(),
        _ => format!("request_range:{{key:\"{}\"}}", draw.key()),
    }
}

/// etcd does not see that a put lies in an open range, nor that a nested transaction removes what an earlier one has put,
/// which is listed; so removals have an end, and nested ones have keys of their own.
fn delete(draw: &mut Draw, depth: usize) -> String {
    let text = kv::delete(draw);
    if depth > 0 {
        return format!("key:\"{}\",prev_kv:true", draw.pick(&NESTED));
    }
    if text.contains("range_end:\"\\000\"") {
        "key:\"a/\",range_end:\"a0\"".to_owned()
    } else {
        text
    }
}

const NESTED: [&str; 2] = ["d", "cb"];

fn put(draw: &mut Draw, depth: usize) -> String {
    let text = kv::put(draw);
    let reserved = NESTED.iter().find(|key| text.starts_with(&format!("key:\"{key}\"")));
    match reserved {
        Some(key) if depth > 0 => text.replacen(key, "ca", 1),
        _ => text,
    }
}

/// As many operations as are allowed, one more, or one fewer; in a nested one the allowance is what its parent leaves.
fn wide(draw: &mut Draw) -> String {
    let ops = |count: usize| {
        let op = |nth| format!("{{request_range:{{key:\"{nth}\",count_only:true}}}}");
        (0..count).map(op).collect::<Vec<_>>().join(",")
    };
    let count = draw.pick(&[126, 127, 128, 129]);
    match draw.below(3) {
        0 => format!("success:[{}]", ops(count)),
        1 => format!("failure:[{}],success:[{{request_put:{{key:\"a\"}}}}]", ops(count)),
        _ => format!("success:[{{request_txn:{{success:[{}]}}}}]", ops(count)),
    }
}
