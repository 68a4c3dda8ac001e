//! Ends the process when a seed does not end: a livelock of the system or of the simulator would
//! otherwise only look like a slow machine. Time is counted in looks, a second apart, so that a process that was
//! stopped for a while, or whose machine slept, is not taken for one that is stuck.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A seed that takes longer than this is stuck; it usually takes a fraction of a second.
pub const PATIENCE: Duration = Duration::from_secs(120);

const LOOK: Duration = Duration::from_secs(1);

/// Does `work`, and ends the process with exit code 3, after naming the seed, if it takes too long.
pub fn watched<T>(seed: u64, work: impl FnOnce() -> T) -> T {
    let (done, waits) = channel::<()>();
    let dog = std::thread::spawn(move || {
        for _ in 0..PATIENCE.as_secs() {
            if waits.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
        eprintln!("seed {seed} has not ended after {PATIENCE:?}: livelock");
        std::process::exit(3);
    });
    let result = work();
    drop(done);
    dog.join().expect("the watchdog does not panic");
    result
}
