//! The numbers everything else is named by: members, terms, indexes, revisions, leases.
//!
//! Each is a type of its own, so that an index cannot be taken for a revision. `Display` gives the
//! project's notation, used alike in logs, golden scripts and documents: member `n1`, term `t4`,
//! log position `10@4` (index 10 of term 4), revision `r17`, one change within it `r17.2`.
//!
//! Worked example: the third change of a transaction at revision 17 is `RevSub::new(17, 2)`; a read
//! at revision 17 sees every change strictly below `Revision(17).after()`, which is `r18.0`.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty) $notation:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $notation, self.0)
            }
        }
    };
}

number!(
    /// A member of the cluster; never 0. Derived from peer URLs and token as etcd derives it, and
    /// shown in lower-case hexadecimal.
    MemberId(u64) "n{:x}"
);
number!(
    /// The cluster, derived from the initial member ids as etcd derives it.
    ClusterId(u64) "c{:x}"
);
number!(
    /// Raft term (thesis 3.3).
    Term(u64) "t{}"
);
number!(
    /// Raft log index; the first entry has index 1, 0 is "before the log".
    Index(u64) "{}"
);
number!(
    /// Sequence number of one batch of the write-ahead log, from 1, without gaps.
    WalSeq(u64) "w{}"
);
number!(
    /// A lease. etcd's lease ids are signed; 0 is "no lease".
    LeaseId(i64) "l{:x}"
);
number!(
    /// One run of a member's process: random, fixed at start, different after each restart.
    Incarnation(u64) "i{:x}"
);
number!(
    /// A store revision: an empty store is at 1, each mutating request adds 1 (etcd's main revision).
    Revision(i64) "r{}"
);

impl Index {
    /// The index that follows.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl WalSeq {
    /// The sequence number that follows.
    pub fn next(self) -> WalSeq {
        WalSeq(self.0 + 1)
    }
}

impl LeaseId {
    /// No lease.
    pub const NONE: LeaseId = LeaseId(0);
}

impl Revision {
    /// The revision of an empty store.
    pub const EMPTY: Revision = Revision(1);

    /// The revision that the next change gets.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// The bound of a read at this revision: it sees every change strictly below it.
    pub fn after(self) -> RevSub {
        RevSub { main: self.next(), sub: 0 }
    }
}

/// One change: the revision it belongs to and its place within it, from 0 (etcd's main and sub).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevSub {
    /// The request's revision.
    pub main: Revision,
    /// The order of this change within the request.
    pub sub: u32,
}

impl RevSub {
    /// Shorthand for tests and literals.
    pub const fn new(main: i64, sub: u32) -> RevSub {
        RevSub { main: Revision(main), sub }
    }
}

impl fmt::Display for RevSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// A place in the log: an index together with the term of the entry there. Ordered by term first,
/// as raft compares logs (thesis 3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

impl Position {
    /// Shorthand for tests and literals: `Position::new(10, 4)` is `10@4`.
    pub const fn new(index: u64, term: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term.0)
    }
}

/// Names one client request for as long as it is pending, across the whole cluster: it travels in
/// the log entry, so that the member that took it recognises its own when it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The member that took the request.
    pub member: MemberId,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Counts up from 1 within the run, for each edge of the member on its own; 0 is the node's.
    ///
    /// ```text
    ///  edge : 16 | count : 48
    /// ```
    pub sequence: u64,
}

/// Edges that one member may have: a bound for whatever is kept for each.
pub const EDGES_MAX: usize = 128;

const COUNT_BITS: u32 = 48;

impl RequestId {
    /// The edge that has made a request with this number: below [`EDGES_MAX`] for those of this run.
    pub const fn edge_of(sequence: u64) -> usize {
        (sequence >> COUNT_BITS) as usize
    }

    /// The edge that made this request.
    pub const fn edge(self) -> usize {
        RequestId::edge_of(self.sequence)
    }

    /// Where the numbers of an edge begin: its first request has the next one.
    pub const fn first_of(edge: usize) -> u64 {
        (edge as u64) << COUNT_BITS
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.member, self.sequence)
    }
}
