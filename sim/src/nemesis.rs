//! The schedule of faults of a seed: what goes wrong, when, to whom, for how long.
//!
//! A schedule is drawn before the run and depends on the seed alone. Each fault has an ordinal and a
//! generator of its own, so that a [`Mask`] can leave any of them out without changing the others:
//! that is what makes failures shrink.
//!
//! Leaves out how a fault is carried out; that is the world's business.
//!
//! Laws:
//!  1. `schedule(swarm)[n]` depends on the swarm and `n` only.
//!  2. The first two faults are power cuts in the middle of a write, so that every seed loses bytes
//!     that were not synced.
//!
//! Worked example: fault 4 is `isolate leader both 3.2s`; masking 0..4 leaves it as it is.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use holdfast_core::rng::Rng;

use crate::clock::{Moment, RATE_TRUE};
use crate::swarm::{RATE_FASTEST, Stream, Swarm};

/// Whom a fault hits; roles are looked up when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This member.
    Member(usize),
    /// Whoever leads with the highest term, else the member.
    Leader(usize),
    /// A member that does not lead.
    Follower(usize),
}

/// Which directions of a link are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// Nothing comes in; what the member says is heard.
    In,
    /// Nothing goes out; the member hears the others.
    Out,
}

/// When a crash happens after it was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// While the member is writing to its disk.
    Writing,
    /// While the member is receiving a snapshot.
    Receiving,
}

/// What the operator is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberOrder {
    /// A new member takes this one's place.
    Replace(Target),
    /// This one goes.
    Remove(Target),
    /// This one's peer URLs are others.
    Move(Target),
    /// A new voter comes.
    Grow,
    /// One that was removed is to come back, which it must not.
    Return,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A member stops at once and comes back after the fault's time.
    Crash {
        /// Who.
        target: Target,
        /// The machine loses its power; otherwise only the process dies.
        power: bool,
        /// When exactly.
        when: When,
        /// Power cuts again during this many attempts to recover.
        again: u8,
    },
    /// All members lose their power.
    PowerCut,
    /// A member's process stands still; its clock goes on.
    Pause {
        /// Who.
        target: Target,
        /// Not before it has asked others to confirm a read, and then at once: what they say, and what
        /// clients ask meanwhile, it finds together.
        asking: bool,
    },
    /// A member is cut off from the others.
    Isolate {
        /// Who.
        target: Target,
        /// Which way.
        direction: Direction,
    },
    /// The members numbered in the bit set cannot speak with the others.
    Split {
        /// One side.
        side: u32,
    },
    /// A member is cut off again and again, in the rhythm of election timeouts.
    Flap {
        /// Who.
        target: Target,
    },
    /// A disk becomes slow.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How much.
        factor: u32,
    },
    /// A disk is full.
    FullDisk {
        /// Whose.
        target: Target,
    },
    /// A clock changes its rate.
    Drift {
        /// Whose.
        target: Target,
        /// The new rate.
        rate: u64,
    },
    /// Not a fault at all, but no calm for a cluster either: its members are changed.
    Members(MemberOrder),
    /// A member loses its disk and comes back under its old id, as if it were new. Only one does that at
    /// a time, and only one that the others know by its birth: who was never heard of cannot be told
    /// from who is new.
    Wipe {
        /// Who.
        target: Target,
    },
    /// All members but one are lost for good, and the operator forces a new cluster of that one. It is
    /// one that has everything that was applied anywhere, so that nothing of it may be missing then.
    ForceNew {
        /// Who stays, if it has everything.
        target: Target,
    },
    /// A connection is reset.
    Reset {
        /// One end.
        a: usize,
        /// The other.
        b: usize,
    },
    /// A copy of a member that belongs to another cluster dials another one.
    Stranger {
        /// Whom it dials.
        target: Target,
        /// Whose copy it is.
        copy: usize,
    },
    /// Over HTTP/2 only: the connections of a member's clients break.
    Sever {
        /// Whose.
        target: Target,
    },
    /// Over HTTP/2 only: a member is told to stop, ends its streams and its connections, hands its
    /// leadership over, and comes back after the fault's time.
    Leave {
        /// Who.
        target: Target,
    },
    /// Recipe: the leader is cut off from the members but not from its clients, its clock slows down,
    /// and it pauses: whoever believes in it reads old data.
    StaleLeader {
        /// Slows its clock down.
        rate: u64,
        /// Pauses it first for this long.
        pause: Duration,
    },
    /// Recipe: the leader is cut off, and while the others elect another, one after the other loses its
    /// power for a moment: votes that were not written down are given twice.
    Storm,
    /// Recipe: a follower is away for so long that it needs a snapshot, and perhaps loses its power
    /// while it receives one.
    LeftBehind {
        /// Who.
        target: Target,
        /// Another is away for as long.
        both: bool,
        /// What happens to it when it is back.
        then: Then,
    },
}

/// What becomes of a follower that needs a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It gets it.
    Nothing,
    /// It loses its power while it receives it.
    Crash,
    /// It is cut off again while it installs it, and its disk takes longer for that than an election.
    Stall,
}

