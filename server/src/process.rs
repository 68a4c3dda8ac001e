//! A member as a process: the real disk, the real network, signals.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::status::Role;
use holdfast_core::store::Fault;
use holdfast_storage::disk::FileDisk;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::auth::vault::ThreadVault;
use crate::disk_driver::DiskDriver;
use crate::edge_threads::EdgeThreads;
use crate::http::Surface;
use crate::member::{Disks, Member, MemberConfig};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::probe::{HttpGate, MemberProbe, listen_for_metrics};
use crate::tokio_runtime::TokioRuntime;

/// How long a leader that stops waits for another to take over.
const HANDOVER: Duration = Duration::from_millis(1200);

/// How long a member that stops waits for its open calls, and then for its clients to have read their
/// answers and left; a little more than a connection gives its calls to end.
const DRAIN: Duration = Duration::from_secs(6);

/// How long a member that stops waits for its checkpoint. Without one the next start replays the log.
const SAVE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Debug)]
pub enum Ended {
    /// By this signal, after it has stopped properly.
    Signal(i32),
    /// By a fault: what it did can no longer be trusted.
    Fault(Fault),
}

/// What a process adds to a member.
pub struct ProcessConfig {
    /// The member.
    pub member: MemberConfig,
    /// `--experimental-disk-driver`.
    pub disk_driver: DiskDriver,
    /// `--listen-metrics-urls`, as `host:port`.
    pub listen_metrics: Vec<String>,
}

/// Runs a member on `disk` until a signal or a fault ends it.
///
/// # Errors
/// What prevents it from starting.
pub fn run(
    disk: Arc<FileDisk>,
    config: ProcessConfig,
    observer: Rc<dyn Observer>,
    metrics: Rc<Metrics>,
) -> Result<Ended, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Many frames are read between two looks at the timers and the event loop.
        .event_interval(31)
        .build()
        .map_err(|error| Fault::new("starting the event loop", "the process", error))?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, supervise(disk, config, observer, metrics))
}

async fn supervise(
    disk: Arc<FileDisk>,
    config: ProcessConfig,
    observer: Rc<dyn Observer>,
    metrics: Rc<Metrics>,
) -> Result<Ended, Fault> {
    let signals = wait_for_signal()
        .map_err(|error| Fault::new("listening for signals", "the process", error))?;
    tokio::pin!(signals);
    let wake = Arc::new(Notify::new());
    let queue = config.disk_driver.start(disk.clone(), &wake)?;
    for note in disk.notes() {
        observer.warn(&note);
    }
    let bell = wake.clone();
    let vault = ThreadVault::start(move || bell.notify_one())
        .map_err(|error| Fault::new("starting the thread that hashes", "the process", error))?;
    let disks = Disks { disk, queue, wake };
    let runtime = TokioRuntime::new();
    let member = Member::start(runtime, disks, Box::new(vault), config.member, observer).await?;
    let threads = Rc::new(EdgeThreads::start(member.take_further(), runtime)?);
    let probe = Rc::new(MemberProbe::new(member.sessions.clone(), threads.clone(), metrics));
    let scraped = Rc::new(HttpGate::new(probe.clone(), Surface::Metrics));
    for address in &config.listen_metrics {
        listen_for_metrics(runtime, scraped.clone(), address).await?;
    }
    let gate = Rc::new(HttpGate::new(probe, Surface::Client));
    tokio::select! {
        biased;
        signal = &mut signals => return Ok(Ended::Signal(signal)),
        () = member.stopped.notified() => {}
        fault = threads.failed() => return Ok(Ended::Fault(fault)),
        served = member.serve_clients(gate, threads.clone()) => {
            served?;
            tokio::select! {
                biased;
                signal = &mut signals => {
                    stop(&member, &threads).await;
                    return Ok(Ended::Signal(signal));
                }
                () = member.stopped.notified() => {}
                fault = threads.failed() => return Ok(Ended::Fault(fault)),
            }
        }
    }
    let fault = member.fault.take();
    Ok(Ended::Fault(fault.expect("the driver leaves its fault before it rings")))
}

/// Leadership goes first, then the open calls end, then what was applied is saved, then the process may.
async fn stop(member: &Member<TokioRuntime>, threads: &EdgeThreads) {
    member.sessions.borrow_mut().hand_over();
    member.sessions.borrow_mut().stop();
    member.streams.drain();
    threads.stop();
    let leads = || member.sessions.borrow().view().status().role == Role::Leader;
    let alone = member.peers.connected() == 0;
    wait_until(HANDOVER, || alone || !leads()).await;
    wait_until(DRAIN, || member.streams.connections() + threads.connections() == 0).await;
    wait_until(SAVE, || member.sessions.borrow().view().status().is_saved()).await;
}

async fn wait_until(patience: Duration, done: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !done() && start.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn wait_for_signal() -> io::Result<impl Future<Output = i32>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    })
}
