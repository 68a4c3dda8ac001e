//! What a node tells about itself after each turn; enough for Maintenance.Status, health and metrics.

use crate::id::{Index, MemberId, Position, Term};

/// Raft role (thesis 3.3, 9.6, 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Follows without a vote.
    Learner,
}

/// A node's public state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Current term.
    pub term: Term,
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// This member's role.
    pub role: Role,
    /// Highest committed index.
    pub commit: Index,
    /// Last applied entry.
    pub applied: Position,
    /// Last entry of the log.
    pub last: Position,
    /// Commands admitted and not yet answered.
    pub pending: usize,
    /// Bytes of log applied since the last checkpoint was ordered.
    pub unsaved_bytes: u64,
    /// Whether a checkpoint is being made.
    pub saving: bool,
}

/// A member that stops leaves less log than this behind its checkpoint: what a start replays in milliseconds.
pub(crate) const REPLAYED_BYTES: u64 = 1 << 20;

impl Status {
    /// Whether a start from here has little to replay.
    pub fn is_saved(&self) -> bool {
        !self.saving && self.unsaved_bytes < REPLAYED_BYTES
    }
}
