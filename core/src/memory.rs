//! What the answers of a member hold in memory, as one account that all its edges draw on.
//!
//! An answer that outgrows a small allowance takes what it uses from the account, step by step while it is
//! read; when it is complete it gives back its parts as they are sent. Leaves out who waits when nothing
//! can be had, and for how long (the edge).
//!
//! Laws, with `max` the budget:
//!  1. A hold is open while its answer grows, ordered by a ticket that it draws when it first asks. Any open
//!     hold may grow while all holds together stay within max/2.
//!  2. The oldest open hold may also grow while it and what is complete stay within max/2, or if nothing is
//!     complete. So answers that wait for each other's memory cannot block each other: the oldest waits for
//!     clients alone.
//!  3. By both, all holds together are at most max, or max/2 and one answer that is larger than the other
//!     half: such a one is served while nothing else is on its way.
//!  4. Dropping a hold or a part gives it back.
//!
//! The price of the allowance: so much for each answer in flight is not counted. Calls in flight are bounded
//! elsewhere.
//!
//! Worked example, max 8 MiB: A and B take 2 MiB each, and neither may go on by law 1. A is older and grows to
//! 4 MiB by law 2. It is complete, and half of it is sent: B may grow to 2 MiB, which it has; it waits until
//! more of A is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The account; clones are the same one.
#[derive(Clone, Debug)]
pub struct AnswerMemory(Arc<Account>);

#[derive(Debug)]
struct Account {
    max: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// The last one drawn.
    ticket: u64,
    /// Bytes of open holds by ticket.
    open: BTreeMap<u64, usize>,
    /// Their sum.
    growing: usize,
    /// Bytes of complete answers.
    complete: usize,
}

impl AnswerMemory {
    /// A budget of so many bytes ([`Limits::answer_bytes_max`](crate::limits::Limits::answer_bytes_max)).
    pub fn new(max: usize) -> AnswerMemory {
        AnswerMemory(Arc::new(Account { max, books: Mutex::default() }))
    }

    /// What an answer may grow on; nothing is taken yet.
    pub fn hold(&self) -> Hold {
        Hold { memory: self.clone(), ticket: None, taken: 0, kept: 0, starved: false }
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        let books = self.books();
        books.growing + books.complete
    }

    /// What an answer may use without taking anything.
    fn allowance(&self) -> usize {
        (self.0.max / 32).min(ALLOWANCE_BYTES)
    }

    /// Books are changed by additions that cannot fail: a panic of another holder leaves them right.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most that an answer may use without taking anything.
const ALLOWANCE_BYTES: usize = 64 << 10;

/// What a hold takes at once if it can: few steps for a long answer.
const STEP_BYTES: usize = 1 << 20;

/// What an answer holds that is being read.
#[derive(Debug)]
pub struct Hold {
    memory: AnswerMemory,
    /// Drawn when it first asks.
    ticket: Option<u64>,
    taken: usize,
    /// Of parts of the answer that are read to their end.
    kept: usize,
    starved: bool,
}

impl Hold {
    /// Sees to it that the hold covers what the answer uses, beside what it has kept; false if the account
    /// does not give so much now.
    pub fn cover(&mut self, used: usize) -> bool {
        let used = self.kept.saturating_add(used);
        self.starved = used > self.taken
            && used > self.memory.allowance()
            && !{
                let debt = used - self.taken;
                let step = STEP_BYTES.min(self.memory.0.max / 16);
                (step > debt && self.grow(step)) || self.grow(debt)
            };
        !self.starved
    }

    /// A part of the answer is complete, and stays while others are read.
    pub fn keep(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_add(bytes);
    }

    /// The hold's place among open ones if it could not grow when it last had to.
    pub fn starved(&self) -> Option<u64> {
        self.ticket.filter(|_| self.starved)
    }

    /// The answer is complete: nothing more will be taken.
    pub fn seal(mut self) -> Sealed {
        if let Some(ticket) = self.ticket.take() {
            let mut books = self.memory.books();
            books.open.remove(&ticket);
            books.growing -= self.taken;
            books.complete += self.taken;
        }
        Sealed { memory: self.memory.clone(), bytes: std::mem::take(&mut self.taken) }
    }

    /// Laws 1 and 2.
    fn grow(&mut self, bytes: usize) -> bool {
        let half = self.memory.0.max / 2;
        let books = &mut *self.memory.books();
        let ticket = *self.ticket.get_or_insert_with(|| {
            books.ticket += 1;
            books.open.insert(books.ticket, 0);
            books.ticket
        });
        let fits = |held: usize| held.saturating_add(bytes) <= half;
        let oldest = books.open.first_key_value().is_some_and(|(first, _)| *first == ticket);
        let alone = oldest && (books.complete == 0 || fits(books.complete + self.taken));
        let grows = alone || fits(books.growing + books.complete);
        if grows {
            self.taken += bytes;
            books.growing += bytes;
            books.open.insert(ticket, self.taken);
        }
        grows
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut books = self.memory.books();
            books.open.remove(&ticket);
            books.growing -= self.taken;
        }
    }
}

/// What an answer holds that is complete, or a part of it.
#[derive(Debug)]
pub struct Sealed {
    memory: AnswerMemory,
    bytes: usize,
}

