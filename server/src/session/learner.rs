//! What a member without a vote serves: its status, a snapshot, and reads of what it happens to have (surface 1.2).
//!
//! Leaves out streams that are open when a member's vote is taken; there is no way to take it but to
//! remove the member.
//!
//! Worked example: a serializable Range is answered, a linearizable one is "rpc not supported for
//! learner", and so is a transaction that only reads.

use holdfast_core::query::Query;
use holdfast_net::call::Method;

/// Whether a call is looked at at all.
pub fn may_serve(method: Method) -> bool {
    matches!(method, Method::Range | Method::Status | Method::Snapshot)
}

/// Whether a question is answered.
pub fn may_answer(query: &Query) -> bool {
    match query {
        Query::Range(range) => range.serializable,
        Query::Status => true,
        _ => false,
    }
}
