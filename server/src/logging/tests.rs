//! Tests of log lines and of their way to the sinks.

use std::sync::Mutex;
use std::sync::mpsc::Sender;

use serde_json::Value;
use tracing::{debug, error, info, warn};

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics holding it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panics holding it").clone()).expect("UTF-8")
    }
}

fn logged(level: Level, events: impl FnOnce()) -> Vec<Value> {
    let sink = Shared::default();
    let (layer, logging) = start(level, vec![Box::new(sink.clone())]).expect("starts");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
    assert!(logging.flush(Duration::from_secs(10)));
    sink.text().lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}

#[test]
fn a_line_has_etcd_s_keys_first_and_then_the_fields() {
    let sink = Shared::default();
    let (layer, logging) = start(Level::Info, vec![Box::new(sink.clone())]).expect("starts");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let elapsed = Duration::from_millis(1500);
        info!(name = "m\"1", revision = -3, whole = true, took = %took(elapsed), "ready to serve");
    });
    assert!(logging.flush(Duration::from_secs(10)));
    let text = sink.text();
    let (head, tail) = text.split_once("\"caller\"").expect("has a caller");
    assert!(head.starts_with(r#"{"level":"info","ts":"20"#), "{head}");
    let (caller, tail) = tail.split_once(',').expect("goes on");
    assert!(caller.starts_with(r#":"logging/tests.rs:"#), "{caller}");
    assert_eq!(
        tail,
        "\"msg\":\"ready to serve\",\"name\":\"m\\\"1\",\"revision\":-3,\"whole\":true,\
         \"took\":\"1.5s\"}\n"
    );
}

#[test]
fn levels_filter_and_other_crates_are_quieter() {
    let all = || {
        debug!("d");
        info!("i");
        warn!("w");
        error!("e");
        info!(target: "h2::frame", "theirs");
        warn!(target: "h2::frame", "their warning");
    };
    let messages = |level: Level| -> Vec<String> {
        let lines = logged(level, all);
        lines.iter().map(|line| line["msg"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(messages(Level::Debug), ["d", "i", "w", "e", "their warning"]);
    assert_eq!(messages(Level::Info), ["i", "w", "e", "their warning"]);
    assert_eq!(messages(Level::Warn), ["w", "e", "their warning"]);
    assert_eq!(messages(Level::Error), ["e"]);
    assert!(messages(Level::Panic).is_empty());
    assert!(messages(Level::Fatal).is_empty());
}

#[test]
fn errors_tell_their_causes_and_nothing_is_empty() {
    let cause = io::Error::new(io::ErrorKind::StorageFull, "no space");
    let fault = io::Error::other(cause);
    let lines = logged(Level::Info, || {
        error!(error = &fault as &dyn std::error::Error, "write failed");
        info!(msg = "twice", ratio = f64::NAN);
    });
    assert_eq!(lines[0]["error"], "no space");
    assert_eq!(lines[0]["level"], "error");
    assert_ne!(lines[1]["msg"], "");
    assert_eq!(lines[1]["field.msg"], "twice");
    assert_eq!(lines[1]["ratio"], "NaN");
}

#[test]
fn a_long_value_is_cut_between_characters() {
    let lines = logged(Level::Info, || info!(key = "é".repeat(100_000), "x"));
    assert_eq!(lines[0]["key"].as_str().expect("text").len(), 8192);
}

/// Lets no byte through until it is told to.
struct Stuck(Receiver<()>, Shared);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error means that the gate is open for good.
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_sink_holds_nobody_up_and_the_loss_is_reported() {
    let (gate, closed): (Sender<()>, _) = std::sync::mpsc::channel();
    let sink = Shared::default();
    let stuck: Sink = Box::new(Stuck(closed, sink.clone()));
    let (layer, logging) = start(Level::Info, vec![stuck]).expect("starts");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for number in 0..QUEUE_LINES + 100 {
            info!(number, "x");
        }
    });
    assert!(!logging.flush(Duration::from_millis(20)), "nothing is written yet");
    drop(gate);
    while !logging.flush(Duration::from_secs(10)) {}
    let text = sink.text();
    assert!(text.contains("log lines were dropped"), "{}", &text[..500]);
    // The writer had taken one line from the queue, or none yet.
    assert!(text.contains("\"count\":99}") || text.contains("\"count\":100}"));
}

/// Fails always.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_broken_sink_leaves_the_others_alone() {
    let sink = Shared::default();
    let sinks: Vec<Sink> = vec![Box::new(Broken), Box::new(sink.clone())];
    let (layer, logging) = start(Level::Info, sinks).expect("starts");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info!("one");
        info!("two");
    });
    assert!(logging.flush(Duration::from_secs(10)));
    assert_eq!(sink.text().lines().count(), 2);
}

#[test]
fn an_output_that_cannot_be_opened_says_what_to_do() {
    let output = Output::File("/nonexistent/log".into());
    let error = output.open().err().expect("cannot be opened");
    assert!(error.contains("/nonexistent/log"), "{error}");
    assert!(error.ends_with("make its folder writable or change --log-outputs"), "{error}");
}
