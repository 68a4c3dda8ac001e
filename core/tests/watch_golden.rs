//! Golden scripts of the watch hub: `tests/scripts/watch/*` tell its rules as dialogues.
//!
//! A line that starts with `> ` is a command, `#` a comment; the other lines are what the hub
//! answers. `UPDATE=1 cargo test -p holdfast-core watch_scripts` writes the answers anew; read the
//! difference before you believe it.
//!
//! ```text
//! > put a=1 b=2            one revision, published at once (unless held)
//! > delete a..c            a key or a range
//! > hold, > publish        collect revisions, then publish them together
//! > lose                   forget what is held without publishing: a gap
//! > announce               goes on with what was published without its events
//! > compact 5              publishes the mark without events (unless held)
//! > install                hand over a snapshot of what is held
//! > watch a..c start=3     also: s2 (stream), id=, prev, notify, fragment, noput, nodelete, *
//! > cancel 0, > progress   on stream s1 unless another is named
//! > wait 10                seconds pass, ticks are served
//! > poll                   until the stream has no more to say; `poll once` does one poll
//! > budget 10 1000         keys and bytes of each poll from now on
//! > options log_bytes=0    before everything else
//! ```

mod naive;
mod runner;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::kv::KeyValue;
use holdfast_core::mvcc::Budget;
use holdfast_core::request::KeyRange;
use holdfast_core::response::Event;
use holdfast_core::store::View;
use holdfast_core::time::Instant;
use holdfast_core::watch::{
    Hub, HubOptions, WatchCreate, WatchRequest, WatchResponse, WatchStreamId,
};
use naive::{NaiveStore, Write};

struct Runner {
    store: NaiveStore,
    hub: Hub,
    /// Of each poll.
    budget: Budget,
    now: Instant,
    /// Events that are written but not published, while holding.
    held: Option<Vec<Event>>,
}

/// The streams that have something to say, each once, by id.
fn ready(hub: &mut Hub) -> BTreeSet<WatchStreamId> {
    std::iter::from_fn(|| hub.next_ready()).collect()
}

impl Runner {
    fn new(options: HubOptions) -> Runner {
        let store = NaiveStore::new();
        let mut hub = Hub::new(options, store.mark());
        for stream in [1, 2] {
            hub.open(WatchStreamId(stream), Instant(0));
        }
        ready(&mut hub);
        Runner { store, hub, budget: Budget::unbounded(), now: Instant(0), held: None }
    }

    fn run(&mut self, command: &str) -> String {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let name = words.remove(0);
        let stream = WatchStreamId(if words.contains(&"s2") { 2 } else { 1 });
        words.retain(|word| !["s1", "s2"].contains(word));
        match name {
            "put" => self.write(words.iter().map(|word| put(word)).collect()),
            "delete" => self.write(words.iter().map(|word| Write::Delete(range(word))).collect()),
            "hold" => {
                self.held.get_or_insert_default();
                String::new()
            }
            "lose" => {
                self.held.take().map_or(String::new(), |lost| format!("lost {}\n", lost.len()))
            }
            "publish" => {
                let events = self.held.take().expect("the script holds something");
                self.publish(events)
            }
            "compact" => {
                self.store.compact(Revision(words[0].parse().expect("a revision")));
                match self.held {
                    Some(_) => String::new(),
                    None => self.publish(Vec::new()),
                }
            }
            "install" => {
                self.held = None;
                self.hub.restored(self.now, &self.store);
                self.ready()
            }
            "watch" => self.request(stream, WatchRequest::Create(create(&words))),
            "cancel" => {
                let id = words[0].parse().expect("an id");
                self.request(stream, WatchRequest::Cancel { id })
            }
            "progress" => self.request(stream, WatchRequest::Progress),
            "wait" => {
                self.now = self.now + Duration::from_secs(words[0].parse().expect("seconds"));
                self.hub.tick(self.now);
                self.ready()
            }
            "announce" => self.announce(),
            "poll" => self.poll(stream, words.contains(&"once")),
            "budget" => {
                let [keys, bytes] = [0, 1].map(|at| words[at].parse().expect("a number"));
                self.budget = Budget::new(keys, bytes);
                String::new()
            }
            "open" => {
                self.hub.open(stream, self.now);
                String::new()
            }
            "close" => {
                self.hub.close(stream);
                String::new()
            }
            _ => panic!("unknown command {command}"),
        }
    }

    fn write(&mut self, writes: Vec<Write>) -> String {
        let events = self.store.write(&writes);
        match &mut self.held {
            Some(held) => {
                held.extend(events);
                String::new()
            }
            None => self.publish(events),
        }
    }

    fn publish(&mut self, events: Vec<Event>) -> String {
        self.hub.published(self.now, events, self.store.mark());
        match self.hub.is_announcing() {
            true => "announcing\n".to_owned(),
            false => self.ready(),
        }
    }

