//! The threads of a process's further edges: how many, how connections come to them, how they end.
//!
//! Clients are accepted on the driver's thread, and what speaks HTTP/2 is handed to the edge with the
//! fewest connections, with the bytes read so far.
//!
//! Leaves out what a worker does ([`crate::edge_worker`]).
//!
//! Laws: (1) a thread that panics ends the process, with a message; (2) the threads end with this
//! value, and are waited for; (3) what waits for a thread is bounded: a connection that finds too many
//! others on the way is served by the thread that has accepted it.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::id::EDGES_MAX;
use holdfast_core::store::Fault;
use holdfast_core::watch::HubCounts;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::LocalSet;
use tracing::info;

use crate::auth::vault::ThreadVault;
use crate::edge_worker::{Counted, EdgePost, EdgeSeed, EdgeWorker};
use crate::member::Spread;
use crate::router::least_loaded;
use crate::runtime::Runtime;
use crate::tokio_runtime::TokioRuntime;

/// The most that `--experimental-edge-threads` may ask for.
pub const EDGE_THREADS_MAX: usize = EDGES_MAX - 1;

/// Above this more threads are only made when they are asked for: what a driver can order is spent
/// by fewer.
const CHOSEN_MAX: usize = 8;

/// Orders on their way to a thread.
const ORDERS_MAX: usize = 1024;

/// How long metrics wait for a thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many threads a machine with so many cores gets, unless somebody says so: none on two, since
/// handing work to another thread costs more there than it gains; else half of the cores, for the
/// driver, the kernel's share of each request, checkpoints and hashes want the other half.
pub fn chosen(cores: usize) -> usize {
    if cores <= 2 { 0 } else { (cores / 2).min(CHOSEN_MAX) }
}

/// The cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

enum Order {
    Serve(std::net::TcpStream, Bytes, Counted),
    Count(oneshot::Sender<HubCounts>),
}

struct Thread {
    orders: Option<mpsc::Sender<Order>>,
    post: Arc<EdgePost>,
    handle: Option<JoinHandle<()>>,
}

/// The fault that ends the process, and its bell.
#[derive(Default)]
struct Failure {
    fault: Mutex<Option<Fault>>,
    bell: Notify,
}

/// See the module.
pub struct EdgeThreads {
    threads: Vec<Thread>,
    failure: Arc<Failure>,
}

impl EdgeThreads {
    /// Starts a thread for each seed; `runtime` has the member's clock.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(seeds: Vec<EdgeSeed>, runtime: TokioRuntime) -> Result<EdgeThreads, Fault> {
        info!(
            threads = seeds.len(),
            cores = cores(),
            "edge threads beside the one that is the driver's too"
        );
        let mut all = EdgeThreads { threads: Vec::new(), failure: Arc::default() };
        for seed in seeds {
            let thread = all.thread(seed, runtime);
            all.threads.push(thread.map_err(|error| {
                Fault::new("starting a thread that serves clients", "the process", error)
            })?);
        }
        Ok(all)
    }

    fn thread(&self, seed: EdgeSeed, runtime: TokioRuntime) -> std::io::Result<Thread> {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let (post, bell) = (seed.post.clone(), seed.post.clone());
        let vault = ThreadVault::start(move || bell.ring())?;
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // As on the driver's thread.
            .event_interval(31)
            .build()?;
        let witness = Witness { failure: self.failure.clone(), edge: seed.number };
        let thread = std::thread::Builder::new().name(format!("holdfast-edge{}", seed.number));
        let handle = thread.spawn(move || {
            let _witness = witness;
            LocalSet::new().block_on(&tokio, async move {
                let worker = EdgeWorker::new(seed, runtime, Box::new(vault));
                tokio::select! {
                    biased;
                    () = obey(taken, &worker, runtime) => {}
                    () = worker.run() => {}
                }
            });
        })?;
        Ok(Thread { orders: Some(orders), post, handle: Some(handle) })
    }

    /// Tells all workers to stop.
    pub fn stop(&self) {
        self.threads.iter().for_each(|thread| thread.post.stop());
    }

    /// Connections that the threads serve.
    pub fn connections(&self) -> usize {
        self.threads.iter().map(|thread| thread.post.connections()).sum()
    }

    /// Adds what is watched at the threads' edges. One that does not answer in time is left out.
    pub async fn add_watched(&self, counts: &mut HubCounts) {
        for thread in &self.threads {
            let (sender, receiver) = oneshot::channel();
            let Some(orders) = &thread.orders else { continue };
            if orders.try_send(Order::Count(sender)).is_err() {
                continue;
            }
            if let Ok(Ok(own)) = tokio::time::timeout(PATIENCE, receiver).await {
                counts.streams += own.streams;
                counts.watchers += own.watchers;
                counts.behind += own.behind;
            }
        }
    }

    /// Waits for a thread that panics.
    pub async fn failed(&self) -> Fault {
        loop {
            let fault = self.failure.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
            match fault {
                Some(fault) => return fault,
                None => self.failure.bell.notified().await,
            }
        }
    }
}

impl Spread<TcpStream> for EdgeThreads {
    fn give(&self, own: usize, io: TcpStream, first: Bytes) -> Option<(TcpStream, Bytes)> {
        let counts = self.threads.iter().map(|thread| thread.post.connections());
        let edge = least_loaded(std::iter::once(own).chain(counts));
        let thread = match edge {
            0 => return Some((io, first)),
            _ => &self.threads[edge - 1],
        };
        // A socket that cannot change hands is broken.
        let io = io.into_std().ok()?;
        let order = Order::Serve(io, first, Counted::new(&thread.post));
        match thread.orders.as_ref()?.try_send(order) {
            Ok(()) => None,
            Err(refused) => match refused.into_inner() {
                Order::Serve(io, first, _) => Some((TcpStream::from_std(io).ok()?, first)),
                Order::Count(_) => None,
            },
        }
    }
}

impl Drop for EdgeThreads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.orders = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // One that has panicked has said so.
                drop(handle.join());
            }
        }
    }
}

/// Carries out a thread's orders until there can be no more.
async fn obey(
    mut orders: mpsc::Receiver<Order>,
    worker: &std::rc::Rc<EdgeWorker<TokioRuntime>>,
    runtime: TokioRuntime,
) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve(io, first, counted) => {
                // A socket that cannot be waited for is closed.
                let Ok(io) = TcpStream::from_std(io) else { continue };
                let worker = worker.clone();
                runtime.spawn(async move {
                    worker.serve(io, first).await;
                    drop(counted);
                });
            }
            // The scraper may have gone.
            Order::Count(asker) => drop(asker.send(worker.watched())),
        }
    }
}

/// Tells when its thread panics; where panics abort, there is nobody left to be told.
struct Witness {
    failure: Arc<Failure>,
    edge: usize,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let fault =
            Fault::new("serving clients", format!("edge thread {}", self.edge), "it panicked");
        *self.failure.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        self.failure.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_get_no_threads_and_large_ones_a_bounded_number() {
        assert_eq!([1, 2, 3, 4, 8, 16, 200].map(chosen), [0, 0, 1, 2, 4, 8, 8]);
    }

    #[test]
    fn a_thread_that_panics_is_told_of() {
        let failure = Arc::new(Failure::default());
        let witness = Witness { failure: failure.clone(), edge: 3 };
        let thread = std::thread::spawn(move || {
            let _witness = witness;
            std::panic::resume_unwind(Box::new("planted"));
        });
        assert!(thread.join().is_err());
        let all = EdgeThreads { threads: Vec::new(), failure };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(all.failed()).place, "edge thread 3");
    }
}
