//! The bytes of a log entry: several commands, each with who asked and whose request it answers.
//!
//! Leaves out: what a command does, and whether it may; any command that fits the types is encoded.
//!
//! ```text
//! entry    := version:01  count:varint  command * count
//! command  := member:u64le  incarnation:u64le  sequence:varint  auth_revision:varint  user:bytes  op
//! op       := 01 put | 02 delete | 03 txn | 04 revision:int            (put, delete, txn, compact)
//!           | 05 lease:i64le ttl:int | 06 lease:i64le                  (lease grant, lease revoke)
//!           | 07 | 08 member:u64le name:bytes urls:list(bytes)         (alarm list, publish)
//!           | 09 list(lease:i64le granted:varint left:int)                (lease checkpoint)
//!           | 60 alarm | 61 from:varint digests:list(u32le)              (alarms, audit)
//! alarm    := 00 | 01 kind | 02 member:u64le kind automatic:(00|01) | 03 member:u64le kind
//!                                           (nothing, list, raise, clear; kind: 01 space, 02 corrupt)
//!           | 50 auth
//! auth     := 01 | 02 | 03                                             (enable, disable, status)
//!           | 04 user:bytes token:bytes checked:varint                 (authenticate)
//!           | 05 flags name:bytes hash:bytes | 06 name:bytes | 07 | 08 name:bytes
//!                                            (user add, flag 1: no password; get, list, delete)
//!           | 09 flags name:bytes hash:bytes                           (password, flag 1: not a hash)
//!           | 0a user:bytes role:bytes | 0b user:bytes role:bytes      (user grant, revoke role)
//!           | 0c name:bytes | 0d name:bytes | 0e | 0f name:bytes       (role add, get, list, delete)
//!           | 10 flags role:bytes (kind:int key:bytes end:bytes)?      (grant, flag 1: permission follows)
//!           | 11 role:bytes key:bytes end:bytes                        (revoke permission)
//!           | 40 id urls learner:(00|01) max:varint | 41 id | 42 id urls | 43 id | 44 id
//!                                        (member add, promote, update, remove, force new cluster)
//!           | 45 id birth:u64le version | 46 version                   (started, cluster version)
//! id       := member:u64le        urls := list(bytes)        version := major:byte minor:byte
//! put      := flags key:bytes value:bytes lease:i64le?    flags: 1 prev_kv, 2 ignore_value,
//!                                                                4 ignore_lease, 8 lease follows
//! delete   := flags keys                                  flags: 1 prev_kv
//! keys     := start:bytes (00 | 01 end:bytes | 02)        (one key, before end, open)
//! range    := flags order target keys limit:int revision:int filter:int * 4?
//!             flags: 1 serializable, 2 keys_only, 4 count_only, 8 filters follow:
//!             mod_min, mod_max, create_min, create_max
//! txn      := compares:list success:list failure:list
//! compare  := keys result target                          target: 00 version, 01 create, 02 mod,
//!             03 value, 04 lease, 05 unknown; then the operand (int or bytes)
//! txn op   := 01 range | 02 put | 03 delete | 04 txn
//! list     := count:varint item * count       bytes := length:varint byte * length
//! int      := varint, zigzag (0, -1, 1, -2, … become 0, 1, 2, 3, …)
//! varint   := base 128, least significant group first, at most 64 bits
//! ```
//!
//! Laws:
//!  1. `decode_entry(encode_entry(c)) == c`. Decoded keys and values are slices of the entry's own
//!     buffer: nothing is copied, and each keeps the whole buffer alive.
//!  2. Any bytes decode to commands or to a [`CodecError`]: no panic, recursion no deeper than
//!     [`TXN_DEPTH_MAX`], memory within a constant factor of the input.
//!  3. An entry says its version first. A version this member does not know is an error that halts
//!     it: applying half of an entry would part it from the others.
//!  4. A membership change is the only command of an entry of kind `ConfChange`, and of no other.
//!
//! Worked example: `put a=b` as request 5 of member n1 in run i2 is
//! `01 01 | 01 00×7 | 02 00×7 | 05 | 00 | 00 | 01 | 00 01 61 01 62`.

mod auth;
mod decode;
mod encode;
mod member;

use std::fmt;

use bytes::Bytes;

use crate::command::Command;
use crate::request::{Op, Txn, TxnOp};

/// Deepest nesting of transactions an entry can carry: the outermost has depth 1. Protobuf decoders
/// stop at about 50, so no client reaches it.
pub const TXN_DEPTH_MAX: usize = 64;

/// The version this code writes, and the newest it reads.
const VERSION: u8 = 1;

/// The version and the count of commands.
const HEAD_BYTES_MAX: usize = 11;

