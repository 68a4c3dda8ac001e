//! One line of a transaction's conditions: `mod("key") > "0"`.
//!
//! Pure. Targets are `ver`/`version`, `c`/`create`, `m`/`mod`, `val`/`value` and `lease`; operators
//! `=`, `!=`, `>`, `<`. Keys and values are Go string literals. A lease is compared as a hexadecimal
//! id, as everywhere else in these commands (etcdctl stops with a stack trace there, and at an
//! unknown operator, where this answers a sentence).
//!
//! Worked example: `ver("a") = "1"` compares the version of `a` with 1.

use holdfast_net::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::{Exit, go};

/// Understands a line.
pub fn parse(line: &[u8]) -> Result<pb::Compare, Exit> {
    let shown = String::from_utf8_lossy(line).into_owned();
    let wrong =
        |why: &str| Exit::new(Exit::INVALID_INPUT, format!("malformed comparison: {shown}{why}"));
    let open = line.iter().position(|byte| *byte == b'(').ok_or_else(|| wrong(""))?;
    let target = String::from_utf8_lossy(&line[..open]).into_owned();
    let parts = Parts::scan(&line[open + 1..]);
    if !parts.complete {
        return Err(wrong(&parts.got(&target)));
    }
    let number = || {
        let invalid = format!("invalid txn compare request: {shown}");
        let text = String::from_utf8_lossy(&parts.value);
        go::parse_int(&text, 10).map_err(|_| Exit::new(Exit::INVALID_INPUT, invalid))
    };
    let (target, operand) = match target.as_str() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(parts.value.clone().into())),
        "lease" => {
            let id = go::parse_int(&String::from_utf8_lossy(&parts.value), 16);
            let id = id.map_err(|reason| wrong(&format!(" ({reason}, expecting ID in Hex)")))?;
            (CompareTarget::Lease, TargetUnion::Lease(id))
        }
        other => return Err(wrong(&format!(" (unknown target {other})"))),
    };
    let result = match parts.operator.as_slice() {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        other => {
            let operator = String::from_utf8_lossy(other);
            return Err(wrong(&format!(" (unknown operator {operator})")));
        }
    };
    Ok(pb::Compare {
        result: i32::from(result),
        target: i32::from(target),
        key: parts.key.into(),
        target_union: Some(operand),
        ..pb::Compare::default()
    })
}

/// What was read of `"key") operator "value"`.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: Vec<u8>,
    value: Vec<u8>,
    complete: bool,
}

impl Parts {
    fn scan(text: &[u8]) -> Parts {
        let mut parts = Parts::default();
        let Some((key, rest)) = go::unquote(text.trim_ascii_start()) else { return parts };
        parts.key = key;
        let Some(rest) = rest.strip_prefix(b")") else { return parts };
        if !rest.first().is_some_and(u8::is_ascii_whitespace) {
            return parts;
        }
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        parts.operator = rest[..end].to_vec();
        if let Some((value, _)) = go::unquote(rest[end..].trim_ascii_start()) {
            parts.value = value;
            parts.complete = !parts.operator.is_empty();
        }
        parts
    }

    fn got(&self, target: &str) -> String {
        let operator = String::from_utf8_lossy(&self.operator);
        let (key, value) = (go::quote_bytes(&self.key), go::quote_bytes(&self.value));
        format!("; got {target}({key}) {operator} {value}")
    }
}
