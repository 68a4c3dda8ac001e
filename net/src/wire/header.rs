//! The response header: who answered, at which revision and term.

use bytes::BytesMut;
use holdfast_core::id::{ClusterId, MemberId, Revision};
use holdfast_core::query::Header;

use super::write;
use crate::proto::etcdserverpb::ResponseHeader;

const HEADER: u32 = 1;

/// The part of every header that does not change while a member runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The answering member's id, not the leader's.
    pub member: MemberId,
}

impl Origin {
    /// The header as a message.
    pub fn header(self, header: Header) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision: header.revision.0,
            raft_term: header.term.0,
        }
    }

    /// The length of what [`Origin::write`] writes.
    pub(super) fn len(self, header: Header) -> usize {
        write::framed_len(HEADER, self.body_len(header))
    }

    /// Writes the header as field 1.
    pub(super) fn write(self, header: Header, out: &mut BytesMut) {
        write::open(out, HEADER, self.body_len(header));
        write::uint(out, 1, self.cluster.0);
        write::uint(out, 2, self.member.0);
        write::int(out, 3, header.revision.0);
        write::uint(out, 4, header.term.0);
    }

    fn body_len(self, header: Header) -> usize {
        write::uint_len(1, self.cluster.0)
            + write::uint_len(2, self.member.0)
            + write::int_len(3, header.revision.0)
            + write::uint_len(4, header.term.0)
    }
}

/// The header of one operation inside a transaction: only a revision, and not even that (0) in a
/// nested transaction (surface 1.9 row 13).
pub(super) fn write_inner(revision: Revision, out: &mut BytesMut) {
    write::open(out, HEADER, write::int_len(3, revision.0));
    write::int(out, 3, revision.0);
}

/// The length of what [`write_inner`] writes.
pub(super) fn inner_len(revision: Revision) -> usize {
    write::framed_len(HEADER, write::int_len(3, revision.0))
}
