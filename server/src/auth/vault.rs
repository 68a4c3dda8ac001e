//! What must not be guessed, and what takes long: random bytes, the wall clock, password hashes and
//! signatures, behind a seam.
//!
//! A hash takes tens of milliseconds by design, so it is made in a thread of its own, of low priority
//! ([`ThreadVault`]). Worlds that must be replayable give an [`InlineVault`].
//!
//! Laws:
//!  1. Work is answered once, under its number, in any order.
//!  2. Whoever submits bounds how much is under way.
//!
//! Worked example: `submit(7, Work::Verify { .. })`; later, after the edge was woken, `reap` gives
//! `(7, Done::Verified(true))`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_core::auth::Secret;
use holdfast_core::rng::Rng;
use holdfast_core::time::Instant;
use ring::rand::{SecureRandom, SystemRandom};

use super::jwt::{Claims, Signer};

/// Something that takes long.
#[derive(Debug)]
pub enum Work {
    /// Hash a new password.
    Hash {
        /// At most [`PASSWORD_BYTES_MAX`](super::PASSWORD_BYTES_MAX) bytes.
        password: Secret,
        /// bcrypt's, between 4 and 31.
        cost: u32,
        /// Unique for each hash.
        salt: [u8; 16],
    },
    /// Compare a password with a hash.
    Verify {
        /// As given.
        password: Secret,
        /// As stored.
        hash: Secret,
    },
    /// Sign a token.
    Sign {
        /// What it says.
        claims: Claims,
        /// With which key.
        signer: Signer,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// The hash.
    Hashed(Secret),
    /// Whether they belong together.
    Verified(bool),
    /// The token; `None` when the key cannot sign.
    Signed(Option<Secret>),
}

/// See the module.
pub trait Vault {
    /// Fills `bytes` with what nobody can guess.
    fn draw(&mut self, bytes: &mut [u8]);

    /// Seconds since 1970.
    fn unix_seconds(&self) -> u64;

    /// Begins some work.
    fn submit(&mut self, now: Instant, number: u64, work: Work);

    /// Gives what is done.
    fn reap(&mut self, now: Instant, done: &mut Vec<(u64, Done)>);

