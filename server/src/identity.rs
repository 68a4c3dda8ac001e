//! Who a member and its cluster are: etcd's derivation of ids, and what is drawn at random at start.
//!
//! A member's id is the first eight bytes of SHA-1 over its sorted peer URLs and the cluster's token; the
//! cluster's is that of its initial members' ids. Everyone who starts from the same list finds the
//! same ids without talking to anyone.
//!
//! Worked example: with no flags at all the member is `8e9e05c52164694d` and the cluster
//! `cdf818194e3a8c32`, the two ids of a hundred tutorials.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use holdfast_core::id::{ClusterId, Incarnation, MemberId};
use holdfast_core::response::Member;
use sha1::{Digest, Sha1};

use crate::config::{Config, InitialMember};

/// An id as etcd's logs and tools show it: lower-case hexadecimal without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl From<MemberId> for Hex {
    fn from(id: MemberId) -> Hex {
        Hex(id.0)
    }
}

impl From<ClusterId> for Hex {
    fn from(id: ClusterId) -> Hex {
        Hex(id.0)
    }
}

/// The id of the member that has these peer URLs from the cluster's beginning.
pub fn member_id<'a>(peer_urls: impl IntoIterator<Item = &'a str>, token: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.into_iter().collect();
    urls.sort_unstable();
    let mut sha = Sha1::new();
    urls.iter().for_each(|url| sha.update(url.as_bytes()));
    sha.update(token.as_bytes());
    MemberId(head(sha))
}

/// The id of a member that is added to a running cluster with these peer URLs now: as etcd, which takes
/// the seconds since 1970 where the others take the token.
pub fn added_member_id(peer_urls: &[String]) -> MemberId {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    member_id(peer_urls.iter().map(String::as_str), &seconds.to_string())
}

/// The id of the cluster that these members begin.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<MemberId> = members.into_iter().collect();
    ids.sort_unstable();
    let mut sha = Sha1::new();
    ids.iter().for_each(|id| sha.update(id.0.to_be_bytes()));
    ClusterId(head(sha))
}

/// A member of `--initial-cluster`'s id.
fn initial_id(member: &InitialMember, token: &str) -> MemberId {
    member_id(member.peer_urls.iter().map(|url| url.as_str()), token)
}

/// The members a new cluster starts with, in id order: names and peer URLs are known, client URLs
/// only once each has published itself.
pub fn initial_members(config: &Config) -> Vec<Member> {
    let members = config.initial_cluster.iter().map(|member| Member {
        id: initial_id(member, &config.initial_cluster_token),
        name: member.name.clone(),
        peer_urls: member.peer_urls.iter().map(|url| url.to_string()).collect(),
        client_urls: Vec::new(),
        is_learner: false,
    });
    let mut members: Vec<Member> = members.collect();
    members.sort_by_key(|member| member.id);
    members
}

/// This member's id and its cluster's, as its configuration implies them.
pub fn of(config: &Config) -> (MemberId, ClusterId) {
    let token = &config.initial_cluster_token;
    let own = config.initial_cluster.iter().find(|member| member.name == config.name);
    let own = own.expect("a Config's initial cluster contains its name (law 2)");
    let all = config.initial_cluster.iter().map(|member| initial_id(member, token));
    (initial_id(own, token), cluster_id(all))
}

/// A random number that is not 0, from the kernel.
///
/// # Errors
/// `/dev/urandom` cannot be read: the process cannot run without it.
pub fn random() -> io::Result<u64> {
    let mut source = File::open(URANDOM).map_err(named)?;
    loop {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(named)?;
        if bytes != [0; 8] {
            return Ok(u64::from_le_bytes(bytes));
        }
    }
}

/// A name for this run of the process.
///
/// # Errors
/// See [`random`].
pub fn incarnation() -> io::Result<Incarnation> {
    random().map(Incarnation)
}

/// The kernel's boot id, which tells a killed process from a power cut; 0 when the kernel does not
/// say, which is then read as a power cut.
pub fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    parse_uuid(&text)
}

fn parse_uuid(text: &str) -> u128 {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() == 32 { u128::from_str_radix(&digits, 16).unwrap_or(0) } else { 0 }
}

fn head(sha: Sha1) -> u64 {
    let digest = sha.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("SHA-1 has 20 bytes"))
}

fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read random bytes from {URANDOM}: {error}"))
}

const URANDOM: &str = "/dev/urandom";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Command;

    fn config(args: &[&str]) -> Config {
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        match Config::parse(&args, &[]).expect("is valid") {
            Command::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_default_member_is_the_one_of_the_tutorials() {
        let (member, cluster) = of(&config(&[]));
        assert_eq!(Hex::from(member).to_string(), "8e9e05c52164694d");
        assert_eq!(Hex::from(cluster).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let urls = ["http://10.0.0.1:2380", "http://10.0.0.2:2380"];
        let backwards = urls.iter().rev().copied();
        assert_eq!(member_id(urls, "t"), member_id(backwards, "t"));
        assert_ne!(member_id(urls, "t"), member_id(urls, "u"));
        assert_ne!(member_id(urls, "t"), member_id(urls[..1].iter().copied(), "t"));
        let ids = [MemberId(1), MemberId(2)];
        assert_eq!(cluster_id(ids), cluster_id([MemberId(2), MemberId(1)]));
        assert_ne!(cluster_id(ids), cluster_id([MemberId(1)]));
    }

    #[test]
    fn every_member_derives_the_same_cluster() {
        let list =
            "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
        let mut seen = Vec::new();
        for (name, url) in
            [("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:2"), ("c", "http://127.0.0.1:3")]
        {
            let config = config(&["--name", name, "--initial-advertise-peer-urls", url, list]);
            let (member, cluster) = of(&config);
            let members = initial_members(&config);
            assert!(members.is_sorted_by_key(|member| member.id));
            let own = members.iter().find(|one| one.id == member).expect("is one of them");
            assert_eq!((own.name.as_str(), own.peer_urls[0].as_str()), (name, url));
            assert!(own.client_urls.is_empty());
            seen.push((cluster, members));
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
    }

    #[test]
    fn leading_zeros_are_not_shown() {
        assert_eq!(Hex(0xabc).to_string(), "abc");
    }

    #[test]
    fn what_is_drawn_differs() {
        assert_ne!(random().expect("reads"), random().expect("reads"));
        assert_ne!(incarnation().expect("reads"), incarnation().expect("reads"));
    }

    #[test]
    fn the_boot_id_is_a_number() {
        assert_eq!(parse_uuid("00000000-0000-0000-0000-0000000000ff\n"), 255);
        for bad in ["", "ff", "0000000g-0000-0000-0000-0000000000ff", "é"] {
            assert_eq!(parse_uuid(bad), 0, "{bad:?}");
        }
        assert_eq!(boot_id(), boot_id());
    }
}
