//! What an answer says, and whether it is well formed. Whether it is right for what was asked is judged
//! in `work.rs`.

use super::pb::{self, Value, fields};
use super::tally::Kind;
use super::values::Pattern;

/// What the answer to a call said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Got {
    /// The store's revision when it was made.
    pub revision: i64,
    /// Keys returned, counted or deleted.
    pub pairs: u64,
    /// Whether a transaction's comparisons held.
    pub succeeded: bool,
    /// The last revision of the key that a failed swap read; 0 when it is absent.
    pub found: i64,
    /// A lease, and the seconds it has left.
    pub lease: i64,
    pub ttl: u64,
}

/// Reads the answer to a call.
pub(super) fn read(
    kind: Kind,
    message: &[u8],
    count_only: bool,
    pattern: &Pattern,
) -> Result<Got, String> {
    let mut got = Got::default();
    let mut all = fields(message);
    for (field, value) in all.by_ref() {
        match (field, kind) {
            (1, _) => got.revision = pb::number_of(value.bytes(), 3) as i64,
            (2, Kind::Range | Kind::List) => {
                got.pairs += 1;
                check_value(value.bytes(), pattern)?;
            }
            (4, Kind::Range) if count_only => got.pairs = value.number(),
            (2, Kind::Swap | Kind::Create | Kind::Remove | Kind::Load) => {
                got.succeeded = value.number() != 0;
            }
            (3, Kind::Swap | Kind::Create | Kind::Remove) => got.found = found(value),
            (2, Kind::Delete) => got.pairs = value.number(),
            (2, Kind::Grant | Kind::KeepAlive) => got.lease = value.number() as i64,
            (3, Kind::Grant | Kind::KeepAlive) => got.ttl = value.number(),
            _ => {}
        }
    }
    // etcd's answer to Defragment has no header.
    if all.malformed || (got.revision == 0 && kind != Kind::Defragment) {
        return Err(format!("a malformed answer to {}", kind.name()));
    }
    Ok(got)
}

/// The revision of the key that a transaction's operation read.
fn found(operation: Value<'_>) -> i64 {
    let range = pb::bytes_of(operation.bytes(), 1);
    pb::number_of(pb::bytes_of(range, 2), 3) as i64
}

fn check_value(pair: &[u8], pattern: &Pattern) -> Result<(), String> {
    match pattern.check(pb::bytes_of(pair, 5)) {
        Some(_) => Ok(()),
        None => Err("a value that nobody wrote".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(out: &mut Vec<u8>, revision: u64) {
        pb::put_message(out, 1, |out| pb::put_number(out, 3, revision));
    }

    #[test]
    fn a_failed_swap_tells_what_it_found() {
        let mut answer = Vec::new();
        header(&mut answer, 17);
        pb::put_message(&mut answer, 3, |out| {
            pb::put_message(out, 1, |out| {
                header(out, 17);
                pb::put_message(out, 2, |out| pb::put_number(out, 3, 12));
            });
        });
        let pattern = Pattern::new(0);
        let got = read(Kind::Swap, &answer, false, &pattern).expect("well formed");
        assert_eq!(got, Got { revision: 17, found: 12, ..Got::default() });
    }

    #[test]
    fn a_changed_value_and_an_answer_without_header_are_errors() {
        let pattern = Pattern::new(256);
        let mut answer = Vec::new();
        header(&mut answer, 5);
        pb::put_message(&mut answer, 2, |out| pattern.put(out, (5, 256), 7, 9));
        assert_eq!(read(Kind::Range, &answer, false, &pattern).expect("good").pairs, 1);
        *answer.last_mut().expect("bytes") ^= 1;
        assert!(read(Kind::Range, &answer, false, &pattern).is_err());
        assert!(read(Kind::Put, &[], false, &pattern).is_err());
        assert!(read(Kind::Defragment, &[], false, &pattern).is_ok());
    }
}
