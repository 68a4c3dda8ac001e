//! Range, Put, DeleteRange and Compact.

use super::Draw;
use crate::twin::step::Step;

/// A step.
pub fn step(draw: &mut Draw) -> Step {
    match draw.below(100) {
        0..40 => Step::call("KV.Put", put(draw)),
        40..80 => Step::call("KV.Range", range(draw)),
        80..94 => Step::call("KV.DeleteRange", delete(draw)),
        94..97 => Step::call("KV.Compact", compact(draw)),
        97..99 => Step::call("KV.RangeStream", range(draw)),
        _ => hash(draw),
    }
}

/// HashKV, while no pair can hold a lease that a server chose, by which hashes would differ.
pub fn hash(draw: &mut Draw) -> Step {
    if draw.known.leases > 0 {
        return Step::call("KV.Range", range(draw));
    }
    Step::call("Maintenance.HashKV", format!("revision:{}", draw.revision()))
}

/// The fields of a Put.
pub fn put(draw: &mut Draw) -> String {
    let ignores_value = draw.chance(8);
    let mut text = format!("key:\"{}\"", draw.key());
    if !ignores_value || draw.chance(10) {
        text += &format!(",value:\"{}\"", draw.value());
    }
    if ignores_value {
        text += ",ignore_value:true";
    }
    text += &draw.maybe(30, |_| "prev_kv:true".to_owned());
    text += &draw.maybe(6, |_| "ignore_lease:true".to_owned());
    text += &draw.maybe(4, |draw| format!("lease:{}", draw.pick(&[7, -1, 1, i64::MAX])));
    text
}

/// The fields of a DeleteRange.
pub fn delete(draw: &mut Draw) -> String {
    // Whole ranges are seldom deleted, or there would be nothing to read.
    let mut text = if draw.chance(75) { format!("key:\"{}\"", draw.key()) } else { draw.range() };
    text += &draw.maybe(40, |_| "prev_kv:true".to_owned());
    text
}

/// The fields of a Compact.
pub fn compact(draw: &mut Draw) -> String {
    let mut text = format!("revision:{}", draw.revision());
    text += &draw.maybe(30, |_| "physical:true".to_owned());
    text
}

/// The fields of a Range, with every option.
pub fn range(draw: &mut Draw) -> String {
    let mut text = draw.range();
    text +=
        &draw.maybe(30, |draw| format!("limit:{}", draw.pick(&[1, 2, 3, 5, 100, -1, i64::MAX])));
    text += &draw.maybe(30, |draw| format!("revision:{}", draw.revision()));
    if draw.chance(25) {
        text += &format!(",sort_order:{}", draw.pick(&[0, 1, 2, 2, 1, 3, -1]));
        text += &format!(",sort_target:{}", draw.pick(&[0, 1, 2, 3, 4, 4, 5]));
    } else {
        text += &draw.maybe(5, |draw| format!("sort_target:{}", draw.pick(&[1, 2, 3, 4])));
    }
    text += &draw.maybe(30, |_| "serializable:true".to_owned());
    text += &draw.maybe(12, |_| "keys_only:true".to_owned());
    text += &draw.maybe(10, |_| "count_only:true".to_owned());
    for bound in
        ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"]
    {
        text += &draw.maybe(6, |draw| format!("{bound}:{}", draw.revision()));
    }
    text
}
