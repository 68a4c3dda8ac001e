//! The kill test: real processes under `kill -9` while clients record what was acknowledged; afterwards
//! nothing of it may be missing.
//!
//! Leaves out power cuts: what a killed process has written is still in the kernel's cache. Lost writes
//! of a disk are the simulator's business.
//!
//! A round: let the clients work for a moment, perhaps stop a member for a while (SIGSTOP), kill one
//! at random (now and then several, every so often all at once), start them again after a moment, wait
//! until every member answers a linearizable read.
//!
//! Laws:
//!  1. Every wait has an end; a member that is not back after [`RECOVERY_MAX`] fails the test.
//!  2. A member that ends without having been killed fails the test.
//!  3. A failure says what was lost, when it was acknowledged, and what the members said last.
//!
//! Worked example: `run(&Options::new(binary, dir, 3), &mut |line| println!("{line}"))`.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::LocalSet;

use crate::client::Client;
use crate::dice::Dice;
use crate::history::{History, Totals};
use crate::member::{Layout, Member};
use crate::proto::mvccpb::KeyValue;
use crate::verdict::{compare, judge};
use crate::worker::{Shared, Worker};

/// How long a cluster may take to be healthy again.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// Connections to each member.
const CONNECTIONS: usize = 4;

/// Keys that are swapped.
const REGISTERS: usize = 12;

/// Lines of each member's log in a failure.
const LINES: usize = 30;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Holds the members' directories and logs.
    pub dir: PathBuf,
    /// How many members.
    pub members: usize,
    /// How many rounds.
    pub rounds: u64,
    /// Acknowledged writes to reach.
    pub writes: u64,
    /// All members die in every so many rounds.
    pub all_every: u64,
    /// Chooses what happens.
    pub seed: u64,
    /// No round begins after so long.
    pub time: Duration,
    /// More flags for the members.
    pub flags: Vec<String>,
}

impl Options {
    /// The long test, with seed 1.
    pub fn new(binary: PathBuf, dir: PathBuf, members: usize) -> Options {
        Options {
            binary,
            dir,
            members,
            rounds: 1_000,
            writes: 200_000,
            all_every: 50,
            seed: 1,
            time: Duration::from_secs(2 * 60 * 60),
            flags: Vec::new(),
        }
    }
}

/// What was done, if nothing was wrong.
#[derive(Clone, Debug)]
pub struct Report {
    /// Rounds.
    pub rounds: u64,
    /// Processes killed.
    pub kills: u64,
    /// Rounds in which all of them were.
    pub all_at_once: u64,
    /// Processes stopped and woken.
    pub pauses: u64,
    /// The longest way back to health.
    pub slowest: Duration,
    /// What the clients did.
    pub totals: Totals,
    /// Pairs that every member holds at the end.
    pub pairs: usize,
    /// The revision at the end.
    pub revision: i64,
}

/// Runs the test; `progress` gets a line now and then.
///
/// # Errors
/// What was lost or wrong, with the evidence.
pub async fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report, String> {
    LocalSet::new().run_until(Test::run(options, progress)).await
}

/// A test under way.
struct Test<'a> {
    options: &'a Options,
    layout: Layout,
    members: Vec<Option<Member>>,
    shared: Rc<Shared>,
    dice: Dice,
    rounds: u64,
    kills: u64,
    all_at_once: u64,
    pauses: u64,
    slowest: Duration,
}