/// One fault of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its place in the schedule.
    pub ordinal: u32,
    /// When it begins.
    pub at: Moment,
    /// How long it goes on.
    pub lasts: Duration,
    /// What it is.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {:?} for {:?}", self.ordinal, self.at, self.kind, self.lasts)
    }
}

/// Faults that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub BTreeSet<u32>);

impl Mask {
    /// Reads `3,5-9,12`.
    pub fn parse(text: &str) -> Result<Mask, String> {
        let mut masked = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                text.parse::<u32>().map_err(|_| format!("{text:?} in {part:?} is not a number"))
            };
            masked.extend(number(low)?..=number(high)?);
        }
        Ok(Mask(masked))
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<u32> = self.0.iter().copied().collect();
        let mut separator = "";
        let mut start = 0;
        while start < all.len() {
            let mut end = start;
            while end + 1 < all.len() && all[end + 1] == all[end] + 1 {
                end += 1;
            }
            match end - start {
                0 => write!(f, "{separator}{}", all[start])?,
                _ => write!(f, "{separator}{}-{}", all[start], all[end])?,
            }
            separator = ",";
            start = end + 1;
        }
        Ok(())
    }
}

/// All faults of a seed, in order of time.
pub fn schedule(swarm: &Swarm) -> Vec<Fault> {
    let root = Stream::Faults.rng(swarm.seed).fork(1);
    let quiet = Duration::from_secs(4);
    let mut at = Moment(0).after(quiet);
    let end = Moment(0).after(swarm.chaos);
    let mut faults = Vec::new();
    for ordinal in 0.. {
        let mut rng = root.fork(ordinal);
        at = at.after(Duration::from_nanos(rng.between(
            swarm.faults.every.as_nanos() as u64 / 4,
            swarm.faults.every.as_nanos() as u64 * 7 / 4,
        )));
        if at >= end {
            break;
        }
        let (kind, lasts) = match ordinal {
            0 | 1 => certain_crash(&mut rng, swarm),
            _ => draw(&mut rng, swarm),
        };
        faults.push(Fault { ordinal: ordinal as u32, at, lasts, kind });
    }
    if swarm.transport.is_some() {
        add_of_transport(&mut faults, swarm);
    }
    if swarm.spares > 0 {
        add_losses(&mut faults, swarm);
    }
    faults
}

/// Members that lose their data, in clusters that have places for others. They too come on top.
fn add_losses(faults: &mut Vec<Fault>, swarm: &Swarm) {
    let root = Stream::Faults.rng(swarm.seed).fork(3);
    let second = 1_000_000_000;
    let chaos = swarm.chaos.as_nanos() as u64;
    let mut draw = |number: u64, percent: u64, (from, to): (u64, u64)| {
        let mut rng = root.fork(number);
        let (chance, at) = (rng.chance(percent), Moment(rng.between(from, to)));
        let (target, lasts) = (target(&mut rng, swarm), millis(&mut rng, 50, 3_000));
        let kind = match number {
            0 => FaultKind::ForceNew { target },
            _ => FaultKind::Wipe { target },
        };
        if chance {
            faults.push(Fault { ordinal: faults.len() as u32, at, lasts, kind });
        }
    };
    draw(0, 25, (chaos / 3, chaos - 5 * second));
    // Most attempts meet an operator that is busy with something else.
    for number in 1..=4 {
        draw(number, 60, (8 * second, chaos - 8 * second));
    }
}

/// Those that concern connections of clients come on top, so that the others are as they would be.
fn add_of_transport(faults: &mut Vec<Fault>, swarm: &Swarm) {
    let root = Stream::Faults.rng(swarm.seed).fork(2);
    let chaos = swarm.chaos.as_nanos() as u64;
    for number in 0..root.fork(0).between(4, 12) {
        let mut rng = root.fork(number + 1);
        let at = Moment(rng.between(4_000_000_000, chaos));
        let target = target(&mut rng, swarm);
        let kind = match rng.below(3) {
            0 => FaultKind::Leave { target },
            _ => FaultKind::Sever { target },
        };
        let (ordinal, lasts) = (faults.len() as u32, millis(&mut rng, 20, 3_000));
        faults.push(Fault { ordinal, at, lasts, kind });
    }
}

fn certain_crash(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let target = target(rng, swarm);
    let kind = FaultKind::Crash { target, power: true, when: When::Writing, again: 0 };
    (kind, millis(rng, 50, 3_000))
}

fn draw(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let mix = &swarm.faults;
    let weights = [
        mix.crash,
        mix.power_cut,
        mix.pause,
        mix.cut,
        mix.disk,
        mix.clock,
        mix.reset,
        mix.recipe,
        mix.members,
    ];
    let mut ticket = rng.below(weights.iter().sum());
    let kind = weights.iter().position(|weight| {
        let drawn = ticket < *weight;
        ticket = ticket.saturating_sub(*weight);
        drawn
    });
    match kind.expect("the ticket is below the sum of the weights") {
        0 => crash(rng, swarm),
        1 => (FaultKind::PowerCut, millis(rng, 50, 2_000)),
        2 => pause(rng, swarm),
        3 => cut(rng, swarm),
        4 => disk(rng, swarm),
        5 => drift(rng, swarm),
        6 => reset(rng, swarm),
        7 => recipe(rng, swarm),
        _ => (FaultKind::Members(order(rng, swarm)), Duration::ZERO),
    }
}

