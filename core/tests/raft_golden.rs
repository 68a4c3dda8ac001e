//! Runs the golden scripts of consensus and snapshots: several nodes over memory stores, with instant
//! links and disks that a script can hold back. The first comment of a script is its claim.
//! `UPDATE=1 cargo test -p holdfast-core --test raft_golden` rewrites what they expect; read the
//! difference before you believe it.
//!
//! A script is a sequence of commands, each `> command` followed by what happens because of it:
//!
//! ```text
//! cluster N [checkpoint=N] [catchup=N] [cache=BYTES] [timeout=MS] [strict=0] [tell=1]
//!         [quota=BYTES] [sticky=1] [slice=KEYS]                       a fresh cluster, first command
//! elect n1                   time passes on n1 alone until it leads
//! run 500ms [n1]             time passes everywhere, or on n1 alone
//! put n1 a=1 b*100 ..        one request a pair, all in one turn of n1; b has 100 bytes
//! del n1 KEY [END]   compact n1 N  raise n1 n2   clear n1 n2                (NOSPACE alarms)
//! full n1 on|off             n1's disk has no room for the log to grow
//! read n1                    a read index
//! grant n1 ID TTL   keepalive n1 ID   ttl n1 ID                       leases
//! transfer n1                n1 is asked to hand its leadership over
//! cut n1 [n2]   heal         links; a healed one begins with a hello
//! crash n1   start n1        unsynced batches are lost; the start reads what is durable
//! add n1 n4 [learner] [URL]  promote n1 n4  update n1 n4 URL  remove n1 n4     n1 is asked to
//! join n4 [BIRTH]            n4 starts with an empty disk
//! force n1                   n1 crashes and starts as the only member
//! members n1                 who n1 thinks there is
//! lose n1 N                  the last N entries of n1's durable log disappear
//! hold n1 sync|ship|install  release n1 ..   fail n1 ship             what n1's disk does is held back
//! hold n1 wake               release n1 wake      n1 has turns only for what comes to it, and with
//! turn n1 [N]                some turns          keys n1: what its readers see
//! flush n1                   what is written is flushed, later batches are held back again
//! trace on|off               batches and messages too (heartbeats never)
//! show   log n1              every member; one member's log
//! ```
//!
//! Notation: member `n1`, term `t4`, entry `10@4`, batch `w7`, revision `r17`. The runner itself asserts
//! that a term has one leader, that a publish precedes the replies of its turn, and at each `show`
//! that members at the same entry hold the same state.

mod raft_golden {
    pub mod asserts;
    pub mod disk;
    pub mod script;
    pub mod show;
    pub mod world;
}
mod runner;

use raft_golden::script::Script;

#[test]
fn scripts_print_what_they_claim() {
    runner::check(&["raft", "snapshot", "membership", "space"], 27, || {
        let mut script = Script::default();
        move |command: &str| script.command(command)
    });
}
