//! A request as it stands in the log: an operation, who asked, and whose request it answers.

use crate::id::RequestId;
use crate::request::{Identity, Op};

/// One command of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose request this is; the member named there answers it.
    pub id: RequestId,
    /// Who asked; apply decides what they may do.
    pub identity: Identity,
    /// What to do.
    pub op: Op,
}
