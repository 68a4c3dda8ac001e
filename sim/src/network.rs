//! Simulated links: between members, and between clients and members. One direction is one [`Link`].
//!
//! Faults it makes, and why each must be survived:
//!  - *Loss, duplication, reordering, delays with a heavy tail*: connections break and are made again,
//!    and what was under way is sent twice, late or never.
//!  - *Cuts in one direction or both*: switches and firewalls fail for single directions, and a member
//!    that hears but is not heard is the one that disturbs elections.
//!  - *Resets*: a connection dies between two messages of one conversation; both ends learn of it, at
//!    different times, and everything under way on it is gone.
//!  - *Bandwidth*: a snapshot delays what is queued behind it.
//!
//! It leaves out corruption: frames carry checksums (`net/peer`), and a frame that fails its checksum
//! ends the connection, which is a reset.
//!
//! Laws:
//!  1. What happens to a message depends on its link's generator only, so that masking a fault on one
//!     link leaves the others as they were.
//!  2. A message arrives on the connection it was sent on, or not at all.
//!
//! Worked example: with `ordered` a message never overtakes an earlier one of the same link; a
//! duplicate may still come seconds later.

use std::time::Duration;

use holdfast_core::rng::Rng;

use crate::clock::Moment;

/// How good a link is. Probabilities are in ten thousand.
#[derive(Clone, Debug)]
pub struct Quality {
    /// Messages that vanish.
    pub loss: u64,
    /// Messages that come twice.
    pub duplicate: u64,
    /// The shortest way.
    pub delay: Duration,
    /// Up to this much longer, evenly.
    pub jitter: Duration,
    /// Messages that take much longer.
    pub tail: u64,
    /// The longest of those delays.
    pub tail_delay: Duration,
    /// Keep the order within the link, as a stream does.
    pub ordered: bool,
    /// Bytes that pass in a millisecond.
    pub bytes_per_ms: u64,
}

impl Quality {
    /// A quiet network in one room.
    pub fn calm() -> Quality {
        Quality {
            loss: 0,
            duplicate: 0,
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            tail: 0,
            tail_delay: Duration::ZERO,
            ordered: true,
            bytes_per_ms: 100_000,
        }
    }
}

/// One direction between two ends.
#[derive(Clone, Debug)]
pub struct Link {
    rng: Rng,
    quality: Quality,
    cuts: u32,
    latest: Moment,
    busy_until: Moment,
}

/// When copies of a message arrive: none, one or two of them.
pub type Arrivals = [Option<Moment>; 2];

impl Link {
    /// A link with a generator of its own.
    pub fn new(rng: Rng, quality: Quality) -> Link {
        Link { rng, quality, cuts: 0, latest: Moment(0), busy_until: Moment(0) }
    }

    /// Sends `bytes` at `now`.
    pub fn send(&mut self, now: Moment, bytes: usize) -> Arrivals {
        let first = self.arrival(now, bytes);
        let lost = self.rng.below(10_000) < self.quality.loss;
        let doubled = self.rng.below(10_000) < self.quality.duplicate;
        let again = Duration::from_nanos(self.rng.below(2_000_000_000));
        if lost || self.cuts > 0 {
            return [None, None];
        }
        [Some(first), doubled.then(|| first.after(again))]
    }

    /// Nothing passes until as many `mend`s have followed.
    pub fn cut(&mut self) {
        self.cuts += 1;
    }

    /// Takes one `cut` back.
    pub fn mend(&mut self) {
        self.cuts = self.cuts.saturating_sub(1);
    }

    /// Whether nothing passes.
    pub fn is_cut(&self) -> bool {
        self.cuts > 0
    }

