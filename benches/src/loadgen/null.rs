//! A server that does nothing: it answers every call at once with the same prepared message, so that what
//! the generator reaches against it is the most that the generator can drive.
//!
//! One thread. It keeps nothing, checks nothing, and minds no window of its client's, which only this
//! generator's may be. Each change makes an event for each watch, as on a real server.
//!
//! Worked example: `Null::start(&config)?`, then the same config with `endpoints = vec![null.address()]`.

mod canned;
mod peer;

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use rustix::event::epoll;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use super::Config;
use canned::Canned;
use peer::Peer;

/// Events taken from the system at a time.
const EVENTS: usize = 256;
/// The listener's name among the sockets.
const LISTENER: u64 = u64::MAX;
/// Between two looks at whether to end.
const SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A running null server; dropping it ends it.
pub struct Null {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Null {
    /// Starts a server with answers that fit this run.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn start(config: &Config) -> Result<Null, String> {
        let failed = |error: &dyn std::fmt::Display| format!("null server: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        let poll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| failed(&error))?;
        epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)
            .map_err(|error| failed(&error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server {
            poll,
            listener,
            peers: Vec::new(),
            watches: Vec::new(),
            canned: Canned::new(config),
        };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || server.serve(&stopped));
        Ok(Null { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; the run that needed it has failed by itself.
            let _ = thread.join();
        }
    }
}

struct Server {
    poll: OwnedFd,
    listener: TcpListener,
    peers: Vec<Peer>,
    /// The connection and the stream of each watch.
    watches: Vec<(usize, u32)>,
    canned: Canned,
}

impl Server {
    fn serve(&mut self, stop: &AtomicBool) {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        while !stop.load(Relaxed) {
            let Ok((ready, _)) = epoll::wait(&self.poll, &mut events, Some(&SLEEP)) else {
                continue;
            };
            for event in ready {
                let (name, flags) = (event.data.u64(), event.flags);
                match name {
                    LISTENER => self.accept(),
                    nth => self.attend(nth as usize, flags.contains(EventFlags::OUT)),
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return, // nobody waits, or nobody can be served: the client will say so
            };
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            let nth = self.peers.len();
            let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
            let added = epoll::add(&self.poll, &socket, EventData::new_u64(nth as u64), flags);
            if ready.is_ok() && added.is_ok() {
                self.peers.push(Peer::new(socket));
            }
        }
    }

    fn attend(&mut self, nth: usize, writable: bool) {
        let Some(peer) = self.peers.get_mut(nth) else { return };
        let noticed = peer.attend(writable, &mut self.canned);
        self.watches.extend(noticed.watches.into_iter().map(|stream| (nth, stream)));
        if noticed.changes == 0 || self.watches.is_empty() {
            return;
        }
        for (nth, stream) in &self.watches {
            for _ in 0..noticed.changes {
                self.peers[*nth].tell(*stream, self.canned.event());
            }
        }
        for peer in &mut self.peers {
            peer.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::{Op, run};

    fn drive(mut config: Config) -> crate::loadgen::Report {
        let null = Null::start(&config).expect("a null server");
        config.endpoints = vec![null.address()];
        (config.conns, config.inflight) = (2, 4);
        (config.warmup, config.duration, config.keys) = (0.02, 0.1, 1000);
        run(&config).expect("a run")
    }

    #[test]
    fn every_op_is_answered_rightly() {
        let ops = [
            Op::Put,
            Op::Range,
            Op::RangeSerializable,
            Op::Cas,
            Op::Mixed,
            Op::Kubernetes,
            Op::Delete,
            Op::LeaseGrant,
            Op::LeaseKeepalive,
            Op::Load,
            Op::Compact,
        ];
        for op in ops {
            let report = drive(Config::new(op, &[]));
            assert_eq!(report.errors(), 0, "{op:?}: {report}");
            assert_eq!(report.tally.misses, 0, "{op:?}");
            assert!(report.tally.counted > 0, "{op:?}");
        }
    }

    #[test]
    fn long_ranges_and_counts_are_whole() {
        for (span, count_only) in [(1000, false), (1000, true)] {
            let report = drive(Config { span, count_only, ..Config::new(Op::Range, &[]) });
            assert_eq!((report.errors(), report.tally.misses), (0, 0), "{report}");
        }
    }

    #[test]
    fn each_change_reaches_each_watch() {
        let config = Config { watchers: 150, rate: 200.0, ..Config::new(Op::Put, &[]) };
        let report = drive(config);
        assert_eq!(report.errors(), 0, "{report}");
        assert!(report.events > 0 && report.events == report.events_expected);
    }
}
