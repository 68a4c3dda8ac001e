//! One thread: its connections, and the loop that drives them.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use rustix::event::epoll;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use super::conn::Conn;
use super::tally::Tally;
use super::values::Pattern;
use super::work::Work;
use super::{Config, now_ns, seconds, share};

/// How long calls under way at the end may take before they count as lost.
const GRACE: u64 = 15_000_000_000;
/// How long events may fail to come before they count as missing.
const EVENTS_GRACE: u64 = 3_000_000_000;
/// Between two attempts to connect again.
const RETRY: u64 = 100_000_000;
/// Longest sleep: before the clock starts, and after.
const SLEEP_WAITING: u64 = 500_000;
const SLEEP: u64 = 5_000_000;
/// Watches on a connection, unless told.
const WATCHES: usize = 100;
/// Events taken from the system at a time.
const EVENTS: usize = 256;

/// What the threads tell each other.
#[derive(Default)]
pub(super) struct Shared {
    pub watching: AtomicUsize,
    pub learned: AtomicUsize,
    pub events: AtomicU64,
    pub changes: AtomicU64,
    /// When the clock starts; 0 while that is not known.
    pub begin: AtomicU64,
    /// Whether the run cannot go on.
    pub broken: AtomicBool,
}

struct Worker<'a> {
    config: &'a Config,
    shared: &'a Shared,
    work: Work<'a>,
    poll: OwnedFd,
    conns: Vec<Conn>,
    /// The thread's number among all, and how many there are.
    thread: (usize, usize),
    /// Nanoseconds between two requests of an open loop; 0 in a closed one, and when the next is due.
    interval: u64,
    due: u64,
    retry: u64,
    stopped: u64,
    /// Events seen so far, and when the last one came.
    seen: (u64, u64),
}

/// Runs this thread's connections until the measured time, or the work, is over.
pub(super) fn run(
    config: &Config,
    shared: &Shared,
    pattern: &Pattern,
    thread: (usize, usize),
) -> Result<Tally, String> {
    let poll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    let interval = match config.rate {
        rate if rate > 0.0 => (thread.1 as f64 / rate * 1e9) as u64,
        _ => 0,
    };
    let mut worker = Worker {
        config,
        shared,
        work: Work::new(config, shared, pattern, thread),
        poll,
        conns: Vec::new(),
        thread,
        interval,
        due: 0,
        retry: 0,
        stopped: 0,
        seen: (0, 0),
    };
    let result = worker.connect().and_then(|()| worker.drive());
    if result.is_err() {
        shared.broken.store(true, Relaxed);
    }
    result.map(|()| worker.finish())
}

