//! Runs the golden scripts under `tests/scripts`: each tells one behaviour, and its first comment is
//! the claim. `UPDATE=1 cargo test -p holdfast-core --test golden` rewrites what they expect; read
//! the difference before you believe it.
//!
//! A script is a sequence of commands, each `> command` followed by the lines it prints. Commands:
//!
//! ```text
//! put KEY VALUE [lease=N] [prev] [ignore-value] [ignore-lease]       del KEY [END] [prev]
//! range KEY [END] [rev=N] [limit=N] [asc|desc] [by=version|create|mod|value] [keys-only]
//!           [count-only] [mod>=N] [mod<=N] [create>=N] [create<=N]
//! txn [if CMP ..] [then OP ; ..] [else OP ; ..] end      CMP is version(a)=1, value(a)!x, mod(a,c)>3
//! compact N      slice      grant ID TTL      revoke ID      lease ID      leases
//! raise MEMBER KIND   notice MEMBER KIND (by the member itself)   clear MEMBER KIND   alarms [KIND]
//! add ID URL ..  learner ID URL ..  promote ID  update ID URL ..  remove ID  force ID
//! started ID BIRTH    version MAJOR MINOR     known (removed ids, births, version)
//! bytes          publish MEMBER NAME URL ..   members        skip
//! rows           restart    reclaim           codec COMMAND (the bytes of its log entry)
//! auth CALL ..   (golden/auth.rs lists them)   as USER[@REV] COMMAND    renew ID    lease-keys ID
//! ```
//!
//! Without `as`, nobody asks; `-` is nobody too, and REV the auth revision of the user's token, the
//! present one when it is left out.
//!
//! END is a key, or `*` for "no end". A pair prints as `a="1" c2 m3 v2 l7`: created r2, modified r3,
//! version 2, lease 7.

mod golden {
    pub mod auth;
    pub mod parse;
    pub mod world;
}
mod runner;

use golden::world::World;

#[test]
fn scripts_print_what_they_claim() {
    runner::check(&["mvcc", "txn", "lease", "compaction", "auth", "members", "alarm"], 23, || {
        let mut world = World::new();
        move |command: &str| world.command(command)
    });
}