    /// From now on the link is like this; what is still under way delays nothing that is sent later.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
        (self.latest, self.busy_until) = (Moment(0), Moment(0));
    }

    fn arrival(&mut self, now: Moment, bytes: usize) -> Moment {
        let quality = &self.quality;
        let transfer = bytes as u64 * 1_000_000 / quality.bytes_per_ms.max(1);
        let start = self.busy_until.max(now);
        self.busy_until = start.after(Duration::from_nanos(transfer));
        let mut delay = quality.delay;
        delay += Duration::from_nanos(self.rng.below(quality.jitter.as_nanos() as u64 + 1));
        let late = self.rng.below(10_000) < quality.tail;
        let tail = self.rng.below(quality.tail_delay.as_nanos() as u64 + 1);
        if late {
            delay += Duration::from_nanos(tail);
        }
        let mut arrival = self.busy_until.after(delay);
        if quality.ordered {
            arrival = arrival.max(Moment(self.latest.0 + 1));
            self.latest = arrival;
        }
        arrival
    }
}

/// The conversation of a pair of members: up or not, and which one it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Counts up with every connection made or lost.
    pub number: u64,
    /// Whether messages are taken.
    pub up: bool,
}

/// The links and connections among the members.
pub struct Network {
    members: usize,
    links: Vec<Link>,
    connections: Vec<Connection>,
}

impl Network {
    /// Links of one quality among `members`, none connected.
    pub fn new(members: usize, rng: &Rng, quality: &Quality) -> Network {
        let link = |n: usize| Link::new(rng.fork(n as u64), quality.clone());
        Network {
            members,
            links: (0..members * members).map(link).collect(),
            connections: vec![Connection::default(); members * members],
        }
    }

    /// The link from one member to another.
    pub fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.members + to]
    }

    /// The connection of a pair, in either order.
    pub fn connection(&self, a: usize, b: usize) -> Connection {
        self.connections[self.pair(a, b)]
    }

    /// Makes or ends the connection of a pair; what was under way on the old one will not arrive.
    pub fn set_connection(&mut self, a: usize, b: usize, up: bool) -> Connection {
        let pair = self.pair(a, b);
        let connection = &mut self.connections[pair];
        *connection = Connection { number: connection.number + 1, up };
        *connection
    }

    /// Whether either direction between two members is cut.
    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.links[a * self.members + b].is_cut() || self.links[b * self.members + a].is_cut()
    }

    /// Gives every link a quality.
    pub fn set_quality(&mut self, quality: &Quality) {
        for link in &mut self.links {
            link.set_quality(quality.clone());
        }
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        a.min(b) * self.members + a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(change: impl FnOnce(&mut Quality)) -> Link {
        let mut quality = Quality::calm();
        change(&mut quality);
        Link::new(Rng::new(1), quality)
    }

    #[test]
    fn an_ordered_link_keeps_the_order_and_an_unordered_one_does_not() {
        for ordered in [true, false] {
            let mut link = link(|quality| quality.ordered = ordered);
            let times: Vec<_> = (0..100).map(|n| link.send(Moment(n * 10_000), 10)[0]).collect();
            assert_eq!(times.is_sorted(), ordered);
        }
    }

    #[test]
    fn a_cut_link_passes_nothing_until_every_cut_is_mended() {
        let mut link = link(|_| ());
        link.cut();
        link.cut();
        link.mend();
        assert_eq!(link.send(Moment(0), 10), [None, None]);
        link.mend();
        assert!(link.send(Moment(0), 10)[0].is_some());
    }

    #[test]
    fn loss_and_duplication_come_as_often_as_said() {
        let mut link = link(|quality| (quality.loss, quality.duplicate) = (1_000, 500));
        let sent: Vec<_> = (0..10_000).map(|n| link.send(Moment(n), 10)).collect();
        let lost = sent.iter().filter(|arrivals| arrivals[0].is_none()).count();
        let doubled = sent.iter().filter(|arrivals| arrivals[1].is_some()).count();
        assert!((800..1_200).contains(&lost), "{lost}");
        assert!((350..600).contains(&doubled), "{doubled}");
    }
}
