//! `--initial-cluster`: who a new cluster starts with.
//!
//! Worked example: `b=http://10.0.0.2:2380,a=http://10.0.0.1:2380,b=http://10.1.0.2:2380` names two
//! members, `a` with one URL and `b` with two.

use std::collections::{BTreeMap, BTreeSet};

use super::url::HttpUrl;

/// One member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its human name.
    pub name: String,
    /// Where its peers reach it, sorted; at least one.
    pub peer_urls: Vec<HttpUrl>,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Every member starts from the same list.
    New,
    /// The member joins one that runs, to which it was added before.
    Existing,
}

/// The state of a text that [`is_state`] accepts.
pub fn state(text: &str) -> ClusterState {
    if text == "existing" { ClusterState::Existing } else { ClusterState::New }
}

/// Whether a text is a cluster state.
pub fn is_state(text: &str) -> bool {
    matches!(text, "new" | "existing")
}

/// The members of the list, in name order.
pub fn parse(text: &str) -> Result<Vec<InitialMember>, String> {
    let mut members: BTreeMap<&str, Vec<HttpUrl>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        if name.is_empty() {
            return Err(format!("error setting up initial cluster: {part:?} has no name"));
        }
        let url = HttpUrl::parse(url)
            .map_err(|error| format!("error setting up initial cluster: {name:?}: {error}"))?;
        members.entry(name).or_default().push(url);
    }
    let members = members.into_iter().map(|(name, mut peer_urls)| {
        peer_urls.sort();
        InitialMember { name: name.to_owned(), peer_urls }
    });
    Ok(members.collect())
}

/// Checks that the list has `name` with the URLs that it advertises, and no URL twice.
pub fn check(
    members: Vec<InitialMember>,
    name: &str,
    advertised: &[HttpUrl],
) -> Result<Vec<InitialMember>, String> {
    let Some(own) = members.iter().find(|member| member.name == name) else {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration: \
             --initial-cluster must contain --name exactly"
        ));
    };
    let mut seen = BTreeSet::new();
    let duplicate =
        members.iter().flat_map(|member| &member.peer_urls).find(|url| !seen.insert(*url));
    if let Some(duplicate) = duplicate {
        return Err(format!("initial cluster {} has duplicate url {duplicate}", show(&members)));
    }
    let lacks =
        |urls: &[HttpUrl], url: &HttpUrl| !urls.iter().any(|other| other.is_same_place(url));
    let missing: Vec<String> = own
        .peer_urls
        .iter()
        .filter(|url| lacks(advertised, url))
        .map(|url| format!("{name}={url}"))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
            missing.join(","),
            join(advertised)
        ));
    }
    match advertised.iter().find(|url| lacks(&own.peer_urls, url)) {
        Some(url) => Err(format!(
            "--initial-advertise-peer-urls has {url} but missing from --initial-cluster={}",
            show(&members)
        )),
        None => Ok(members),
    }
}

fn show(members: &[InitialMember]) -> String {
    let parts = members
        .iter()
        .flat_map(|member| member.peer_urls.iter().map(|url| format!("{}={url}", member.name)));
    parts.collect::<Vec<_>>().join(",")
}

fn join(urls: &[HttpUrl]) -> String {
    urls.iter().map(HttpUrl::as_str).collect::<Vec<_>>().join(",")
}
