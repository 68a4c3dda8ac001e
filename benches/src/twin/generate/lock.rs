//! Lock and Election: taken, waited for, given back, given up; leaders that are, were, and never were.

use super::Draw;
use crate::twin::step::{Act, Step};

/// Leases that exist from the start, so that keys are the same on both sides.
const LEASES: [i64; 3] = [11, 12, 13];
const NAMES: [&str; 2] = ["mutex", "el"];

/// What is known of who holds what.
#[derive(Debug, Default)]
pub struct Contest {
    begun: bool,
    /// Leaders as the reference named them, as text.
    leaders: Vec<String>,
    count: usize,
}

impl Contest {
    /// At least one step.
    pub fn steps(&mut self, draw: &mut Draw) -> Vec<Step> {
        if !self.begun {
            self.begun = true;
            let grant = |id| Step::call("Lease.LeaseGrant", format!("TTL:5000,ID:{id}"));
            return LEASES.into_iter().map(grant).collect();
        }
        self.count += 1;
        match draw.below(100) {
            0..26 => self.blocking(draw),
            26..40 => vec![Step::call("Lock.Unlock", unlock(draw)), Act::Gather.into()],
            40..50 => {
                vec![Step::call("Election.Proclaim", self.proclaim(draw)), Act::Gather.into()]
            }
            50..66 => vec![Step::call("Election.Resign", self.leader(draw)), Act::Gather.into()],
            66..76 => vec![Step::call("Election.Leader", format!("name:\"{}\"", name(draw)))],
            76..84 => vec![
                Step::open("o1", "Election.Observe", format!("name:\"{}\"", name(draw))),
                Act::Gather.into(),
            ],
            84..90 => {
                let prefix = draw.pick(&NAMES);
                let text = format!("key:\"{prefix}/\",range_end:\"{prefix}0\"");
                vec![Step::call("KV.Range", text)]
            }
            90..93 => {
                let lease = draw.pick(&LEASES);
                vec![
                    Step::call("Lease.LeaseRevoke", format!("ID:{lease}")),
                    Act::Gather.into(),
                    Step::call("Lease.LeaseGrant", format!("TTL:5000,ID:{lease}")),
                ]
            }
            _ => {
                let name = draw.pick(&["b1", "b2", "b3", "o1"]);
                // Giving up takes its key away, which happens by itself a little later.
                vec![Act::Cancel(name.to_owned()).into(), Act::Wait(150).into(), Act::Gather.into()]
            }
        }
    }

    /// Lock or Campaign, which may have to wait.
    fn blocking(&mut self, draw: &mut Draw) -> Vec<Step> {
        let slot = ["b1", "b2", "b3"][self.count % 3];
        let lease = if draw.chance(94) { draw.pick(&LEASES) } else { 404 };
        let step = if draw.chance(50) {
            Step::open(slot, "Lock.Lock", format!("name:\"{}\",lease:{lease}", name(draw)))
        } else {
            let text = format!("name:\"{}\",lease:{lease},value:\"{}\"", name(draw), value(draw));
            Step::open(slot, "Election.Campaign", text)
        };
        // Whoever waited under this name gives up first.
        vec![Act::Cancel(slot.to_owned()).into(), Act::Wait(150).into(), step, Act::Gather.into()]
    }

    fn leader(&mut self, draw: &mut Draw) -> String {
        match draw.below(10) {
            0 => String::new(),
            1 => "leader:{}".to_owned(),
            2 => "leader:{name:\"el\",key:\"el/b\",rev:3,lease:11}".to_owned(),
            _ if self.leaders.is_empty() => "leader:{key:\"el/zz\"}".to_owned(),
            _ => {
                let newest = self.leaders.len().min(3);
                let at = self.leaders.len() - 1 - draw.below(newest);
                format!("leader{}", self.leaders[at])
            }
        }
    }

    fn proclaim(&mut self, draw: &mut Draw) -> String {
        let leader = self.leader(draw);
        let value = value(draw);
        format!("value:\"{value}\",{leader}").trim_end_matches(',').to_owned()
    }

    /// Remembers who leads.
    pub fn learn(&mut self, _: &Step, lines: &[String]) {
        for line in lines {
            if let Some(at) = line.find("leader{")
                && let Some(end) = line[at..].find('}')
            {
                self.leaders.push(line[at + "leader".len()..=at + end].to_owned());
            }
        }
    }
}

fn name(draw: &mut Draw) -> &'static str {
    if draw.chance(4) { "" } else { draw.pick(&NAMES) }
}

fn value(draw: &mut Draw) -> &'static str {
    draw.pick(&["one", "two", "three", ""])
}

fn unlock(draw: &mut Draw) -> String {
    let key = match draw.below(8) {
        0 => String::new(),
        1 => "nobody/1".to_owned(),
        _ => format!("{}/{:x}", draw.pick(&NAMES), draw.pick(&LEASES)),
    };
    format!("key:\"{key}\"")
}
