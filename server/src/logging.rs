//! Log lines: one JSON object each, with etcd's keys, from `tracing` events.
//!
//! `{"level":"info","ts":"2026-11-24T15:04:05.123456Z","caller":"server/worker.rs:42","msg":"…"}` and
//! then the event's fields. Errors go under `error`; durations as text, see [`took`].
//!
//! Leaves out rotation, the journal and the console format. Spans are not shown.
//!
//! Laws:
//!  1. `level`, `ts`, `caller` and `msg` are the first keys of every line, never empty, never twice.
//!  2. Logging never waits: lines go through a bounded queue to a thread of their own, and those that
//!     find it full are counted and reported in a line of their own.
//!  3. A sink that fails loses lines; it stops neither the process nor the other sinks.
//!  4. Of other crates only warnings and errors are shown.
//!
//! Worked example: `tracing::info!(name = "m1", took = %took(elapsed), "restored")` in
//! `server/src/boot.rs` becomes
//! `{"level":"info","ts":"…","caller":"server/boot.rs:7","msg":"restored","name":"m1","took":"1.5s"}`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

mod line;

pub use line::took;

/// `--log-level`: the least severe events that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// What an operator should be able to follow.
    Info,
    /// What may need attention.
    Warn,
    /// What went wrong.
    Error,
    /// Only the end of the process.
    Panic,
    /// Only the end of the process.
    Fatal,
}

impl FromStr for Level {
    type Err = ();

    fn from_str(text: &str) -> Result<Level, ()> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Level::Debug),
            "" | "info" => Ok(Level::Info),
            "warn" => Ok(Level::Warn),
            "error" => Ok(Level::Error),
            "dpanic" | "panic" => Ok(Level::Panic),
            "fatal" => Ok(Level::Fatal),
            _ => Err(()),
        }
    }
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            Level::Panic | Level::Fatal => LevelFilter::OFF,
        }
    }
}

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// The default.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Output {
    fn open(&self) -> Result<Sink, String> {
        match self {
            Output::Stderr => Ok(Box::new(io::stderr())),
            Output::Stdout => Ok(Box::new(io::stdout())),
            Output::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                file.map(|file| Box::new(file) as Sink).map_err(|error| {
                    format!(
                        "cannot open the log file {}: {error}: \
                         make its folder writable or change --log-outputs",
                        path.display()
                    )
                })
            }
        }
    }
}

/// Where lines go.
pub type Sink = Box<dyn Write + Send>;

/// Starts logging for the whole process.
///
/// # Errors
/// A log file cannot be opened; logging has been started before.
pub fn install(level: Level, outputs: &[Output]) -> Result<Logging, String> {
    let sinks = outputs.iter().map(Output::open).collect::<Result<Vec<_>, _>>()?;
    let (layer, logging) = start(level, sinks).map_err(|error| error.to_string())?;
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    Ok(logging)
}

/// A layer that logs to `sinks`, and the hold on its queue.
///
/// # Errors
/// The system gives no thread.
pub fn start(level: Level, sinks: Vec<Sink>) -> io::Result<(JsonLayer, Logging)> {
    let (queue, lines) = sync_channel(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer { sinks, lines, dropped: dropped.clone() };
    std::thread::Builder::new().name("log".into()).spawn(move || writer.run())?;
    let layer = JsonLayer { filter: level.filter(), queue: queue.clone(), dropped };
    Ok((layer, Logging { queue }))
}

/// What the queue carries.
enum Item {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// The hold on the log of a process that is about to end.
pub struct Logging {
    queue: SyncSender<Item>,
}

impl Logging {
    /// Waits until every line so far is written, but no longer than `patience`. Says whether they are.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        let mut item = Item::Flush(done);
        loop {
            match self.queue.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    item = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
        written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Turns events into lines.
pub struct JsonLayer {
    filter: LevelFilter,
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for JsonLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with("holdfast");
        let least = if ours { self.filter } else { self.filter.min(LevelFilter::WARN) };
        *metadata.level() <= least
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Item::Line(line::of(event, SystemTime::now()));
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
struct Writer {
    sinks: Vec<Sink>,
    lines: Receiver<Item>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(item) = self.lines.recv() {
            match item {
                Item::Line(line) => self.write(&line),
                Item::Flush(done) => drop(done.try_send(())),
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.write(&line::of_dropped(dropped, SystemTime::now()));
            }
        }
    }

    /// Law 3: there is nowhere to report a failure to.
    fn write(&mut self, line: &[u8]) {
        for sink in &mut self.sinks {
            let _ = sink.write_all(line).and_then(|()| sink.flush());
        }
    }
}

/// Bounds what waits for a slow sink: at about 200 bytes a line, 2 MiB.
const QUEUE_LINES: usize = 8192;

#[cfg(test)]
mod tests;
