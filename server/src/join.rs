//! Before a member's first start: what the peers say of the cluster.
//!
//! One that joins (`--initial-cluster-state existing`) learns the cluster's id, who is in it and who it
//! began with, and finds its own id by its peer URLs, as etcd does. One that begins a new cluster asks
//! too: if a peer knows it as started, its data is lost, and it must not vote again.
//!
//! Leaves out everything after the first start; then the data says whose it is.
//!
//! Worked example: `a=http://h:1,b=http://h:2` with `existing`, started as b: a's roster names c9, a at
//! h:1 and an unnamed member n77 at h:2; b is n77 of c9.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use holdfast_core::id::{ClusterId, MemberId};
use holdfast_core::response::Member;
use holdfast_net::peer::{Inquiry, Roster};

use crate::config::{Config, InitialMember};
use crate::identity::{self, Hex};

/// How long a peer may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same where an answer is not needed.
const GLANCE: Duration = Duration::from_millis(500);

/// Who a new member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub member: MemberId,
    /// Its cluster's.
    pub cluster: ClusterId,
    /// The members that the cluster began with.
    pub genesis: Vec<Member>,
    /// The members now, as far as the peers know.
    pub members: Vec<Member>,
}

/// Asks the peers of a running cluster.
///
/// # Errors
/// etcd's sentences, with what to do: no peer answers, or the lists do not match.
pub fn join(config: &Config) -> Result<Joined, String> {
    let others = config.initial_cluster.iter().filter(|member| member.name != config.name);
    let roster = others.flat_map(|member| &member.peer_urls).find_map(|url| {
        let roster = ask(url.address(), PATIENCE)?;
        (!roster.members.is_empty()).then_some(roster)
    });
    let roster = roster.ok_or(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the \
         given URLs: check that a member of --initial-cluster runs and can be reached",
    )?;
    let own = find_own(config, &roster)?;
    if roster.genesis.is_empty() {
        return Err("the cluster was made before members could join it".into());
    }
    refuse_started(own)?;
    let member = own.id;
    let Roster { cluster, members, genesis } = roster;
    Ok(Joined { member, cluster, genesis, members })
}

/// Begins a new cluster as its flags say, unless a peer knows this member as one that has started.
///
/// # Errors
/// etcd's sentence: the member has already been bootstrapped.
pub fn begin(config: &Config) -> Result<Joined, String> {
    let (member, cluster) = identity::of(config);
    let others = config.initial_cluster.iter().filter(|member| member.name != config.name);
    for url in others.flat_map(|other| &other.peer_urls) {
        let Some(roster) = ask(url.address(), GLANCE) else { continue };
        match roster.members.iter().find(|known| known.id == member) {
            Some(own) if roster.cluster == cluster => refuse_started(own)?,
            _ => {}
        }
    }
    let genesis = identity::initial_members(config);
    Ok(Joined { member, cluster, members: Vec::new(), genesis })
}

/// A started member has published its client URLs. Without its data it would vote and acknowledge
/// against what it has promised.
fn refuse_started(own: &Member) -> Result<(), String> {
    match own.client_urls.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "member {} has already been bootstrapped: its data directory is lost or another one; \
             start it with its own, or remove the member and add a new one",
            Hex(own.id.0)
        )),
    }
}

/// The lists must have the same members, each with the same peer URLs.
fn find_own<'a>(config: &Config, roster: &'a Roster) -> Result<&'a Member, String> {
    let listed = &config.initial_cluster;
    let unequal = |why: String| {
        format!(
            "error validating peerURLs: {why}; --initial-cluster must list exactly the members of the \
             running cluster, this one included: add it first (member add)"
        )
    };
    if listed.len() != roster.members.len() {
        let (given, there) = (listed.len(), roster.members.len());
        return Err(unequal(format!("member count is unequal ({given} given, {there} there)")));
    }
    let mut own = None;
    for member in listed {
        let known = roster.members.iter().find(|known| has_urls(known, member));
        let known = known.ok_or_else(|| {
            let urls: Vec<&str> = member.peer_urls.iter().map(|url| url.as_str()).collect();
            unequal(format!("unmatched member while checking PeerURLs ({})", urls.join(",")))
        })?;
        if member.name == config.name {
            own = Some(known);
        }
    }
    own.ok_or_else(|| unequal(format!("{} is not listed", config.name)))
}

fn has_urls(known: &Member, listed: &InitialMember) -> bool {
    let mut left: Vec<&str> = known.peer_urls.iter().map(String::as_str).collect();
    let mut right: Vec<&str> = listed.peer_urls.iter().map(|url| url.as_str()).collect();
    left.sort_unstable();
    right.sort_unstable();
    left == right
}

/// One question to one peer; `None` if it does not answer it.
fn ask(address: &str, patience: Duration) -> Option<Roster> {
    let place = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&place, patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    stream.write_all(&Inquiry::question()).ok()?;
    let mut inquiry = Inquiry::default();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        match inquiry.receive(&buffer[..read]) {
            Ok(Some(roster)) => return Some(roster),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Command;

    fn config(name: &str, list: &str, urls: &str) -> Config {
        let args =
            ["--name", name, "--initial-advertise-peer-urls", urls, "--initial-cluster", list];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        match Config::parse(&args, &[]).expect("is valid") {
            Command::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn member(id: u64, url: &str) -> Member {
        Member { id: MemberId(id), peer_urls: vec![url.into()], ..Member::default() }
    }

    #[test]
    fn a_member_finds_itself_by_its_urls() {
        let list = "a=http://127.0.0.1:1,b=http://127.0.0.1:2";
        let config = config("b", list, "http://127.0.0.1:2");
        let mut roster = Roster {
            members: vec![member(7, "http://127.0.0.1:2"), member(8, "http://127.0.0.1:1")],
            ..Roster::default()
        };
        assert_eq!(find_own(&config, &roster).map(|own| own.id), Ok(MemberId(7)));
        roster.members[0].peer_urls = vec!["http://127.0.0.1:3".into()];
        let error = find_own(&config, &roster).expect_err("nobody is at :2");
        assert!(error.contains("unmatched member while checking PeerURLs"), "{error}");
        roster.members.pop();
        let error = find_own(&config, &roster).expect_err("it was not added");
        assert!(error.contains("member count is unequal"), "{error}");
    }

    #[test]
    fn a_started_member_does_not_begin_again() {
        let mut own = member(7, "http://127.0.0.1:2");
        assert_eq!(refuse_started(&own), Ok(()));
        own.client_urls = vec!["http://127.0.0.1:9".into()];
        let error = refuse_started(&own).expect_err("it has published itself");
        assert!(error.starts_with("member 7 has already been bootstrapped"), "{error}");
    }
}