/// Makes an entry of `commands`.
///
/// Every command must have an [`encoded_len`] other than `usize::MAX`; admission has refused the
/// others as too large.
pub fn encode_entry(commands: &[Command]) -> Bytes {
    let mut encoded = Vec::new();
    for command in commands {
        append_command(command, &mut encoded)
            .expect("admission refuses a command that cannot be encoded");
    }
    join_commands(commands.len(), &encoded, None)
}

/// Adds a command as it stands in an entry, and says how many bytes it has; `None`, and nothing is
/// added, for one whose transactions are nested deeper than [`TXN_DEPTH_MAX`].
pub fn append_command(command: &Command, out: &mut Vec<u8>) -> Option<usize> {
    if !can_be_encoded(command) {
        return None;
    }
    let mut writer = encode::Writer::appending(std::mem::take(out));
    writer.command(command);
    let bytes = writer.len();
    *out = writer.finish();
    Some(bytes)
}

/// Makes an entry of `count` commands that [`append_command`] has encoded, and of `more` behind them.
pub fn join_commands(count: usize, encoded: &[u8], more: Option<&Command>) -> Bytes {
    let len = HEAD_BYTES_MAX + encoded.len() + more.map_or(0, encoded_len);
    let mut writer = encode::Writer::appending(Vec::with_capacity(len));
    writer.byte(VERSION);
    writer.varint((count + usize::from(more.is_some())) as u64);
    writer.raw(encoded);
    if let Some(command) = more {
        writer.command(command);
    }
    writer.finish().into()
}

/// How many bytes `command` takes in an entry, without making them; `usize::MAX` for one that cannot
/// be encoded at all because its transactions are nested deeper than [`TXN_DEPTH_MAX`].
pub fn encoded_len(command: &Command) -> usize {
    if !can_be_encoded(command) {
        return usize::MAX;
    }
    let mut writer = encode::Writer::counting();
    writer.command(command);
    writer.len()
}

/// Reads the entry of a membership change: exactly one command, and that a change.
pub fn decode_change(data: &Bytes) -> Result<Command, CodecError> {
    let problem = Problem::Alone;
    let [command] = <[Command; 1]>::try_from(decode_any(data)?)
        .map_err(|_| CodecError { offset: 0, problem })?;
    match command.op {
        Op::Member(_) => Ok(command),
        _ => Err(CodecError { offset: 0, problem }),
    }
}

/// Reads an ordinary entry. An empty entry (a new leader's first) has no commands.
pub fn decode_entry(data: &Bytes) -> Result<Vec<Command>, CodecError> {
    let commands = decode_any(data)?;
    match commands.iter().any(|command| matches!(command.op, Op::Member(_))) {
        true => Err(CodecError { offset: 0, problem: Problem::Alone }),
        false => Ok(commands),
    }
}

fn decode_any(data: &Bytes) -> Result<Vec<Command>, CodecError> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = decode::Reader::new(data);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(CodecError { offset: 0, problem: Problem::Version(version) });
    }
    let commands = reader.list(decode::Reader::command)?;
    reader.finish()?;
    Ok(commands)
}

fn can_be_encoded(command: &Command) -> bool {
    match &command.op {
        Op::Txn(txn) => fits_depth(txn, TXN_DEPTH_MAX),
        _ => true,
    }
}

fn fits_depth(txn: &Txn, left: usize) -> bool {
    left > 0
        && txn.success.iter().chain(&txn.failure).all(|op| match op {
            TxnOp::Txn(child) => fits_depth(child, left - 1),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => true,
        })
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecError {
    /// Where in the entry.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Written by a newer version of the program.
    Version(u8),
    /// The bytes end within an item.
    Truncated,
    /// A number of more than 64 bits.
    Number,
    /// An unknown kind or flag.
    Kind(u8),
    /// A name or URL that is not UTF-8.
    Text,
    /// Transactions nested too deeply.
    Depth,
    /// Bytes after the last command.
    Trailing,
    /// A membership change among other commands, or something else in its place.
    Alone,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.problem {
            Problem::Version(version) => write!(
                f,
                "entry codec version {version} is newer than this program's {VERSION}: upgrade it"
            ),
            Problem::Truncated => write!(f, "the entry ends within an item at byte {offset}"),
            Problem::Number => write!(f, "a number of more than 64 bits at byte {offset}"),
            Problem::Kind(kind) => write!(f, "unknown kind or flags {kind:#04x} at byte {offset}"),
            Problem::Text => write!(f, "text that is not UTF-8 at byte {offset}"),
            Problem::Depth => {
                write!(f, "transactions nested deeper than {TXN_DEPTH_MAX} at byte {offset}")
            }
            Problem::Alone => write!(f, "a membership change is not alone in its entry"),
            Problem::Trailing => write!(f, "bytes after the last command at byte {offset}"),
        }
    }
}

impl std::error::Error for CodecError {}

#[cfg(test)]
mod tests;
