//! Which queue carries a member's disk orders out: a ring of the kernel, or a pool of threads.
//!
//! `auto` takes the ring where the kernel lets it, and the pool elsewhere: containers often forbid
//! io_uring. One line of the log says which, and why. Leaves out the queues themselves.
//!
//! Worked example: in a container whose seccomp profile forbids `io_uring_setup`, `auto` logs
//! `disk driver` with `driver: pool` and the kernel's words, and `io_uring` refuses to start.

use std::rc::Rc;
use std::sync::Arc;

use holdfast_core::store::Fault;
use holdfast_storage::disk::{DiskQueue, FileDisk, Pool};
use tokio::sync::Notify;
use tracing::info;

/// `--experimental-disk-driver`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskDriver {
    /// The ring if it works, the pool if not.
    #[default]
    Auto,
    /// The ring, or nothing.
    IoUring,
    /// The pool.
    Pool,
}

impl DiskDriver {
    /// The choice of this name.
    pub fn parse(name: &str) -> Option<DiskDriver> {
        match name {
            "auto" => Some(DiskDriver::Auto),
            "io_uring" => Some(DiskDriver::IoUring),
            "pool" => Some(DiskDriver::Pool),
            _ => None,
        }
    }

    /// Starts the queue that is chosen; `wake` is rung when an order has ended. Must be called in a
    /// local task of the runtime that will drive the queue.
    ///
    /// # Errors
    /// The ring was demanded, and does not work.
    pub fn start(
        self,
        disk: Arc<FileDisk>,
        wake: &Arc<Notify>,
    ) -> Result<Rc<dyn DiskQueue>, Fault> {
        let reason = match self {
            DiskDriver::Pool => "chosen by --experimental-disk-driver".to_owned(),
            DiskDriver::Auto | DiskDriver::IoUring => match ring(disk.clone(), wake) {
                Ok(queue) => {
                    info!(driver = "io_uring", reason = "a test write succeeded", "disk driver");
                    return Ok(queue);
                }
                Err(error) if self == DiskDriver::IoUring => {
                    return Err(Fault::new(
                        "starting the disk driver",
                        "--experimental-disk-driver=io_uring",
                        format!("{error}; choose auto or pool"),
                    ));
                }
                Err(error) => format!("io_uring is not to be had: {error}"),
            },
        };
        info!(driver = "pool", reason, "disk driver");
        Ok(Rc::new(Pool::new(disk, ringer(wake))))
    }
}

fn ringer(wake: &Arc<Notify>) -> Box<dyn Fn() + Send + Sync> {
    let wake = wake.clone();
    Box::new(move || wake.notify_one())
}

/// A ring whose completions the runtime waits for as it waits for sockets.
#[cfg(target_os = "linux")]
fn ring(disk: Arc<FileDisk>, wake: &Arc<Notify>) -> std::io::Result<Rc<dyn DiskQueue>> {
    use holdfast_storage::disk::Uring;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    let uring = Rc::new(Uring::new(disk, ringer(wake))?);
    #[expect(deprecated, reason = "its successor wants a proof that an OwnedFd gives by its type")]
    let event = AsyncFd::with_interest(uring.event()?, Interest::READABLE)?;
    let (watched, wake) = (Rc::downgrade(&uring), wake.clone());
    tokio::task::spawn_local(async move {
        while let Ok(mut rung) = event.readable().await {
            // Not read: each ring is an edge of its own.
            rung.clear_ready();
            let Some(uring) = watched.upgrade() else { return };
            if uring.look() {
                wake.notify_one();
            }
        }
    });
    Ok(uring)
}

#[cfg(not(target_os = "linux"))]
fn ring(_: Arc<FileDisk>, _: &Arc<Notify>) -> std::io::Result<Rc<dyn DiskQueue>> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "this system has none"))
}
