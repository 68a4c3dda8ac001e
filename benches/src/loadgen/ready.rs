//! Single calls that wait for their answer: is a server ready, and who leads.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::conn::{Answers, Conn, Says};
use super::frame::Call;
use super::pb;

/// Between two attempts, and between two looks at a socket.
const PAUSE: Duration = Duration::from_millis(2);
const LOOK: Duration = Duration::from_micros(200);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);

/// Until the server answers one linearizable read.
///
/// # Errors
/// No such answer in time: what was the matter last.
pub fn wait_ready(address: SocketAddr, limit: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let read = ask(address, Call::Range, |out| pb::put_bytes(out, 1, b"ready?"));
        match read {
            Ok(_) => return Ok(()),
            Err(what) if begun.elapsed() > limit => {
                return Err(format!("{address} is not ready after {limit:?}: {what}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The member behind an address, and the leader that it knows.
///
/// # Errors
/// The server cannot be reached, or does not answer.
pub fn leader_of(address: SocketAddr) -> Result<(u64, u64), String> {
    let status = ask(address, Call::Status, |_| {})?;
    Ok((pb::number_of(pb::bytes_of(&status, 1), 2), pb::number_of(&status, 4)))
}

struct Waiting {
    message: Vec<u8>,
    end: Option<Result<(), String>>,
}

impl Answers for Waiting {
    fn message(&mut self, _: &mut Conn, _: usize, message: &[u8]) {
        self.message = message.to_vec();
    }

    fn ended(&mut self, _: &mut Conn, _: usize, end: Result<(), String>) {
        self.end = Some(end);
    }
}

fn ask(
    address: SocketAddr,
    call: Call,
    fill: impl FnOnce(&mut Vec<u8>),
) -> Result<Vec<u8>, String> {
    let mut conn = Conn::open(address, 1, 0).map_err(|error| format!("{address}: {error}"))?;
    let mut waiting = Waiting { message: Vec::new(), end: None };
    conn.call(0, (call, Says::Once), fill);
    let begun = Instant::now();
    while waiting.end.is_none() && begun.elapsed() < CALL {
        conn.ready(true, true, &mut waiting);
        if conn.is_closed() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    match waiting.end {
        Some(Ok(())) => Ok(waiting.message),
        Some(Err(what)) => Err(what),
        None => Err(format!("no answer in {CALL:?}")),
    }
}
