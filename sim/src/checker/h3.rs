//! H3: no connection gets stuck, and none is forgotten. Once faults have ended, every call that can end
//! by itself has ended, and every ping is answered; when all calls are over, the server's memory holds
//! none of them; when it has been told to stop, all connections end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Checker, Scene, Seen};
use crate::caller::{Kind, Note};
use crate::clock::Moment;
use crate::wire::frame::Frame;

/// What was asked this long ago, in quiet times, is answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every connection still owes.
#[derive(Default)]
pub(super) struct NothingStuck(BTreeMap<u64, Line>);

#[derive(Default)]
struct Line {
    member: usize,
    calls: BTreeMap<u32, Moment>,
    pings: BTreeMap<[u8; 8], Moment>,
}

impl Checker for NothingStuck {
    fn id(&self) -> &'static str {
        "H3"
    }

    fn see(&mut self, scene: &Scene<'_>, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Line { connection, member, note } => {
                if **note == Note::Closed {
                    self.0.remove(connection);
                    return Ok(());
                }
                let line = self.0.entry(*connection).or_default();
                line.member = *member;
                line.take(scene.now, note);
                Ok(())
            }
            Seen::Settled => {
                for (connection, line) in &self.0 {
                    scene.compared();
                    let owed = line.owed(scene.now);
                    owed.map_err(|what| {
                        format!("connection {connection} to member {}: {what}", line.member)
                    })?;
                }
                Ok(())
            }
            Seen::Emptied { member, calls, watches, connections } => {
                scene.compared();
                if (*calls, *watches, *connections) == (0, 0, 0) {
                    return Ok(());
                }
                Err(format!(
                    "all is over, and member {member} still has {calls} calls, {watches} watch \
                     streams and {connections} connections"
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Line {
    fn take(&mut self, now: Moment, note: &Note) {
        match note {
            Note::Opened(stream, Kind::Unary | Kind::Asking) => {
                self.calls.insert(*stream, now);
            }
            Note::Reset(stream)
            | Note::Heard(Frame::Headers { stream, end: true, .. } | Frame::Reset { stream, .. }) =>
            {
                self.calls.remove(stream);
            }
            Note::Heard(Frame::Goaway { last, .. }) => {
                self.calls.split_off(&last.saturating_add(1));
            }
            Note::Ping(data) => {
                self.pings.insert(*data, now);
            }
            Note::Heard(Frame::Pong(data)) => {
                self.pings.remove(data);
            }
            _ => {}
        }
    }

    fn owed(&self, now: Moment) -> Result<(), String> {
        let old = |since: &Moment| now.since(*since) >= PATIENCE;
        if let Some((stream, since)) = self.calls.iter().find(|(_, since)| old(since)) {
            return Err(format!("stream {stream}, of {since}, has no end"));
        }
        match self.pings.values().find(|since| old(since)) {
            Some(since) => Err(format!("the ping of {since} has no answer")),
            None => Ok(()),
        }
    }
}