impl Sealed {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A part of so many bytes, or of all that is left, which is given back on its own.
    pub fn split(&mut self, bytes: usize) -> Sealed {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Sealed { memory: self.memory.clone(), bytes }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.books().complete -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_goes_on_and_one_larger_than_all_is_served_alone() {
        let memory = AnswerMemory::new(3200);
        let [mut a, mut b, mut c] = [memory.hold(), memory.hold(), memory.hold()];
        assert!(a.cover(100) && memory.used() == 0, "the allowance");
        assert!(a.cover(700) && b.cover(800) && !c.cover(400));
        assert!((a.starved(), b.starved(), c.starved()) == (None, None, Some(3)));
        assert!(!b.cover(1500) && a.cover(10_000), "the oldest may, whatever it takes");
        let mut a = a.seal();
        assert!(!b.cover(1500) && !c.cover(400), "a client has not taken what is complete");
        let rest = a.split(750);
        drop(a);
        assert!(b.cover(850) && !b.cover(851), "what is complete leaves so much to the oldest");
        drop(rest);
        assert!(b.cover(9000) && !c.cover(400));
        drop(b);
        assert!(c.cover(400) && memory.used() == 400, "dropped before it was complete");
        drop(c);
        assert_eq!(memory.used(), 0);
    }

    #[derive(Clone, Debug)]
    enum Move {
        Begin,
        Cover(usize, usize),
        Seal(usize),
        Split(usize, usize),
        Drop(usize),
        Send(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            2 => Just(Move::Begin),
            8 => (0..9usize, 0..3000usize).prop_map(|(nth, more)| Move::Cover(nth, more)),
            2 => (0..9usize).prop_map(Move::Seal),
            2 => (0..9usize, 0..2000usize).prop_map(|(nth, bytes)| Move::Split(nth, bytes)),
            1 => (0..9usize).prop_map(Move::Drop),
            3 => (0..9usize).prop_map(Move::Send),
        ];
        vec(one, 0..120)
    }

    /// The dumb twin: sums over lists, in the order in which holds first asked.
    #[derive(Default)]
    struct Twin {
        open: Vec<(u64, usize)>,
        complete: Vec<usize>,
    }

    impl Twin {
        fn used(&self) -> usize {
            self.open.iter().map(|(_, bytes)| bytes).sum::<usize>()
                + self.complete.iter().sum::<usize>()
        }

        fn grows(&self, ticket: u64, bytes: usize, max: usize) -> bool {
            let complete: usize = self.complete.iter().sum();
            let own = self.open.iter().find(|(other, _)| *other == ticket).map_or(0, |one| one.1);
            let first = self.open.first().is_none_or(|(oldest, _)| *oldest >= ticket);
            self.used() + bytes <= max / 2
                || (first && (complete == 0 || complete + own + bytes <= max / 2))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_taken_is_bounded_and_given_back(max in 1..20_000usize, moves in moves()) {
            let memory = AnswerMemory::new(max);
            let (mut twin, mut holds, mut sealed) = (Twin::default(), Vec::new(), Vec::new());
            let mut largest = 0;
            for next in moves {
                match next {
                    Move::Begin => holds.push((memory.hold(), 0)),
                    Move::Cover(nth, more) if nth < holds.len() => {
                        let (hold, used) = &mut holds[nth];
                        *used += more;
                        let before = hold.taken;
                        let asks = *used > before && *used > memory.allowance();
                        let ticket = hold.ticket.unwrap_or(u64::MAX);
                        let expected = !asks || twin.grows(ticket, *used - before, max);
                        prop_assert_eq!(hold.cover(*used), expected);
                        prop_assert_eq!(hold.starved().is_some(), !expected);
                        prop_assert!(!expected || hold.taken.max(memory.allowance()) >= *used);
                        if let Some(ticket) = hold.ticket {
                            twin.open.retain(|(other, _)| *other != ticket);
                            twin.open.push((ticket, hold.taken));
                            twin.open.sort_unstable();
                        }
                        largest = largest.max(hold.taken);
                    }
                    Move::Seal(nth) if nth < holds.len() => {
                        let (hold, _) = holds.remove(nth);
                        twin.open.retain(|(other, _)| Some(*other) != hold.ticket);
                        sealed.push(hold.seal());
                    }
                    Move::Split(nth, bytes) if nth < sealed.len() => {
                        let part = sealed[nth].split(bytes);
                        sealed.push(part);
                    }
                    Move::Drop(nth) if nth < holds.len() => {
                        let (hold, _) = holds.remove(nth);
                        twin.open.retain(|(other, _)| Some(*other) != hold.ticket);
                    }
                    Move::Send(nth) if nth < sealed.len() => drop(sealed.remove(nth)),
                    _ => {}
                }
                twin.complete = sealed.iter().map(Sealed::bytes).collect();
                prop_assert_eq!(memory.used(), twin.used());
                prop_assert!(memory.used() <= max.max(max / 2 + largest));
            }
            drop((holds, sealed));
            prop_assert_eq!(memory.used(), 0);
            prop_assert!(memory.books().open.is_empty());
        }
    }
}