    /// When there is something to reap without the edge having been woken for it.
    fn deadline(&self) -> Instant {
        Instant::NEVER
    }
}

impl Work {
    /// Does it; this takes long.
    fn perform(self) -> Done {
        match self {
            Work::Hash { password, cost, salt } => {
                let parts = bcrypt::hash_with_salt(&password.0, cost, salt);
                // The cost was checked, and nothing else can be wrong with it.
                let parts = parts.expect("a cost between 4 and 31 is one of bcrypt's");
                // etcd's prefix; the algorithm is the same.
                let text = parts.format_for_version(bcrypt::Version::TwoA);
                Done::Hashed(text.as_str().into())
            }
            Work::Verify { password, hash } => {
                let hash = str::from_utf8(&hash.0).unwrap_or_default();
                // A hash that is none, as of a password that was taken away, matches nothing.
                Done::Verified(bcrypt::verify(&password.0, hash).unwrap_or(false))
            }
            Work::Sign { claims, signer } => Done::Signed(signer.sign(&claims)),
        }
    }
}

/// One thread that works through what is submitted.
pub struct ThreadVault {
    random: SystemRandom,
    orders: Sender<(u64, Work)>,
    done: Receiver<(u64, Done)>,
}

impl ThreadVault {
    /// Starts the thread; it rings `wake` after each piece of work, and ends with the vault.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(wake: impl Fn() + Send + 'static) -> std::io::Result<ThreadVault> {
        let (orders, taken) = channel::<(u64, Work)>();
        let (finished, done) = channel();
        let thread = std::thread::Builder::new().name("holdfast-vault".to_owned());
        thread.spawn(move || {
            // Serving goes before hashing; where the system forbids it, they share.
            let _ = rustix::process::setpriority_process(None, PRIORITY);
            for (number, work) in taken {
                if finished.send((number, work.perform())).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(ThreadVault { random: SystemRandom::new(), orders, done })
    }
}

/// Behind everything else of the process.
const PRIORITY: i32 = 10;

impl Vault for ThreadVault {
    fn draw(&mut self, bytes: &mut [u8]) {
        // A token that could be guessed would be worse than none.
        self.random.fill(bytes).expect("the kernel gives random bytes");
    }

    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn submit(&mut self, _: Instant, number: u64, work: Work) {
        self.orders.send((number, work)).expect("the thread lives as long as its vault");
    }

    fn reap(&mut self, _: Instant, done: &mut Vec<(u64, Done)>) {
        done.extend(self.done.try_iter());
    }
}

/// For worlds that are replayed: everything comes from a seed, work takes a drawn time of the world's
/// clock and next to nothing of the machine's, and hashes are no more than fingerprints.
pub struct InlineVault {
    rng: Rng,
    /// Seconds since 1970 at the clock's zero.
    epoch: u64,
    now: Instant,
    under_way: Vec<(Instant, u64, Work)>,
}

impl InlineVault {
    /// A vault of its own for each seed.
    pub fn new(seed: u64) -> InlineVault {
        let (now, under_way) = (Instant(0), Vec::new());
        InlineVault { rng: Rng::new(seed), epoch: 1_700_000_000, now, under_way }
    }
}

/// Longest time that a simulated hash takes, in microseconds.
const INLINE_US_MAX: u64 = 80_000;

impl Vault for InlineVault {
    fn draw(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn unix_seconds(&self) -> u64 {
        self.epoch + self.now.0 / 1_000_000_000
    }

    fn submit(&mut self, now: Instant, number: u64, work: Work) {
        let takes = Duration::from_micros(self.rng.between(200, INLINE_US_MAX));
        self.under_way.push((now + takes, number, work));
    }

    fn reap(&mut self, now: Instant, done: &mut Vec<(u64, Done)>) {
        self.now = now;
        for (at, number, work) in std::mem::take(&mut self.under_way) {
            if at > now {
                self.under_way.push((at, number, work));
                continue;
            }
            let result = match work {
                Work::Hash { password, salt, .. } => Done::Hashed(fingerprint(&salt, &password)),
                Work::Verify { password, hash } => {
                    let salt = hash.0.get(..16).and_then(|salt| salt.try_into().ok());
                    let matches = |salt: [u8; 16]| fingerprint(&salt, &password) == hash;
                    Done::Verified(salt.is_some_and(matches))
                }
                sign @ Work::Sign { .. } => sign.perform(),
            };
            done.push((number, result));
        }
    }

    fn deadline(&self) -> Instant {
        let next = self.under_way.iter().map(|(at, _, _)| *at).min();
        next.unwrap_or(Instant::NEVER)
    }
}

fn fingerprint(salt: &[u8; 16], password: &Secret) -> Secret {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in salt.iter().chain(&password.0[..]) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Secret([&salt[..], &hash.to_le_bytes()].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(password: &str, hash: &str) -> bool {
        match (Work::Verify { password: password.into(), hash: hash.into() }).perform() {
            Done::Verified(matches) => matches,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hashes_are_those_of_gos_bcrypt() {
        let x = "x".repeat(80);
        for (password, hash) in [
            ("secret", "$2a$04$VVDqjKIAGlgQA5AhhCAkAuup5dxuK9.G1k.BofMxzOK.GTTes1q9u"),
            ("", "$2a$04$Ksc3LGlnKfUv5OmWVKnER.E3pv/yXuxLtmZwt.t1RCtA.RsLH4i9u"),
            ("a\0b", "$2a$04$sI/fZUiDt7fozJZbYEs9o.nDHoANn3rh2wf5blrsApE19ULDG53eG"),
            (&x[..72], "$2a$04$grg9PaqRU7uBazVZZpplxejCW3rcxYO4scR9n9VdnUr0AJvl/lPLW"),
            // Like Go's, a comparison looks at 72 bytes.
            (&x, "$2a$04$grg9PaqRU7uBazVZZpplxejCW3rcxYO4scR9n9VdnUr0AJvl/lPLW"),
        ] {
            assert!(verify(password, hash), "{password:?}");
            assert!(!verify("other", hash), "{password:?}");
        }
        let salt = *b"0123456789abcdef";
        let work = Work::Hash { password: "secret".into(), cost: 4, salt };
        let Done::Hashed(hash) = work.perform() else { panic!("a hash was ordered") };
        let text = str::from_utf8(&hash.0).expect("bcrypt's alphabet");
        assert!(text.starts_with("$2a$04$"), "{text}");
        assert!(verify("secret", text) && !verify("secres", text) && !verify("", text));
        for not_a_hash in ["", "$2a$04$", "plain", "\u{fe}"] {
            assert!(!verify("", not_a_hash) && !verify("secret", not_a_hash), "{not_a_hash}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let work = Work::Verify { password: "hunter2".into(), hash: "$2a$04$abc".into() };
        let printed = format!("{work:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("abc"), "{printed}");
    }

    #[test]
    fn a_thread_answers_each_piece_of_work_under_its_number() {
        let (rung, bell) = channel();
        let mut vault =
            ThreadVault::start(move || rung.send(()).expect("the test waits")).expect("a thread");
        for number in 0..3u64 {
            let (password, salt) = (Secret::from("x"), [number as u8; 16]);
            vault.submit(Instant(0), number, Work::Hash { password, cost: 4, salt });
        }
        let mut done = Vec::new();
        while done.len() < 3 {
            bell.recv().expect("the thread rings");
            vault.reap(Instant(0), &mut done);
        }
        let mut numbers: Vec<u64> = done.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
        let mut bytes = [[0; 16]; 2];
        bytes.iter_mut().for_each(|bytes| vault.draw(bytes));
        assert_ne!(bytes[0], bytes[1]);
    }

    #[test]
    fn a_replayable_vault_keeps_passwords_apart() {
        let mut vault = InlineVault::new(3);
        let reap = |vault: &mut InlineVault| {
            let mut done = Vec::new();
            vault.reap(vault.deadline(), &mut done);
            done.pop().expect("its time has come").1
        };
        let salt = [7; 16];
        vault.submit(Instant(5), 1, Work::Hash { password: "a".into(), cost: 10, salt });
        let Done::Hashed(hash) = reap(&mut vault) else { panic!("a hash was ordered") };
        for (password, right) in [("a", true), ("b", false), ("", false)] {
            let work = Work::Verify { password: password.into(), hash: hash.clone() };
            vault.submit(Instant(5), 2, work);
            assert!(matches!(reap(&mut vault), Done::Verified(matches) if matches == right));
        }
        assert_eq!(vault.deadline(), Instant::NEVER);
    }
}
