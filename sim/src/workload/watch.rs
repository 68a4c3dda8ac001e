//! Clients that watch: each holds one stream with a few watchers, and after it breaks, or for no
//! reason, resumes each watcher on another member from the revision after the last it was told of.
//!
//! Leaves out whether what is told is right; that is for the checkers, which get each [`Notice`].
//!
//! Laws:
//!  1. A watcher keeps its number for the whole run, over all streams it lived on.
//!  2. `next` is the first revision it has not been told about: it resumes there.
//!
//! Worked example: watcher 1.0 saw r17, its member crashes, it resumes on member 2 with start 18.

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast_core::id::Revision;
use holdfast_core::rejection::Rejection;
use holdfast_core::request::{KeyRange, RangeEnd};
use holdfast_core::rng::Rng;
use holdfast_core::watch::{WatchCreate, WatchRequest, WatchResponse};
use holdfast_server::auth::Credential;

use super::{kv, lease};
use crate::pair::Pair;
use crate::swarm::{Stream, Swarm};

/// Names a watcher for the whole run: its client, and its place there.
pub type WatcherId = (usize, usize);

/// What a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    /// Its name.
    pub id: WatcherId,
    /// Which keys.
    pub keys: KeyRange,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
    /// Ask for previous pairs.
    pub prev_kv: bool,
    /// Ask for periodic progress.
    pub progress_notify: bool,
    /// Large responses may come in pieces.
    pub fragment: bool,
}

impl WatchSpec {
    /// Whether it wants to know of a change.
    pub fn wants(&self, key: &[u8], delete: bool) -> bool {
        self.keys.contains(key) && !(if delete { self.no_delete } else { self.no_put })
    }
}

/// One event, as a watcher was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its revision.
    pub revision: Revision,
    /// Its key.
    pub key: Bytes,
    /// Whether it is a deletion.
    pub delete: bool,
    /// The encoded pair.
    pub kv: Bytes,
    /// The encoded previous pair.
    pub prev: Option<Bytes>,
}

/// What a watcher learns from one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It lives (again), and will be told of everything from here on.
    Created {
        /// The first revision it is owed.
        from: Revision,
        /// Whether it had lived before.
        resumed: bool,
    },
    /// It may not live: the reason.
    Refused(String),
    /// Events.
    Events(Vec<Told>),
    /// It has been told of everything up to here.
    Progress(Revision),
    /// What it wants is compacted; history begins here.
    Compacted {
        /// The first revision that can be had.
        begins: Revision,
        /// The first revision it is owed and will not get.
        owed: Revision,
    },
}

/// Ways in which a member may break the protocol.
pub type Breach = String;

struct Watcher {
    spec: WatchSpec,
    /// 0 until known.
    next: Revision,
    /// Whether it was created on the present stream.
    alive: bool,
    lived: bool,
    /// Whether it was ended by the member on the present stream.
    ended: bool,
    /// The last attempt to create it was refused.
    refused: bool,
    /// Its client has asked for its end.
    unwanted: bool,
    /// The pieces of a response whose last has not come.
    pieces: Vec<Told>,
}

impl Watcher {
    fn new(spec: WatchSpec, next: Revision) -> Watcher {
        let pieces = Vec::new();
        Watcher {
            spec,
            next,
            alive: false,
            lived: false,
            ended: false,
            refused: false,
            unwanted: false,
            pieces,
        }
    }
}

/// One client and its stream.
pub struct WatchClient {
    rng: Rng,
    /// For watchers that come later.
    extra: Rng,
    /// Plain keys in use.
    keys: u64,
    number: usize,
    watchers: Vec<Watcher>,
    /// The member it speaks to.
    pub member: usize,
    /// Whether it has a stream, and which: streams are numbered within the client.
    pub stream: Option<u64>,
    streams: u64,
    /// Whose token its stream came with, in seeds with users.
    pub user: Option<String>,
    /// The token.
    pub by: Credential,
    /// Watchers that it has asked for on this stream and heard nothing of, in order.
    asked: VecDeque<usize>,
    /// Its token is worth nothing: another stream needs another.
    must_leave: bool,
}

impl WatchClient {
    /// A client with a generator of its own.
    pub fn new(swarm: &Swarm, number: usize) -> WatchClient {
        let mut rng = Stream::Workload.rng(swarm.seed).fork(1_000 + number as u64);
        let count = rng.between(1, 4) as usize;
        let mut extra = Stream::Workload.rng(swarm.seed).fork(3_000 + number as u64);
        let watchers = (0..count).map(|place| {
            let spec = draw_spec(&mut rng, (number, place), swarm);
            Watcher::new(WatchSpec { fragment: extra.chance(50), ..spec }, Revision(0))
        });
        WatchClient {
            watchers: watchers.collect(),
            keys: swarm.work.keys,
            member: rng.below(swarm.members as u64) as usize,
            number,
            rng,
            extra,
            stream: None,
            streams: 0,
            user: None,
            by: Credential::None,
            asked: VecDeque::new(),
            must_leave: false,
        }
    }