fn target(rng: &mut Rng, swarm: &Swarm) -> Target {
    let member = rng.below(swarm.members as u64) as usize;
    match rng.below(5) {
        0 | 1 => Target::Leader(member),
        2 => Target::Follower(member),
        _ => Target::Member(member),
    }
}

fn millis(rng: &mut Rng, low: u64, high: u64) -> Duration {
    Duration::from_millis(rng.between(low, high))
}

fn pause(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let (target, lasts) = (target(rng, swarm), pause_length(rng));
    (FaultKind::Pause { target, asking: rng.chance(50) }, lasts)
}

fn pause_length(rng: &mut Rng) -> Duration {
    match rng.below(3) {
        0 => millis(rng, 10, 200),
        1 => millis(rng, 200, 3_000),
        _ => millis(rng, 3_000, 12_000),
    }
}

fn crash(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let when = match rng.below(10) {
        0 => When::Receiving,
        1 | 2 => When::Now,
        _ => When::Writing,
    };
    let again = if rng.chance(15) { rng.between(1, 3) as u8 } else { 0 };
    let kind = FaultKind::Crash { target: target(rng, swarm), power: rng.chance(80), when, again };
    (kind, millis(rng, 20, 6_000))
}

fn cut(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let lasts = millis(rng, 100, 7_000);
    let target = target(rng, swarm);
    let direction = [Direction::Both, Direction::In, Direction::Out][rng.below(3) as usize];
    let kind = match rng.below(6) {
        0..=2 => FaultKind::Isolate { target, direction },
        3 | 4 => FaultKind::Split { side: rng.between(1, (1 << swarm.members) - 2) as u32 },
        _ => FaultKind::Flap { target },
    };
    (kind, lasts)
}

fn disk(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let target = target(rng, swarm);
    if rng.chance(25) {
        return (FaultKind::FullDisk { target }, millis(rng, 500, 5_000));
    }
    (FaultKind::SlowDisk { target, factor: rng.between(5, 100) as u32 }, millis(rng, 500, 5_000))
}

fn drift(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let rate = rng.between(RATE_TRUE * 2 / 3, RATE_FASTEST);
    (FaultKind::Drift { target: target(rng, swarm), rate }, millis(rng, 1_000, 15_000))
}

fn reset(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    if rng.chance(40) {
        let copy = rng.below(swarm.members as u64) as usize;
        return (FaultKind::Stranger { target: target(rng, swarm), copy }, Duration::ZERO);
    }
    let a = rng.below(swarm.members as u64) as usize;
    let b = (a + 1 + rng.below(swarm.members as u64 - 1) as usize) % swarm.members;
    (FaultKind::Reset { a, b }, Duration::ZERO)
}

fn order(rng: &mut Rng, swarm: &Swarm) -> MemberOrder {
    match rng.below(10) {
        0..=3 => MemberOrder::Replace(target(rng, swarm)),
        4 | 5 => MemberOrder::Remove(target(rng, swarm)),
        6 => MemberOrder::Move(target(rng, swarm)),
        7 => MemberOrder::Return,
        _ => MemberOrder::Grow,
    }
}

fn recipe(rng: &mut Rng, swarm: &Swarm) -> (FaultKind, Duration) {
    let member = rng.below(swarm.members as u64) as usize;
    if rng.chance(40) {
        let pause = if rng.chance(50) { millis(rng, 100, 4_000) } else { Duration::ZERO };
        let kind = FaultKind::StaleLeader { rate: rng.between(RATE_TRUE / 2, RATE_TRUE), pause };
        return (kind, millis(rng, 2_000, 8_000));
    }
    if rng.chance(40) {
        return (FaultKind::Storm, millis(rng, 2_000, 5_000));
    }
    let then = match rng.below(10) {
        0..=3 => Then::Crash,
        4..=6 => Then::Stall,
        _ => Then::Nothing,
    };
    let both = swarm.members > 4 && rng.chance(50);
    let kind = FaultKind::LeftBehind { target: Target::Follower(member), both, then };
    (kind, millis(rng, 4_000, 10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_the_same_every_time_and_begins_with_power_cuts() {
        for seed in 0..50 {
            let faults = schedule(&Swarm::draw(seed));
            assert_eq!(faults, schedule(&Swarm::draw(seed)));
            assert!(faults.len() >= 5, "seed {seed} has {} faults", faults.len());
            for fault in &faults[..2] {
                assert!(matches!(fault.kind, FaultKind::Crash { power: true, .. }), "{fault}");
            }
        }
    }

    #[test]
    fn masks_read_what_they_write() {
        for text in ["", "3", "0-2", "0-2,5,7-8"] {
            assert_eq!(Mask::parse(text).expect("it is well formed").to_string(), text);
        }
        assert!(Mask::parse("3,x").is_err());
    }
}
