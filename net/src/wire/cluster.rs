//! The Cluster service. Its headers carry no revision (surface 1.1).
//!
//! Leaves out whether a change may be made. Peer URLs are checked as Go's `types.NewURLs` does: a scheme,
//! a host with a port, no path; those of a new member are sorted, those of an update stay as they are.
//!
//! Worked example: `http://10.0.0.1:2380/` has a path, `/`, and is refused.

use bytes::Bytes;
use holdfast_core::id::{MemberId, Revision};
use holdfast_core::membership::MemberChange;
use holdfast_core::query::{Header, Query};
use holdfast_core::rejection::Rejection;
use holdfast_core::response::Member;

use super::decode;
use super::header::Origin;
use crate::call::GrpcStatus;
use crate::proto::etcdserverpb as pb;

pub(super) fn decode_member_list(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberListRequest = decode(message)?;
    Ok(Query::MemberList { linearizable: request.linearizable })
}

pub(super) fn decode_member_add(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberAddRequest = decode(message)?;
    let mut peer_urls: Vec<String> =
        request.peer_ur_ls.iter().map(|url| url.trim().to_owned()).collect();
    check_peer_urls(&peer_urls)?;
    peer_urls.sort();
    Ok(Query::MemberAdd { peer_urls, is_learner: request.is_learner })
}

pub(super) fn decode_member_remove(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberRemoveRequest = decode(message)?;
    Ok(Query::MemberChange(MemberChange::Remove { id: MemberId(request.id) }))
}

pub(super) fn decode_member_update(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberUpdateRequest = decode(message)?;
    check_peer_urls(&request.peer_ur_ls)?;
    let (id, peer_urls) = (MemberId(request.id), request.peer_ur_ls);
    Ok(Query::MemberChange(MemberChange::Update { id, peer_urls }))
}

pub(super) fn decode_member_promote(message: &Bytes) -> Result<Query, GrpcStatus> {
    let request: pb::MemberPromoteRequest = decode(message)?;
    Ok(Query::MemberChange(MemberChange::Promote { id: MemberId(request.id) }))
}

fn check_peer_urls(urls: &[String]) -> Result<(), Rejection> {
    if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
        return Err(Rejection::MemberBadUrls);
    }
    Ok(())
}

fn is_peer_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let clean = !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    match scheme {
        "unix" | "unixs" => clean && !rest.is_empty(),
        "http" | "https" => clean && has_port(rest),
        _ => false,
    }
}

fn has_port(host: &str) -> bool {
    let Some((name, port)) = host.rsplit_once(':') else { return false };
    let bracketed = name.starts_with('[') && name.ends_with(']');
    let name_fits = bracketed || !name.contains([':', '[', ']']);
    let port_fits = port.bytes().all(|digit| digit.is_ascii_digit());
    name_fits && port_fits && !name.contains(['/', '?', '#', '%', '@'])
}

pub(super) fn member_add_response(
    origin: Origin,
    header: Header,
    (added, members): (&Member, &[Member]),
) -> pb::MemberAddResponse {
    let list = member_list_response(origin, header, members);
    pb::MemberAddResponse {
        header: list.header,
        member: Some(member(added)),
        members: list.members,
    }
}

pub(super) fn member_list_response(
    origin: Origin,
    header: Header,
    members: &[Member],
) -> pb::MemberListResponse {
    let header = origin.header(Header { revision: Revision(0), ..header });
    pb::MemberListResponse { header: Some(header), members: members.iter().map(member).collect() }
}

fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn peer_urls_are_checked_as_go_checks_them() {
        for good in ["http://a:2380", "https://10.0.0.1:2380", "http://[::1]:2380", "unix://a:1"] {
            assert!(check_peer_urls(&[good.to_string()]).is_ok(), "{good}");
        }
        let bad =
            ["", "a:2380", "http://a", "http://a:2380/", "ftp://a:1", "http://a:x", "http://::1:2"];
        for bad in bad {
            assert_eq!(check_peer_urls(&[bad.into()]), Err(Rejection::MemberBadUrls), "{bad}");
        }
        assert_eq!(check_peer_urls(&[]), Err(Rejection::MemberBadUrls));
    }

    #[test]
    fn a_new_members_urls_are_sorted_and_an_updates_are_not() {
        let urls = vec![" http://b:1".to_owned(), "http://a:1 ".to_owned()];
        let add = pb::MemberAddRequest { peer_ur_ls: urls, is_learner: false };
        let add = decode_member_add(&add.encode_to_vec().into()).expect("good URLs");
        let Query::MemberAdd { peer_urls, .. } = add else { panic!("{add:?}") };
        assert_eq!(peer_urls, ["http://a:1", "http://b:1"]);
        let urls = vec!["http://b:1".to_owned(), "http://a:1".to_owned()];
        let update = pb::MemberUpdateRequest { id: 7, peer_ur_ls: urls.clone() };
        let update = decode_member_update(&update.encode_to_vec().into()).expect("good URLs");
        let change = MemberChange::Update { id: MemberId(7), peer_urls: urls };
        assert_eq!(update, Query::MemberChange(change));
    }
}