impl Worker<'_> {
    fn connect(&mut self) -> Result<(), String> {
        for (number, slots) in self.layout().into_iter().enumerate() {
            let mut conn = self.open(number, slots)?;
            self.work.prepare(&mut conn);
            conn.flush(&mut self.work);
            self.conns.push(conn);
        }
        Ok(())
    }

    /// How many slots each connection has: first those that call, then those that watch.
    fn layout(&self) -> Vec<usize> {
        let calling = share(usize::from(self.config.conns), self.thread);
        let watchers = share(self.config.watchers, self.thread);
        let watching = match self.config.watch_conns {
            0 => watchers.div_ceil(WATCHES),
            conns => share(conns, self.thread).max(1).min(watchers),
        };
        let mut layout = vec![usize::from(self.config.inflight); calling];
        layout.extend((0..watching).map(|nth| share(watchers, (nth, watching))));
        layout
    }

    fn address(&self, number: usize) -> SocketAddr {
        let before = (0..self.thread.0).map(|other| {
            let thread = (other, self.thread.1);
            share(usize::from(self.config.conns), thread)
        });
        let nth = before.sum::<usize>() + number;
        self.config.endpoints[nth % self.config.endpoints.len()]
    }

    fn open(&self, number: usize, slots: usize) -> Result<Conn, String> {
        let address = self.address(number);
        let conn = Conn::open(address, slots, number)
            .map_err(|error| format!("connect to {address}: {error}"))?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poll, conn.socket(), EventData::new_u64(number as u64), flags)
            .map_err(|error| format!("epoll: {error}"))?;
        Ok(conn)
    }

    fn drive(&mut self) -> Result<(), String> {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        while !self.shared.broken.load(Relaxed) {
            let now = now_ns();
            self.start_clock(now);
            self.stop_clock(now);
            self.start_idle(now);
            if self.is_finished(now) {
                break;
            }
            self.reconnect(now);
            let sleep = self.sleep();
            let ready = match epoll::wait(&self.poll, &mut events, Some(&sleep)) {
                Ok((ready, _)) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(format!("epoll: {error}")),
            };
            for event in ready {
                let (nth, flags) = (event.data.u64() as usize, event.flags);
                let conn = &mut self.conns[nth];
                let readable = flags != EventFlags::OUT;
                conn.ready(flags.contains(EventFlags::OUT), readable, &mut self.work);
            }
        }
        Ok(())
    }

    fn start_clock(&mut self, now: u64) {
        let begin = self.shared.begin.load(Relaxed);
        if !self.work.measured.is_empty() || begin == 0 {
            return;
        }
        let end = match self.config.total() {
            Some(_) => u64::MAX,
            None => begin + seconds(self.config.duration).as_nanos() as u64,
        };
        self.work.measured = begin..end;
        self.due = now + self.interval * self.thread.0 as u64 / self.thread.1 as u64;
        for conn in &self.conns {
            if !self.work.is_watcher(conn.number()) {
                self.work.rest(conn);
            }
        }
    }

    fn stop_clock(&mut self, now: u64) {
        let work = &mut self.work;
        let done = work.is_exhausted() && work.under_way == 0;
        let running = !work.measured.is_empty() && !work.over;
        if running && (now >= work.measured.end || done) {
            work.over = true;
            self.stopped = now;
            self.seen = (0, now);
        }
    }

    fn start_idle(&mut self, now: u64) {
        if self.work.measured.is_empty() || self.work.over || self.work.idle.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        if self.interval == 0 {
            for (conn, slot) in std::mem::take(&mut self.work.idle) {
                self.work.issue(&mut self.conns[conn], slot, now);
                touched.push(conn);
            }
        }
        while self.interval > 0
            && self.due <= now
            && !self.work.is_exhausted()
            && let Some((conn, slot)) = self.work.idle.pop()
        {
            if self.conns[conn].is_closed() {
                continue;
            }
            self.work.issue(&mut self.conns[conn], slot, self.due);
            touched.push(conn);
            self.due += self.interval;
        }
        touched.sort_unstable();
        touched.dedup();
        for conn in touched {
            self.conns[conn].flush(&mut self.work);
        }
    }

    /// Whether all that was asked has been answered, and all events have come, or never will.
    fn is_finished(&mut self, now: u64) -> bool {
        if !self.work.over {
            return false;
        }
        let events = self.shared.events.load(Relaxed);
        if events != self.seen.0 {
            self.seen = (events, now);
        }
        let complete = events >= self.config.events_expected(self.shared.changes.load(Relaxed));
        let complete = complete || now - self.seen.1 > EVENTS_GRACE;
        (self.work.under_way == 0 && complete) || now - self.stopped > GRACE
    }

    fn reconnect(&mut self, now: u64) {
        if now < self.retry || !self.conns.iter().any(Conn::is_closed) {
            return;
        }
        self.retry = now + RETRY;
        if self.work.over {
            return;
        }
        for number in 0..self.conns.len() {
            if !self.conns[number].is_closed() {
                continue;
            }
            match self.open(number, self.conns[number].slots()) {
                Ok(mut conn) => {
                    self.work.resume(&mut conn);
                    conn.flush(&mut self.work);
                    self.conns[number] = conn;
                }
                Err(what) => self.work.tally.fail(what),
            }
        }
    }

    /// How long to wait for sockets. An open loop waits here instead, to the microsecond: epoll rounds
    /// up to milliseconds, which would count as the server's latency.
    fn sleep(&self) -> Timespec {
        let nanoseconds = |ns: u64| {
            let tv_nsec = i64::try_from(ns).expect("at most milliseconds");
            Timespec { tv_sec: 0, tv_nsec }
        };
        if self.work.measured.is_empty() {
            return nanoseconds(SLEEP_WAITING);
        }
        if self.interval == 0 || self.work.over || self.work.idle.is_empty() {
            return nanoseconds(SLEEP);
        }
        let until_due = self.due.saturating_sub(now_ns()).min(SLEEP);
        let mut sockets = [PollFd::new(&self.poll, PollFlags::IN)];
        // What became ready, or that a signal came, is seen by the epoll that follows.
        let _ = rustix::event::poll(&mut sockets, Some(&nanoseconds(until_due)));
        nanoseconds(0)
    }

    /// What came of it; calls that are still under way have been lost.
    fn finish(mut self) -> Tally {
        let lost = self.work.under_way as u64;
        if lost > 0 {
            self.work.tally.errors.insert("no answer until the end".to_owned(), lost);
        }
        self.work.tally
    }
}
