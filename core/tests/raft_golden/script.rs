//! The commands of a script, carried out in a world.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::{LeaseId, MemberId, RequestId, Revision};
use holdfast_core::limits::Limits;
use holdfast_core::machine;
use holdfast_core::membership::MemberChange;
use holdfast_core::request::{Ask, DeleteRange, KeyRange, Op, Put, RangeEnd};
use holdfast_core::response::AlarmKind;
use holdfast_core::status::Role;
use holdfast_core::store::View;

use super::show;
use super::world::World;
use crate::runner::Printed;

/// A script's world, and the requests that wait in it by their words.
#[derive(Default)]
pub struct Script {
    world: Option<World>,
    waiting: BTreeMap<RequestId, String>,
}

impl Script {
    pub fn command(&mut self, line: &str) -> Printed {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().ok_or("an empty command")?;
        if *name == "cluster" {
            self.world = Some(cluster(rest)?);
            return Ok(self.told());
        }
        match *name {
            "put" | "read" | "grant" | "keepalive" | "ttl" | "transfer" | "del" | "compact"
            | "raise" | "clear" => {
                self.request(name, rest)?;
            }
            "add" | "promote" | "update" | "remove" => self.change(name, rest)?,
            "join" | "force" => self.join(name, rest)?,
            "members" => return self.members(member(rest.first())?),
            "show" => return self.show(),
            "keys" => return self.keys(member(rest.first())?),
            "turn" => self.world()?.turns(member(rest.first())?, number(rest.get(1)).unwrap_or(1)),
            "log" => return self.log(member(rest.first())?),
            "trace" => self.world()?.trace = rest == ["on"],
            "run" => {
                let duration = duration(rest.first().ok_or("how long?")?)?;
                match rest.get(1) {
                    None => self.world()?.run(duration),
                    alone => {
                        let alone = member(alone)?;
                        self.world()?.run_some(duration, |id| id == alone);
                    }
                }
            }
            "elect" => self.elect(member(rest.first())?)?,
            "cut" | "heal" | "crash" | "start" | "lose" | "full" => self.fault(name, rest)?,
            "hold" | "release" | "flush" | "fail" => self.hold(name, rest)?,
            _ => return Err("no such command".to_owned()),
        }
        Ok(self.told())
    }

    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "`cluster` comes first".to_owned())
    }

    /// What has happened since the last command, answers last.
    fn told(&mut self) -> Vec<String> {
        let Some(world) = self.world.as_mut() else { return Vec::new() };
        let mut lines = std::mem::take(&mut world.lines);
        for (id, result) in std::mem::take(&mut world.answers) {
            let words = self.waiting.remove(&id).expect("each request is answered once");
            lines.push(format!("{words}: {}", show::answer(&result)));
        }
        lines
    }

    fn request(&mut self, name: &str, rest: &[&str]) -> Result<(), String> {
        let member = member(rest.first())?;
        let rest = rest.get(1..).unwrap_or_default();
        let lease = |at: usize| number(rest.get(at)).map(|id| LeaseId(id as i64));
        let asks = match name {
            "put" => rest.iter().map(|pair| put(pair)).collect::<Result<Vec<Ask>, String>>()?,
            "read" => vec![Ask::ReadIndex],
            "del" => {
                let key = rest.first().ok_or("which key?")?.to_string();
                let end = rest.get(1).map_or(String::new(), ToString::to_string);
                let keys = KeyRange::from_wire(key.into(), end.into());
                vec![Ask::Propose(Op::DeleteRange(DeleteRange { keys, prev_kv: false }))]
            }
            "compact" => {
                let revision = Revision(number(rest.first())? as i64);
                vec![Ask::Propose(Op::Compact { revision })]
            }
            "raise" | "clear" => {
                let (member, kind) = (member_of(rest)?, AlarmKind::NoSpace);
                vec![Ask::Propose(Op::Alarm(match name {
                    "raise" => AlarmOp::Raise { member, kind, automatic: false },
                    _ => AlarmOp::Clear { member, kind },
                }))]
            }
            "grant" => {
                let (id, ttl) = (lease(0)?, number(rest.get(1))? as i64);
                vec![Ask::Propose(Op::LeaseGrant { id, ttl })]
            }
            "keepalive" => vec![Ask::LeaseKeepAlive { id: lease(0)? }],
            "ttl" => vec![Ask::LeaseTimeToLive { id: lease(0)? }],
            _ => vec![Ask::TransferLeadership],
        };
        let each = asks.len() > 1 || name == "put";
        let ids = self.world()?.ask(member, asks);
        for (at, id) in ids.into_iter().enumerate() {
            let of = if each { rest[at..=at].join(" ") } else { rest.join(" ") };
            self.waiting.insert(id, format!("{member} {name} {of}").trim_end().to_owned());
        }
        Ok(())
    }

    /// `add n1 n4 [learner] [URL]`, `promote n1 n4`, `update n1 n4 URL`, `remove n1 n4`
    fn change(&mut self, name: &str, rest: &[&str]) -> Result<(), String> {
        let (asked, id) = (member(rest.first())?, member(rest.get(1))?);
        let words = rest.get(2..).unwrap_or_default();
        let is_learner = words.contains(&"learner");
        let urls = words.iter().filter(|word| **word != "learner");
        let peer_urls = urls.map(|url| (*url).to_owned()).collect();
        let change = match name {
            "add" => MemberChange::Add { id, peer_urls, is_learner, learners_max: 1 },
            "promote" => MemberChange::Promote { id },
            "update" => MemberChange::Update { id, peer_urls },
            _ => MemberChange::Remove { id },
        };
        let ids = self.world()?.ask(asked, vec![Ask::Propose(Op::Member(change))]);
        for request in ids {
            self.waiting.insert(request, format!("{asked} {name} {}", rest[1..].join(" ")));
        }
        Ok(())
    }

    /// `join n4 [BIRTH]`: an empty disk; `force n1`: a crash, and a start as the only member.
    fn join(&mut self, name: &str, rest: &[&str]) -> Result<(), String> {
        let id = member(rest.first())?;
        let world = self.world()?;
        if name == "force" {
            world.crash(id);
            world.force_new = Some(id);
            world.start(id);
            return Ok(());
        }
        world.join(id, rest.get(1).map_or(Ok(id.0), |_| number(rest.get(1)))?);
        Ok(())
    }

    fn members(&mut self, id: MemberId) -> Printed {
        let slot = self.world()?.slots.get(&id).ok_or("no such member")?;
        let known = machine::membership(&slot.store);
        let all: Vec<_> = known.members.values().cloned().collect();
        let mut line = show::membership(&all);
        if !known.removed.is_empty() {
            let removed: Vec<String> = known.removed.iter().map(ToString::to_string).collect();
            line.push_str(&format!(", removed {}", removed.join(" ")));
        }
        let version = machine::cluster_version(&slot.store);
        line.push_str(&version.map_or(String::new(), |version| format!(", version {version}")));
        Ok(vec![line])
    }

    fn elect(&mut self, id: MemberId) -> Result<(), String> {
        let world = self.world()?;
        for _ in 0..100 {
            world.run_some(Duration::from_millis(100), |other| other == id);
            let leads = world.slots[&id].node.as_ref().map(|node| node.status());
            if leads.is_some_and(|status| status.role == Role::Leader) {
                return Ok(());
            }
        }
        Err(format!("{id} does not win: {:#?}", world.lines))
    }

    fn fault(&mut self, name: &str, rest: &[&str]) -> Result<(), String> {
        let world = self.world()?;
        if name == "heal" {
            world.heal();
            return Ok(());
        }
        let id = member(rest.first())?;
        match (name, rest.get(1)) {
            ("cut", Some(_)) => world.cut(id, member(rest.get(1))?),
            ("cut", None) => {
                for other in
                    world.slots.keys().copied().filter(|other| *other != id).collect::<Vec<_>>()
                {
                    world.cut(id, other);
                }
            }
            ("crash", _) => {
                let lost = world.crash(id);
                world.lines.insert(0, format!("{id} crashes, {lost} unsynced batches lost"));
                self.waiting.retain(|request, _| request.member != id);
            }
            ("full", how) => world.tell_space(id, how == Some(&"on")),
            ("lose", _) => {
                let count = number(rest.get(1))? as usize;
                world.slots.get_mut(&id).ok_or("no such member")?.disk.lose(count);
            }
            _ => world.start(id),
        }
        Ok(())
    }

    fn hold(&mut self, name: &str, rest: &[&str]) -> Result<(), String> {
        let id = member(rest.first())?;
        let world = self.world()?;
        let disk = &mut world.slots.get_mut(&id).ok_or("no such member")?.disk;
        let hold = name == "hold";
        match (name, rest.get(1).copied()) {
            ("fail", Some("ship")) => {
                disk.hold_ship = false;
                world.fail_ships(id);
            }
            ("flush", None) => {
                disk.hold_sync = false;
                world.sync(id);
                world.slots.get_mut(&id).ok_or("no such member")?.disk.hold_sync = true;
            }
            ("hold" | "release", Some("sync")) => {
                disk.hold_sync = hold;
                world.sync(id);
            }
            ("hold" | "release", Some("ship")) => {
                disk.hold_ship = hold;
                world.ship(id);
            }
            ("hold" | "release", Some("install")) => {
                disk.hold_install = hold;
                world.install(id);
            }
            ("hold" | "release", Some("wake")) => {
                world.slots.get_mut(&id).ok_or("no such member")?.hold_wake = hold;
            }
            _ => return Err("what of it?".to_owned()),
        }
        world.settle();
        Ok(())
    }

    fn show(&mut self) -> Printed {
        let world = self.world()?;
        world.assert_equal_states();
        let line = |(id, status): (MemberId, Option<_>)| match status {
            None => format!("{id} down"),
            Some(status) => {
                let revision = world.slots[&id].published.mark().revision;
                format!("{id} {} {revision}", show::status(&status))
            }
        };
        Ok(world.statuses().into_iter().map(line).collect())
    }

    /// What a reader sees.
    fn keys(&mut self, id: MemberId) -> Printed {
        let slot = self.world()?.slots.get(&id).ok_or("no such member")?;
        let mut keys = Vec::new();
        let all = KeyRange { start: Default::default(), end: RangeEnd::Open };
        slot.published.scan(&all, &mut |key, row| {
            if !row.is_tombstone() {
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
            ControlFlow::Continue(())
        });
        Ok(vec![format!("{}: {}", slot.published.mark().revision, keys.join(" "))])
    }

    fn log(&mut self, id: MemberId) -> Printed {
        let slot = self.world()?.slots.get(&id).ok_or("no such member")?;
        let boot = slot.disk.boot();
        let lines = boot.entries.iter().map(|entry| show::entries(std::slice::from_ref(entry)));
        Ok(lines.collect())
    }
}