impl Test<'_> {
    async fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report, String> {
        let mut layout = Layout::local(&options.binary, &options.dir, options.members)
            .map_err(|error| format!("cannot lay out {}: {error}", options.dir.display()))?;
        layout.flags.clone_from(&options.flags);
        let connections = CONNECTIONS * options.members;
        let shared = Rc::new(Shared {
            history: RefCell::new(History::new(connections, REGISTERS)),
            writes_max: Cell::new(0),
            stop: Cell::new(false),
        });
        let mut test = Test {
            options,
            layout,
            members: (0..options.members).map(|_| None).collect(),
            shared,
            dice: Dice::new(options.seed),
            rounds: 0,
            kills: 0,
            all_at_once: 0,
            pauses: 0,
            slowest: Duration::ZERO,
        };
        let result = test.play(connections, progress).await;
        result.map_err(|what| test.evidence(&what))
    }

    async fn play(
        &mut self,
        connections: usize,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Report, String> {
        self.start_missing()?;
        self.heal().await?;
        self.slowest = Duration::ZERO;
        let mut workers = Vec::new();
        for connection in 0..connections {
            let url = self.layout.client_url(connection % self.options.members);
            let dice = self.dice.fork(connection as u64);
            let worker = Worker::new(self.shared.clone(), connection, url, dice);
            workers.push(tokio::task::spawn_local(worker.run()));
        }
        self.rounds(progress).await?;
        self.shared.stop.set(true);
        for worker in workers {
            let ended = tokio::time::timeout(RECOVERY_MAX, worker).await;
            ended.map_err(|_| "a client did not end".to_owned())?.map_err(|e| e.to_string())?;
        }
        self.kill(self.options.members);
        self.start_missing()?;
        self.heal().await?;
        self.judge().await
    }

    async fn rounds(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), String> {
        const PROGRESS: Duration = Duration::from_secs(10);
        let start = Instant::now();
        let mut told = start;
        let Options { rounds, writes, time, .. } = *self.options;
        while self.rounds < rounds && start.elapsed() < time {
            let due = writes * (self.rounds + 1) / rounds;
            self.shared.writes_max.set((due + due / 2).max(1_000));
            self.round().await?;
            self.rounds += 1;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                progress(&self.line(start.elapsed()));
            }
        }
        let due = if self.rounds < rounds { 0 } else { writes };
        self.shared.writes_max.set(due);
        while self.acked() < due && start.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.look()?;
        }
        Ok(())
    }

    fn acked(&self) -> u64 {
        self.shared.history.borrow().totals.acked()
    }

    fn line(&self, elapsed: Duration) -> String {
        let history = self.shared.history.borrow();
        format!(
            "{:>5.0} s: round {} of {}, {} writes acknowledged, {} unknown, r{}, slowest recovery {:.2} s",
            elapsed.as_secs_f64(),
            self.rounds,
            self.options.rounds,
            history.totals.acked(),
            history.totals.unknown,
            history.floor,
            self.slowest.as_secs_f64()
        )
    }

    async fn round(&mut self) -> Result<(), String> {
        const QUIET: Duration = Duration::from_millis(400);
        const DOWN: Duration = Duration::from_millis(300);
        tokio::time::sleep(self.dice.within(QUIET)).await;
        self.look()?;
        let paused = if self.dice.once_in(8) { Some(self.pause()) } else { None };
        if (self.rounds + 1).is_multiple_of(self.options.all_every) {
            self.all_at_once += 1;
            self.kill(self.options.members);
        } else {
            let many = self.dice.once_in(10) && self.options.members > 2;
            self.kill(if many { 2 } else { 1 });
        }
        tokio::time::sleep(self.dice.within(DOWN)).await;
        if let Some(at) = paused {
            tokio::time::sleep(self.dice.within(Duration::from_millis(1_500))).await;
            if let Some(member) = &self.members[at] {
                member.resume();
            }
        }
        self.start_missing()?;
        self.heal().await?;
        if self.rounds % 25 == 24 {
            self.compact().await;
        }
        self.look()
    }

    fn pause(&mut self) -> usize {
        let at = self.dice.below(self.options.members as u64) as usize;
        if let Some(member) = &self.members[at] {
            member.pause();
            self.pauses += 1;
        }
        at
    }

    /// Kills `count` members, the first of them at random.
    fn kill(&mut self, count: usize) {
        let first = self.dice.below(self.options.members as u64) as usize;
        let chosen = (0..count).map(|step| (first + step) % self.options.members);
        // All are signalled before any is waited for.
        let victims: Vec<_> = chosen.filter_map(|at| self.members[at].take()).collect();
        victims.iter().for_each(Member::signal_kill);
        self.kills += victims.len() as u64;
        victims.into_iter().for_each(Member::kill);
    }

    fn start_missing(&mut self) -> Result<(), String> {
        for (at, member) in self.members.iter_mut().enumerate() {
            if member.is_none() {
                let started = Member::start(&self.layout, at);
                *member = Some(started.map_err(|error| {
                    format!("cannot run {}: {error}", self.options.binary.display())
                })?);
            }
        }
        Ok(())
    }

    /// Waits until every member answers a linearizable read.
    async fn heal(&mut self) -> Result<(), String> {
        const ATTEMPT: Duration = Duration::from_secs(2);
        let start = Instant::now();
        for at in 0..self.options.members {
            let url = self.layout.client_url(at);
            while !tokio::time::timeout(ATTEMPT, answers(&url)).await.unwrap_or(false) {
                self.look()?;
                if start.elapsed() > RECOVERY_MAX {
                    let name = self.layout.name(at);
                    return Err(format!("{name} did not answer for {RECOVERY_MAX:?}"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.slowest = self.slowest.max(start.elapsed());
        Ok(())
    }

    /// Gives up history, so that restarts meet a compacted store, too. Whether it succeeds does not
    /// matter.
    async fn compact(&self) {
        let floor = self.shared.history.borrow().floor;
        if let Ok(mut client) = Client::connect(&self.layout.client_url(0)).await {
            let _ = client.compact(floor).await;
        }
    }

    /// Fails if a member has ended by itself or a client has seen something wrong.
    fn look(&mut self) -> Result<(), String> {
        for (at, member) in self.members.iter_mut().enumerate() {
            if let Some(status) = member.as_mut().and_then(Member::ended) {
                return Err(format!("{} has ended by itself: {status}", self.layout.name(at)));
            }
        }
        let broken = &self.shared.history.borrow().broken;
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    async fn judge(&mut self) -> Result<Report, String> {
        self.look()?;
        let mut client = Client::connect(&self.layout.client_url(0)).await;
        let client = client.as_mut().map_err(|error| error.to_string())?;
        let found = client.get(Bytes::from_static(b"r/00")).await;
        let revision = found.map_err(|status| status.to_string())?.revision;
        let mut first: Option<Vec<KeyValue>> = None;
        let mut problems = Vec::new();
        for at in 0..self.options.members {
            let pairs = self.pairs(at, revision).await?;
            match &first {
                None => problems.extend(judge(&self.shared.history.borrow(), &pairs)),
                Some(first) => {
                    let names = (self.layout.name(0), self.layout.name(at));
                    problems.extend(compare((&names.0, first), (&names.1, &pairs)));
                }
            }
            first.get_or_insert(pairs);
        }
        if !problems.is_empty() {
            return Err(format!("at r{revision}:\n{}", problems.join("\n")));
        }
        Ok(Report {
            rounds: self.rounds,
            kills: self.kills,
            all_at_once: self.all_at_once,
            pauses: self.pauses,
            slowest: self.slowest,
            totals: self.shared.history.borrow().totals.clone(),
            pairs: first.map_or(0, |pairs| pairs.len()),
            revision,
        })
    }

    /// Everything that a member holds itself at a revision, which it may still be on its way to.
    async fn pairs(&mut self, at: usize, revision: i64) -> Result<Vec<KeyValue>, String> {
        let start = Instant::now();
        loop {
            let read = read_all(&self.layout.client_url(at), revision).await;
            match read {
                Ok(pairs) => return Ok(pairs),
                Err(error) if start.elapsed() > RECOVERY_MAX => {
                    return Err(format!("{} at r{revision}: {error}", self.layout.name(at)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            self.look()?;
        }
    }

    fn evidence(&self, what: &str) -> String {
        let mut text = format!("round {}: {what}\n", self.rounds);
        for at in 0..self.options.members {
            let (name, log) = (self.layout.name(at), self.layout.log(at));
            text.push_str(&format!("--- the last lines of {name} ({})\n", log.display()));
            text.push_str(&self.layout.last_lines(at, LINES));
            text.push('\n');
            text.push_str(&self.layout.panics(at));
        }
        text
    }
}

async fn answers(url: &str) -> bool {
    match Client::connect(url).await {
        Ok(mut client) => client.get(Bytes::from_static(b"r/00")).await.is_ok(),
        Err(_) => false,
    }
}

async fn read_all(url: &str, revision: i64) -> Result<Vec<KeyValue>, String> {
    let mut client = Client::connect(url).await.map_err(|error| error.to_string())?;
    let mut pairs = Vec::new();
    let read = client.scan(revision, |pair| pairs.push(pair)).await;
    read.map_err(|status| status.to_string())?;
    Ok(pairs)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let totals = &self.totals;
        writeln!(
            f,
            "{} rounds, {} kills, {} times all at once, {} pauses; slowest recovery {:.2} s",
            self.rounds,
            self.kills,
            self.all_at_once,
            self.pauses,
            self.slowest.as_secs_f64()
        )?;
        writeln!(
            f,
            "{} writes acknowledged ({} puts, {} deletes, {} swaps; {} swaps came too late), \
             {} of unknown outcome, {} reads checked",
            totals.acked(),
            totals.puts,
            totals.deletes,
            totals.swaps,
            totals.missed,
            totals.unknown,
            totals.reads
        )?;
        for (error, times) in &totals.errors {
            writeln!(f, "  {times} x {error}")?;
        }
        write!(
            f,
            "nothing acknowledged is lost; all members hold the same {} pairs at r{}",
            self.pairs, self.revision
        )
    }
}
