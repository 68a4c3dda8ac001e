//! Both directions of the commands about members, tags 40 to 4f; drawn in the head of `codec`.
//!
//! Worked example: `Remove { id: n3 }` is `43 03 00×7`.

use super::decode::{Read, Reader};
use super::encode::Writer;
use crate::id::MemberId;
use crate::membership::{MemberChange, Started, Version};
use crate::request::Op;

const ADD: u8 = 0x40;
const PROMOTE: u8 = 0x41;
const UPDATE: u8 = 0x42;
const REMOVE: u8 = 0x43;
const FORCE_NEW: u8 = 0x44;
const STARTED: u8 = 0x45;
const CLUSTER_VERSION: u8 = 0x46;

impl Writer {
    pub(super) fn change(&mut self, change: &MemberChange) {
        let id = change.id();
        match change {
            MemberChange::Add { peer_urls, is_learner, learners_max, .. } => {
                self.of(ADD, id);
                self.urls(peer_urls);
                self.byte(u8::from(*is_learner));
                self.varint(*learners_max);
            }
            MemberChange::Promote { .. } => self.of(PROMOTE, id),
            MemberChange::Update { peer_urls, .. } => {
                self.of(UPDATE, id);
                self.urls(peer_urls);
            }
            MemberChange::Remove { .. } => self.of(REMOVE, id),
            MemberChange::ForceNew { .. } => self.of(FORCE_NEW, id),
        }
    }

    pub(super) fn started(&mut self, member: MemberId, started: Started) {
        self.of(STARTED, member);
        self.raw(&started.birth.to_le_bytes());
        self.raw(&[started.version.major, started.version.minor]);
    }

    pub(super) fn cluster_version(&mut self, version: Version) {
        self.raw(&[CLUSTER_VERSION, version.major, version.minor]);
    }

    fn of(&mut self, tag: u8, id: MemberId) {
        self.byte(tag);
        self.raw(&id.0.to_le_bytes());
    }

    fn urls(&mut self, urls: &[String]) {
        self.list(urls, |w, url| w.bytes(url.as_bytes()));
    }
}

impl Reader<'_> {
    /// The rest of a command whose tag, `kind`, is none of the others'.
    pub(super) fn member_op(&mut self, kind: u8) -> Read<Op> {
        Ok(match kind {
            ADD => Op::Member(self.add()?),
            PROMOTE => Op::Member(MemberChange::Promote { id: self.member()? }),
            UPDATE => {
                let (id, peer_urls) = (self.member()?, self.list(Reader::text)?);
                Op::Member(MemberChange::Update { id, peer_urls })
            }
            REMOVE => Op::Member(MemberChange::Remove { id: self.member()? }),
            FORCE_NEW => Op::Member(MemberChange::ForceNew { id: self.member()? }),
            STARTED => {
                let member = self.member()?;
                let (birth, version) = (self.fixed()?, self.version()?);
                Op::Started { member, started: Started { birth, version } }
            }
            CLUSTER_VERSION => Op::ClusterVersion(self.version()?),
            kind => return Err(self.unknown(kind)),
        })
    }

    fn add(&mut self) -> Read<MemberChange> {
        let (id, peer_urls) = (self.member()?, self.list(Reader::text)?);
        let is_learner = match self.byte()? {
            flag @ (0 | 1) => flag == 1,
            kind => return Err(self.unknown(kind)),
        };
        Ok(MemberChange::Add { id, peer_urls, is_learner, learners_max: self.varint()? })
    }

    fn member(&mut self) -> Read<MemberId> {
        self.fixed().map(MemberId)
    }

    fn version(&mut self) -> Read<Version> {
        Ok(Version { major: self.byte()?, minor: self.byte()? })
    }
}