    /// A part of what was published without its events.
    fn announce(&mut self) -> String {
        let mut budget = self.budget;
        self.hub.announce(&self.store, &mut budget).expect("the store is healthy");
        let more = if self.hub.is_announcing() { "announcing\n" } else { "" };
        more.to_owned() + &self.ready()
    }

    fn request(&mut self, stream: WatchStreamId, request: WatchRequest) -> String {
        self.hub.request(self.now, stream, request, &self.store);
        ready(&mut self.hub);
        String::new()
    }

    fn ready(&mut self) -> String {
        let ready = ready(&mut self.hub);
        if ready.is_empty() {
            return String::new();
        }
        let names: Vec<String> = ready.iter().map(WatchStreamId::to_string).collect();
        format!("ready {}\n", names.join(" "))
    }

    fn poll(&mut self, stream: WatchStreamId, once: bool) -> String {
        let mut text = String::new();
        loop {
            let mut out = Vec::new();
            let mut budget = self.budget;
            match self.hub.poll(stream, &self.store, &mut budget, &mut out) {
                Ok(()) => out.iter().for_each(|response| tell(response, &mut text)),
                Err(fault) => writeln!(text, "fault: {fault}").expect("strings take text"),
            }
            let more = ready(&mut self.hub).contains(&stream);
            if once && more {
                text.push_str("more\n");
            }
            if once || !more {
                return text;
            }
        }
    }
}

fn tell(response: &WatchResponse, text: &mut String) {
    let mut line = format!("#{} {}", response.id, response.revision);
    for (flag, name) in [
        (response.created, " created"),
        (response.canceled, " canceled"),
        (response.fragment, " fragment"),
    ] {
        if flag {
            line.push_str(name);
        }
    }
    if response.compact_revision != Revision(0) {
        write!(line, " compacted {}", response.compact_revision).expect("strings take text");
    }
    if !response.cancel_reason.is_empty() {
        write!(line, " \"{}\"", response.cancel_reason).expect("strings take text");
    }
    for event in &response.events {
        let kind = if event.delete { "delete" } else { "put" };
        write!(line, "\n  {kind} {}", show(&event.kv)).expect("strings take text");
        if let Some(prev) = &event.prev_kv {
            write!(line, " (was {})", show(prev)).expect("strings take text");
        }
    }
    text.push_str(&line);
    text.push('\n');
}

/// An encoded pair, and where it was written.
fn show(kv: &Bytes) -> String {
    let kv = KeyValue::decode(kv).expect("events hold encoded pairs");
    let text = String::from_utf8_lossy;
    match kv.version {
        0 => format!("{} {}", text(kv.key), kv.mod_revision),
        _ if kv.value.len() > 20 => {
            format!("{}=[{} bytes] {}", text(kv.key), kv.value.len(), kv.mod_revision)
        }
        _ => format!("{}={} {}", text(kv.key), text(kv.value), kv.mod_revision),
    }
}

/// `a=1`, or `a=*1000` for a value of so many bytes.
fn put(word: &str) -> Write {
    let (key, value) = word.split_once('=').expect("key=value");
    let value = match value.strip_prefix('*') {
        Some(len) => vec![b'x'; len.parse().expect("a length")],
        None => value.as_bytes().to_vec(),
    };
    Write::Put(key.as_bytes().to_vec(), value)
}

/// `a`, `a..c`, or `a..` for everything from `a` on.
fn range(word: &str) -> KeyRange {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    match word.split_once("..") {
        None => KeyRange::single(text(word)),
        Some((start, "")) => KeyRange::from_wire(text(start), Bytes::from_static(b"\0")),
        Some((start, end)) => KeyRange::from_wire(text(start), text(end)),
    }
}

fn create(words: &[&str]) -> WatchCreate {
    let number = |name: &str| {
        let found = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.map_or(0, |number| number.parse().expect("a number"))
    };
    WatchCreate {
        id: number("id"),
        keys: range(words[0]),
        start: number("start"),
        progress_notify: words.contains(&"notify"),
        no_put: words.contains(&"noput"),
        no_delete: words.contains(&"nodelete"),
        prev_kv: words.contains(&"prev"),
        fragment: words.contains(&"fragment"),
    }
}

fn options(words: &str) -> HubOptions {
    let mut options = HubOptions::default();
    for (name, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
        let value: usize = value.parse().expect("a number");
        match name {
            "log_bytes" => options.log_bytes = value,
            "responses" => options.stream_responses_max = value,
            "revisions" => options.catchup_revisions = value,
            "together" => options.catchup_watchers = value,
            "runs" => options.queue_runs_max = value,
            "fragment_bytes" => options.fragment_bytes = value,
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

#[test]
fn watch_scripts() {
    runner::check(&["watch"], 10, || {
        let mut runner = Runner::new(HubOptions::default());
        move |command: &str| {
            if let Some(words) = command.strip_prefix("options ") {
                // Before everything else: nothing is forgotten.
                runner = Runner::new(options(words));
                return Ok(Vec::new());
            }
            Ok(runner.run(command).lines().map(str::to_owned).collect())
        }
    });
}