    /// Opens a new stream on some member and asks for all watchers.
    pub fn open(&mut self, members: usize) -> Vec<WatchRequest> {
        self.member = self.rng.below(members as u64) as usize;
        self.streams += 1;
        self.stream = Some(self.streams);
        self.asked.clear();
        self.must_leave = false;
        for watcher in &mut self.watchers {
            (watcher.alive, watcher.ended, watcher.unwanted) = (false, false, false);
            watcher.pieces.clear();
        }
        (0..self.watchers.len()).map(|place| self.create(place)).collect()
    }

    /// The stream is gone, or given up.
    pub fn lost(&mut self) {
        self.stream = None;
    }

    /// What it does now and then on a living stream: `None` to leave it for another member.
    pub fn act(&mut self, told: super::Told) -> Option<Vec<WatchRequest>> {
        let mut requests = match self.rng.below(100) {
            0..=3 => return None,
            _ if self.must_leave => return None,
            4..=40 => vec![WatchRequest::Progress],
            _ => self.revive(),
        };
        requests.extend(self.come_late(told));
        Some(requests)
    }

    /// Asks again for watchers that ended.
    pub fn revive(&mut self) -> Vec<WatchRequest> {
        let mut requests = Vec::new();
        for place in 0..self.watchers.len() {
            if std::mem::take(&mut self.watchers[place].ended) {
                self.watchers[place].unwanted = true;
                requests.push(WatchRequest::Cancel { id: wire_id(place) });
                requests.push(self.create(place));
            }
        }
        requests
    }

    fn create(&mut self, place: usize) -> WatchRequest {
        let watcher = &self.watchers[place];
        self.asked.push_back(place);
        WatchRequest::Create(WatchCreate {
            id: wire_id(place),
            keys: watcher.spec.keys.clone(),
            start: watcher.next.0,
            progress_notify: watcher.spec.progress_notify,
            no_put: watcher.spec.no_put,
            no_delete: watcher.spec.no_delete,
            prev_kv: watcher.spec.prev_kv,
            fragment: watcher.spec.fragment,
        })
    }

    /// One more watcher, which wants everything that can still be had: history from the very revision
    /// that was compacted last, or from a little later.
    fn come_late(&mut self, told: super::Told) -> Option<WatchRequest> {
        let place = self.watchers.len();
        if place >= WATCHERS_MAX || told.compacted < 1 || !self.extra.chance(25) {
            return None;
        }
        let later = if self.extra.chance(70) { 0 } else { self.extra.below(20) as i64 };
        let start = (told.compacted + later).min(told.revision);
        let spec = WatchSpec {
            id: (self.number, place),
            fragment: self.extra.chance(50),
            ..spec_of(&mut self.extra, self.keys)
        };
        self.watchers.push(Watcher::new(spec, Revision(start)));
        Some(self.create(place))
    }

    /// The watchers and the first revision that each has not been told about; those that may not live
    /// are owed nothing.
    pub fn watchers(&self) -> impl Iterator<Item = (&WatchSpec, Revision)> {
        let owed = self.watchers.iter().filter(|watcher| !watcher.refused);
        owed.map(|watcher| (&watcher.spec, watcher.next))
    }

    /// What a watcher that is asked for wants.
    pub fn spec(&self, id: i64) -> &WatchSpec {
        &self.watchers[id as usize - 1].spec
    }

