//! The members, as the cluster agreed on them.
//!
//! ```text
//! Table::Members  member id (8 bytes big-endian)  → member
//! member := version:01 learner:(00|01) name:bytes peer_urls:list client_urls:list
//! list   := count:varint bytes * count     bytes := length:varint byte * length
//! Table::Meta     "genesis"                          → (member id (8 bytes big-endian) bytes(member)) *
//! ```
//!
//! Who the cluster began with stays on record: a member that joins starts where everybody did, and
//! takes the log from there (or a snapshot of somewhere later).
//!
//! Leaves out: changing the set of members.
//!
//! Law: a member has no name and no client URLs until it has published itself.
//!
//! Worked example: an unstarted voter with one peer URL "http://a:1" is
//! `01 00 | 00 | 01 0a "http://a:1" | 00`.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::id::MemberId;
use crate::kv::{put_varint, take_varint};
use crate::machine::draft::Draft;
use crate::response::Member;
use crate::store::{Batch, Change, Mark, Table, View};

/// The state every member starts from: nothing but the initial members.
pub fn genesis(members: &[Member]) -> Batch {
    let mut batch = Batch::new(Mark::EMPTY);
    batch.push(super::ledger::genesis());
    for member in members {
        let (key, value) = (key_of(member.id), encode(member));
        batch.push(Change::Set { table: Table::Members, key, value });
    }
    let (key, value) = (Bytes::from_static(GENESIS), encode_all(members));
    batch.push(Change::Set { table: Table::Meta, key, value });
    batch
}

/// The members that the cluster began with; `None` where that was not recorded.
pub fn initial_members(view: &dyn View) -> Option<Vec<Member>> {
    let row = view.table(Table::Meta, GENESIS)?;
    let mut rest = &row[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (key, more) = rest.split_at_checked(8)?;
        rest = more;
        let value = take_bytes(&mut rest)?;
        found.push(decode(key, value)?);
    }
    Some(found)
}

fn encode_all(members: &[Member]) -> Bytes {
    let mut out = Vec::new();
    for member in members {
        let value = encode(member);
        out.extend_from_slice(&key_of(member.id));
        put_varint(&mut out, value.len() as u64);
        out.extend_from_slice(&value);
    }
    out.into()
}

/// All members, by ascending id.
pub fn members(view: &dyn View) -> Vec<Member> {
    let mut found = Vec::new();
    view.table_scan(Table::Members, b"", &mut |key, value| {
        found.extend(decode(key, value));
        ControlFlow::Continue(())
    });
    found
}

/// Notes what a started member says of itself. One that was removed meanwhile is not brought back.
pub(super) fn publish(draft: &mut Draft<'_>, id: MemberId, name: &str, client_urls: &[String]) {
    let key = key_of(id);
    let row = draft.view().table(Table::Members, &key);
    let Some(known) = row.and_then(|value| decode(&key, &value)) else { return };
    let member = Member { name: name.to_owned(), client_urls: client_urls.to_vec(), ..known };
    draft.set(Table::Members, key, encode(&member));
}

const VERSION: u8 = 1;

const GENESIS: &[u8] = b"genesis";

pub(super) fn key_of(id: MemberId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

pub(super) fn encode(member: &Member) -> Bytes {
    let mut out = vec![VERSION, u8::from(member.is_learner)];
    put_text(&mut out, &member.name);
    for urls in [&member.peer_urls, &member.client_urls] {
        put_varint(&mut out, urls.len() as u64);
        urls.iter().for_each(|url| put_text(&mut out, url));
    }
    out.into()
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn decode(key: &[u8], value: &[u8]) -> Option<Member> {
    let id = MemberId(u64::from_be_bytes(key.try_into().ok()?));
    let [VERSION, learner, rest @ ..] = value else { return None };
    let mut rest = rest;
    Some(Member {
        id,
        name: take_text(&mut rest)?,
        peer_urls: take_list(&mut rest)?,
        client_urls: take_list(&mut rest)?,
        is_learner: *learner != 0,
    })
}

fn take_list(data: &mut &[u8]) -> Option<Vec<String>> {
    let count = take_varint(data)?;
    // Each item takes a byte at least, so a wrong count ends with the data.
    (0..count).map(|_| take_text(data)).collect()
}

fn take_text(data: &mut &[u8]) -> Option<String> {
    Some(str::from_utf8(take_bytes(data)?).ok()?.to_owned())
}

fn take_bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(data)?).ok()?;
    let (bytes, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(bytes)
}
