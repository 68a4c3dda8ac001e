//! One thread: its connections, and the loop that drives them.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use super::Config;
use super::conn::Conn;
use super::report::Part;
use super::work::Work;

/// How long calls under way at the end may take before they count as lost.
const GRACE: Duration = Duration::from_secs(10);

/// Events taken from the system at a time.
const EVENTS: usize = 256;

/// Runs connections `thread`, `thread + threads`, … until `measured` is over.
pub(super) fn run(
    config: &Config,
    (thread, threads): (u16, u16),
    measured: Range<Instant>,
) -> Result<Part, String> {
    let poll = epoll::create(CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    let end = measured.end;
    let mut work = Work::new(config, u64::from(thread), measured);
    let mut conns = Vec::new();
    for nth in (thread..config.conns).step_by(usize::from(threads)) {
        let address = config.endpoints[usize::from(nth) % config.endpoints.len()];
        let conn = Conn::open(address, usize::from(config.inflight), conns.len())
            .map_err(|error| format!("connect to {address}: {error}"))?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&poll, conn.socket(), EventData::new_u64(conns.len() as u64), flags)
            .map_err(|error| format!("epoll: {error}"))?;
        conns.push(conn);
    }
    for conn in &mut conns {
        for slot in 0..usize::from(config.inflight) {
            work.issue(conn, slot);
        }
        conn.flush(&mut work);
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    let mut events = [const { MaybeUninit::uninit() }; EVENTS];
    while work.under_way() > 0 && Instant::now() < end + GRACE {
        let ready = epoll::wait(&poll, &mut events, Some(&timeout));
        let (ready, _) = match ready {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("epoll: {error}")),
        };
        for event in ready {
            let (nth, flags) = (event.data.u64() as usize, event.flags);
            let conn = &mut conns[nth];
            conn.ready(flags.contains(EventFlags::OUT), flags != EventFlags::OUT, &mut work);
        }
    }
    Ok(work.finish())
}
