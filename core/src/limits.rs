//! Every bound of the core in one validated place. Constants are for formats only; whatever a user
//! or the simulator may want to vary is here.

use std::time::Duration;

/// Bounds and periods. [`Limits::default`] is etcd's defaults where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Heartbeat period and the length of one raft tick (`--heartbeat-interval`).
    pub heartbeat: Duration,
    /// Election timeout (`--election-timeout`); at least five heartbeats.
    pub election_timeout: Duration,
    /// How long a request may wait for consensus; etcd: 5 s plus two election timeouts.
    pub request_timeout: Duration,
    /// Largest log entry made of several commands, in bytes; a larger command is an entry of its own.
    pub entry_bytes_max: usize,
    /// Most commands in one entry.
    pub entry_commands_max: usize,
    /// Log batches written but not yet durable at the same time.
    pub batches_in_flight_max: usize,
    /// Commands admitted and not yet answered, beyond which requests are refused.
    pub pending_commands_max: usize,
    /// Bytes of commands admitted and not yet proposed, beyond which requests are refused.
    pub queued_bytes_max: usize,
    /// Bytes proposed in one turn, and bytes applied at once; a larger command goes alone. Keeps one
    /// log batch small.
    pub turn_bytes_max: usize,
    /// Bytes proposed and not yet committed, or committed and not yet applied, beyond which proposals wait.
    pub uncommitted_bytes_max: u64,
    /// Append messages on their way to one follower, each at most an entry's bound: what a follower
    /// with a stalled disk must hold.
    pub append_messages_in_flight_max: usize,
    /// Largest replicated request, in bytes as etcd counts them (`--max-request-bytes`).
    pub request_bytes_max: usize,
    /// Operations in one transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Entries applied between two checkpoints (`--snapshot-count`); more when the index is so large
    /// that writing it would cost more than the log of so many.
    pub checkpoint_entries: u64,
    /// Bytes of entries applied after which a checkpoint is made, however few the entries are: what a
    /// restart replays, and what is held in memory until then. With an index that is larger it is as
    /// many bytes as the index has, so that checkpoints at most double what is written.
    pub checkpoint_bytes: u64,
    /// Entries kept behind a checkpoint for slow followers (`--snapshot-catchup-entries`).
    pub catchup_entries: u64,
    /// Bytes of log entries kept in memory; older ones are read back from the log.
    pub log_cache_bytes: usize,
    /// Keys that apply looks at in one turn, a deletion counting four, or eight of a leased key; what is more goes on in the next,
    /// and nothing of an entry is shown before its end. Together with the bytes about a millisecond
    /// (`benches/benches/slice.rs`).
    pub apply_slice_keys: usize,
    /// Likewise in bytes of keys and values.
    pub apply_slice_bytes: usize,
    /// Events of one entry that are handed to watchers with the new state; of more they learn from the
    /// store.
    pub publication_events_max: usize,
    /// Revisions looked at in one slice of a physical compaction (`--compaction-batch-limit`).
    pub compaction_batch: usize,
    /// Expired leases whose revocation is proposed and not yet applied, at most: as many go on their way
    /// together, many to an entry, and the next when half of them are gone.
    pub lease_revoke_batch: usize,
    /// How often the leader notes in the log what is left of a lease that has longer than this, so that
    /// the next leader does not begin anew; `None` never does.
    pub lease_checkpoint_interval: Option<Duration>,
    /// Most leases in one such note, and in one tick.
    pub lease_checkpoint_batch: usize,
    /// Bytes that may be stored before puts are refused (`--quota-backend-bytes`); `None` without a
    /// limit.
    pub quota_bytes: Option<u64>,
    /// A NOSPACE alarm stays until an operator clears it (`--experimental-sticky-nospace-alarm`).
    pub sticky_no_space: bool,
    /// Entries whose digests a member remembers, to compare with those of others.
    pub audit_trail: usize,
    /// Keys that an edge reads in one turn of the driver, for all its calls and watches together.
    pub edge_slice_keys: usize,
    /// Likewise in bytes. Both together are about a millisecond: more would delay heartbeats.
    pub edge_slice_bytes: usize,
    /// Bytes that answers of a member may hold, from where they are read to the socket
    /// (`--experimental-answer-memory-bytes`); one larger answer is served while no other is on its way.
    pub answer_bytes_max: usize,
    /// Whether a change of members must leave a quorum of started and connected ones
    /// (`--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// Learners at the same time (`--max-learners`).
    pub learners_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            request_timeout: Duration::from_secs(7),
            entry_bytes_max: 1 << 20,
            entry_commands_max: 1024,
            batches_in_flight_max: 3,
            pending_commands_max: 50_000,
            queued_bytes_max: 256 << 20,
            turn_bytes_max: 4 << 20,
            uncommitted_bytes_max: 256 << 20,
            append_messages_in_flight_max: 64,
            request_bytes_max: 1_572_864,
            txn_ops_max: 128,
            checkpoint_entries: 10_000,
            checkpoint_bytes: 64 << 20,
            catchup_entries: 5_000,
            log_cache_bytes: 32 << 20,
            apply_slice_keys: 4096,
            apply_slice_bytes: 4 << 20,
            publication_events_max: 4096,
            compaction_batch: 1000,
            lease_revoke_batch: 2048,
            lease_checkpoint_interval: Some(Duration::from_secs(300)),
            lease_checkpoint_batch: 1000,
            quota_bytes: None,
            sticky_no_space: false,
            audit_trail: 1 << 14,
            edge_slice_keys: 2048,
            edge_slice_bytes: 1 << 20,
            answer_bytes_max: 256 << 20,
            strict_reconfig_check: true,
            learners_max: 1,
        }
    }
}

