//! The members, as the cluster agreed on them.
//!
//! ```text
//! Table::Members  member id (8 bytes big-endian)  → member
//! member := version:01 learner:(00|01) name:bytes peer_urls:list client_urls:list
//! list   := count:varint bytes * count     bytes := length:varint byte * length
//! ```
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
    batch
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

fn key_of(id: MemberId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

fn encode(member: &Member) -> Bytes {
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
    let len = usize::try_from(take_varint(data)?).ok()?;
    let (text, rest) = data.split_at_checked(len)?;
    *data = rest;
    Some(str::from_utf8(text).ok()?.to_owned())
}
