//! Watch streams: watchers from now, from the past, from before a compaction and from the future; filters, prev_kv,
//! fragments, progress, and cancelling.
//!
//! Everything is gathered before anything is asked whose answer depends on whether a watcher has caught up: how long
//! that takes is nobody's promise.

use super::{Draw, kv, txn};
use crate::twin::step::{Act, Step};

const STREAMS: [&str; 3] = ["w1", "w2", "w3"];

/// Which streams are open.
#[derive(Debug, Default)]
pub struct Watching {
    open: Vec<&'static str>,
    count: usize,
}

impl Watching {
    /// A few steps that end in a look at what has come.
    pub fn steps(&mut self, draw: &mut Draw) -> Vec<Step> {
        self.count += 1;
        let mut steps = Vec::new();
        let count = draw.below(4) + 1;
        for _ in 0..count {
            let step = if draw.chance(45) { self.stream(draw) } else { change(draw) };
            // When a watcher catches up its messages tell the revision of that time.
            let catches_up = step.message().contains("start_revision");
            steps.push(step);
            if catches_up {
                steps.push(Act::Gather.into());
            }
        }
        if self.count.is_multiple_of(40) {
            steps.extend(large(draw));
        }
        steps.push(Act::Gather.into());
        if draw.chance(25) && !self.open.is_empty() {
            let name = draw.pick(&self.open);
            steps.push(Step::send(name, "progress_request:{}"));
            steps.push(Act::Gather.into());
        }
        steps
    }

    fn stream(&mut self, draw: &mut Draw) -> Step {
        let name = draw.pick(&STREAMS);
        if !self.open.contains(&name) {
            self.open.push(name);
            return Step::open(name, "Watch.Watch", create(draw));
        }
        match draw.below(100) {
            0..60 => Step::send(name, create(draw)),
            60..85 => Step::send(name, format!("cancel_request:{{watch_id:{}}}", watch_id(draw))),
            85..90 => Step::send(name, ""),
            90..93 => Act::Close(name.to_owned()).into(),
            93..96 => {
                self.open.retain(|open| *open != name);
                Act::Cancel(name.to_owned()).into()
            }
            _ => change(draw),
        }
    }
}

fn watch_id(draw: &mut Draw) -> i64 {
    draw.pick(&[0, 1, 2, 3, 4, 5, 7, 8, -1, 100])
}

fn create(draw: &mut Draw) -> String {
    let mut text = draw.range();
    text += &draw.maybe(50, |draw| format!("start_revision:{}", draw.revision()));
    text += &draw.maybe(15, |draw| format!("watch_id:{}", watch_id(draw)));
    text += &draw.maybe(35, |_| "prev_kv:true".to_owned());
    text +=
        &draw.maybe(20, |draw| format!("filters:[{}]", draw.pick(&["0", "1", "0,1", "7", "0,0"])));
    text += &draw.maybe(20, |_| "progress_notify:true".to_owned());
    text += &draw.maybe(20, |_| "fragment:true".to_owned());
    format!("create_request:{{{text}}}")
}

fn change(draw: &mut Draw) -> Step {
    match draw.below(100) {
        0..55 => Step::call("KV.Put", kv::put(draw)),
        55..75 => Step::call("KV.DeleteRange", kv::delete(draw)),
        75..93 => Step::call("KV.Txn", txn::txn(draw, 2)),
        93..96 => Step::call("KV.Compact", kv::compact(draw)),
        _ => Step::call("KV.Range", kv::range(draw)),
    }
}

/// More than fits into one message: pieces for who has asked for them, all of it for who has not.
fn large(draw: &mut Draw) -> Vec<Step> {
    let value = "$fill(900000)";
    let from = draw.known.revision + 1;
    let put = |key: &str| Step::call("KV.Put", format!("key:\"big/{key}\",value:\"{value}\""));
    let watch = |fragment: bool| {
        let range = format!("key:\"big/\",range_end:\"big0\",start_revision:{from},prev_kv:true");
        let text = format!("create_request:{{{range},fragment:{fragment}}}");
        Step::open(if fragment { "f1" } else { "f2" }, "Watch.Watch", text)
    };
    let txn = "success:[{request_put:{key:\"big/1\",value:\"$fill(700000)\"}},\
               {request_put:{key:\"big/2\",value:\"$fill(700000)\"}}]";
    let mut steps: Vec<Step> = ["1", "2", "3"].map(put).into();
    steps.extend([watch(true), watch(false), Act::Gather.into()]);
    steps.extend([Step::call("KV.Txn", txn), Act::Gather.into()]);
    steps.extend(["f1", "f2"].map(|name| Act::Cancel(name.to_owned()).into()));
    steps.push(Step::call("KV.DeleteRange", "key:\"big/\",range_end:\"big0\""));
    steps
}