impl Limits {
    /// Largest command of a session in the log, in bytes. The edge has counted as etcd does; our own form of an
    /// operation takes some bytes more, and the command says who asks.
    pub fn command_bytes_max(&self) -> usize {
        self.request_bytes_max.saturating_add(1024 + self.txn_ops_max.saturating_mul(64))
    }

    /// Refuses values that cannot work, with a sentence for the operator.
    pub fn validate(&self) -> Result<(), String> {
        if self.heartbeat < Duration::from_millis(1) {
            return Err("--heartbeat-interval must be at least 1 ms".into());
        }
        if self.election_timeout < self.heartbeat * 5 {
            return Err(format!(
                "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
                self.election_timeout.as_millis(),
                self.heartbeat.as_millis()
            ));
        }
        if self.election_timeout > Duration::from_secs(50) {
            return Err(format!(
                "--election-timeout[{}ms] is too long, and should be set less than 50000ms",
                self.election_timeout.as_millis()
            ));
        }
        let positive = [
            ("commands in an entry", self.entry_commands_max),
            ("bytes in an entry", self.entry_bytes_max),
            ("batches in flight", self.batches_in_flight_max),
            ("pending commands", self.pending_commands_max),
            ("queued bytes", self.queued_bytes_max),
            ("bytes in a turn", self.turn_bytes_max),
            ("append messages in flight", self.append_messages_in_flight_max),
            ("--max-request-bytes", self.request_bytes_max),
            ("--max-txn-ops", self.txn_ops_max),
            ("keys applied in a turn", self.apply_slice_keys),
            ("bytes applied in a turn", self.apply_slice_bytes),
            ("events in a publication", self.publication_events_max),
            ("--compaction-batch-limit", self.compaction_batch),
            ("leases revoked at a time", self.lease_revoke_batch),
            ("leases noted at a time", self.lease_checkpoint_batch),
            ("remembered digests", self.audit_trail),
            ("keys read in a turn", self.edge_slice_keys),
            ("bytes read in a turn", self.edge_slice_bytes),
            ("--experimental-answer-memory-bytes", self.answer_bytes_max),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name} must be at least 1")),
            None if self.uncommitted_bytes_max == 0 => {
                Err("uncommitted bytes must be at least 1".into())
            }
            None if self.checkpoint_bytes == 0 => {
                Err("bytes between checkpoints must be at least 1".into())
            }
            None if self.checkpoint_entries == 0 => {
                Err("--snapshot-count must be at least 1".into())
            }
            None => Ok(()),
        }
    }

    /// Raft ticks in one election timeout; at least 5 by [`Limits::validate`].
    pub fn election_ticks(&self) -> usize {
        (self.election_timeout.as_nanos() / self.heartbeat.as_nanos()) as usize
    }

    /// Shortest lease, in seconds: one and a half election timeouts, rounded up (etcd's rule; 2 with
    /// the defaults).
    pub fn lease_ttl_min(&self) -> i64 {
        let ns = self.election_ticks() as u128 * self.heartbeat.as_nanos();
        (ns * 3).div_ceil(2_000_000_000) as i64
    }
}