    /// Takes a response of its stream; what it means goes to `notices`.
    ///
    /// # Errors
    /// A response that no member may send.
    pub fn receive(
        &mut self,
        response: &WatchResponse,
        notices: &mut Vec<(WatchSpec, Notice)>,
    ) -> Result<(), Breach> {
        if response.id == -1 {
            if response.created || response.canceled {
                return self.refused(&response.cancel_reason, notices);
            }
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.alive) {
                watcher.progress(response.revision, notices);
            }
            return Ok(());
        }
        let number = self.number;
        let watcher = usize::try_from(response.id - 1).ok().and_then(|n| self.watchers.get_mut(n));
        let watcher = watcher
            .ok_or_else(|| format!("client {number} has no watcher numbered {}", response.id))?;
        if response.created && self.asked.pop_front() != Some(watcher.spec.id.1) {
            return Err(format!("watcher {:?} is created out of turn", watcher.spec.id));
        }
        watcher.receive(response, notices)
    }

    /// A refusal does not say which watcher it is about: the first that was asked for.
    fn refused(
        &mut self,
        reason: &str,
        notices: &mut Vec<(WatchSpec, Notice)>,
    ) -> Result<(), Breach> {
        let Some(place) = self.asked.pop_front() else {
            return Err(format!("client {} is refused what it did not ask: {reason}", self.number));
        };
        let watcher = &mut self.watchers[place];
        (watcher.alive, watcher.ended, watcher.refused) = (false, true, true);
        notices.push((watcher.spec.clone(), Notice::Refused(reason.to_owned())));
        self.must_leave |= !reason.contains(Rejection::PermissionDenied.text());
        Ok(())
    }
}

impl Watcher {
    fn receive(
        &mut self,
        response: &WatchResponse,
        notices: &mut Vec<(WatchSpec, Notice)>,
    ) -> Result<(), Breach> {
        if response.created {
            if self.next.0 == 0 {
                self.next = response.revision.next();
            }
            let notice = Notice::Created { from: self.next, resumed: self.lived };
            (self.alive, self.lived) = (true, true);
            (self.refused, self.unwanted) = (false, false);
            self.pieces.clear();
            notices.push((self.spec.clone(), notice));
        } else if response.canceled {
            if response.compact_revision.0 > 0 {
                let begins = response.compact_revision;
                let notice = Notice::Compacted { begins, owed: self.next };
                notices.push((self.spec.clone(), notice));
                self.next = self.next.max(begins);
                self.ended = true;
            } else if !self.unwanted {
                let (id, reason) = (self.spec.id, &response.cancel_reason);
                return Err(format!("watcher {id:?} is ended for no good reason: {reason:?}"));
            }
            self.alive = false;
        } else if !self.alive {
            return Err(format!("watcher {:?} is told something before it lives", self.spec.id));
        } else if response.events.is_empty() && !self.pieces.is_empty() {
            return Err(format!("watcher {:?} is told of progress amid a response", self.spec.id));
        } else if response.events.is_empty() {
            self.progress(response.revision, notices);
        } else {
            self.pieces.extend(told(response)?);
            if response.fragment {
                return Ok(());
            }
            let told = std::mem::take(&mut self.pieces);
            let last = told.iter().map(|event| event.revision).max();
            self.next = self.next.max(last.expect("there are events").next());
            notices.push((self.spec.clone(), Notice::Events(told)));
        }
        Ok(())
    }

    fn progress(&mut self, revision: Revision, notices: &mut Vec<(WatchSpec, Notice)>) {
        notices.push((self.spec.clone(), Notice::Progress(revision)));
        self.next = self.next.max(revision.next());
    }
}

fn told(response: &WatchResponse) -> Result<Vec<Told>, Breach> {
    let told = response.events.iter().map(|event| {
        let pair = Pair::decode(&event.kv).ok_or("an event's pair cannot be read")?;
        Ok(Told {
            revision: Revision(pair.modified),
            key: pair.key,
            delete: event.delete,
            kv: event.kv.clone(),
            prev: event.prev_kv.clone(),
        })
    });
    told.collect()
}

/// Watch ids are explicit: 0 would let the server choose.
fn wire_id(place: usize) -> i64 {
    place as i64 + 1
}

/// Watchers of one client, those included that come late.
const WATCHERS_MAX: usize = 8;

fn draw_spec(rng: &mut Rng, id: WatcherId, swarm: &Swarm) -> WatchSpec {
    WatchSpec { id, ..spec_of(rng, swarm.work.keys) }
}

fn spec_of(rng: &mut Rng, plain: u64) -> WatchSpec {
    let prefix = |from: &'static str, to: &'static str| KeyRange {
        start: Bytes::from_static(from.as_bytes()),
        end: RangeEnd::Before(Bytes::from_static(to.as_bytes())),
    };
    let keys = match rng.below(5) {
        0 => KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Open },
        1 => prefix(lease::PREFIX, "lease0"),
        2 => KeyRange::single(format!("{}{:02}", kv::PREFIX, rng.below(plain))),
        _ => prefix(kv::PREFIX, "k0"),
    };
    let no_put = rng.chance(10);
    WatchSpec {
        id: (0, 0),
        keys,
        no_put,
        no_delete: !no_put && rng.chance(10),
        prev_kv: rng.chance(40),
        progress_notify: rng.chance(50),
        fragment: false,
    }
}