fn cluster(words: &[&str]) -> Result<World, String> {
    let (members, options) = words.split_first().ok_or("how many?")?;
    let mut limits = Limits { batches_in_flight_max: 2, ..Limits::default() };
    let mut tells = false;
    for option in options {
        let (name, value) = option.split_once('=').ok_or("an option is name=value")?;
        let value = number(Some(&value))?;
        match name {
            "checkpoint" => limits.checkpoint_entries = value,
            "catchup" => limits.catchup_entries = value,
            "strict" => limits.strict_reconfig_check = value == 1,
            "tell" => tells = value == 1,
            "cache" => limits.log_cache_bytes = value as usize,
            "quota" => limits.quota_bytes = Some(value),
            "sticky" => limits.sticky_no_space = value == 1,
            "note" => {
                limits.lease_checkpoint_interval = Some(Duration::from_secs(value));
            }
            "slice" => limits.apply_slice_keys = value as usize,
            "timeout" => limits.request_timeout = Duration::from_millis(value),
            _ => return Err(format!("option `{name}`")),
        }
    }
    Ok(World::new(number(Some(members))?, limits, tells))
}

fn member_of(words: &[&str]) -> Result<MemberId, String> {
    member(words.first())
}

fn member(word: Option<&&str>) -> Result<MemberId, String> {
    let id = word.and_then(|word| word.strip_prefix('n')?.parse().ok());
    id.map(MemberId).ok_or_else(|| "a member is wanted: n1".to_owned())
}

fn number(word: Option<&&str>) -> Result<u64, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| "a number is wanted".to_owned())
}

fn duration(word: &str) -> Result<Duration, String> {
    let ms = word.strip_suffix("ms").and_then(|ms| ms.parse().ok());
    let seconds = || word.strip_suffix('s').and_then(|s| s.parse().ok()).map(Duration::from_secs);
    ms.map(Duration::from_millis).or_else(seconds).ok_or_else(|| "500ms or 5s".to_owned())
}

fn put(pair: &str) -> Result<Ask, String> {
    let long = |(key, len): (&str, &str)| -> Result<(String, String), String> {
        let len = len.parse().map_err(|_| "a length is wanted")?;
        Ok((key.to_owned(), "x".repeat(len)))
    };
    let (key, value) = match (pair.split_once('='), pair.split_once('*')) {
        (Some((key, value)), _) => (key.to_owned(), value.to_owned()),
        (None, Some(pair)) => long(pair)?,
        (None, None) => return Err("a put is key=value or key*length".to_owned()),
    };
    Ok(Ask::Propose(Op::Put(Put {
        key: key.into(),
        value: value.into(),
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })))
}
