//! get, put, del and compaction: from operands and flags to one request, and its answer printed.
//!
//! Leaves out transactions (txn.rs), which build their requests with the same functions. The builders
//! are pure but for `put`'s value, which may come from the standard input.
//!
//! Worked example: `get --prefix /a` is the range from `/a` to `/b`, `get --prefix ''` the range from
//! `\0` without an end.

use std::io::Read;
use std::time::Duration;

use holdfast_net::proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use super::client::{Client, Settings, failed};
use super::flags::Flags;
use super::{Exit, Session, go, print_json};

/// Runs `get`.
pub async fn get(mut session: Session) -> Result<(), Exit> {
    let request = range_request(&session.invocation.flags, session.operands())?;
    let mut settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let stream = session.invocation.flags.switch("stream");
    let answer = settings.bounded(read(&client, request, stream)).await?;
    let flags = &session.invocation.flags;
    if flags.switch("count-only") {
        let text = "--count-only is only for `--write-out=fields`";
        return Err(Exit::new(Exit::BAD_ARGS, text));
    }
    if flags.switch("print-value-only") {
        if settings.format != super::client::Format::Simple {
            let text = "print-value-only is only for `--write-out=simple`";
            return Err(Exit::new(Exit::BAD_ARGS, text));
        }
        settings.pairs.value_only = true;
    }
    let simple = || buffer(|out| settings.pairs.get(&answer, out));
    client.show(simple, print_json::get(&answer).into())
}

async fn read(
    client: &Client,
    request: pb::RangeRequest,
    stream: bool,
) -> Result<pb::RangeResponse, Exit> {
    let mut kv = client.kv();
    if !stream {
        return Ok(kv.range(request).await.map_err(failed)?.into_inner());
    }
    let mut pieces = kv.range_stream(request).await.map_err(failed)?.into_inner();
    let mut whole = pb::RangeResponse::default();
    while let Some(piece) = pieces.message().await.map_err(failed)? {
        merge(&mut whole, piece.range_response.unwrap_or_default());
    }
    Ok(whole)
}

/// Puts a piece behind those before it, as protobuf merges messages.
pub fn merge(whole: &mut pb::RangeResponse, piece: pb::RangeResponse) {
    whole.header = piece.header.or(whole.header.take());
    whole.kvs.extend(piece.kvs);
    whole.more |= piece.more;
    if piece.count != 0 {
        whole.count = piece.count;
    }
}

/// Runs `put`.
pub async fn put(mut session: Session) -> Result<(), Exit> {
    let request = put_request(&session.invocation.flags, session.operands(), std::io::stdin())?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut kv = client.kv();
    let call = async { kv.put(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    let simple = || buffer(|out| settings.pairs.put(&answer, out));
    client.show(simple, print_json::put(&answer).into())
}

/// Runs `del`. A range that is not announced by a flag waits before it goes.
pub async fn del(mut session: Session) -> Result<(), Exit> {
    let request = delete_request(&session.invocation.flags, session.operands())?;
    warn_of_range(&session.invocation.flags, session.operands());
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut kv = client.kv();
    let call = async { kv.delete_range(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    let simple = || buffer(|out| settings.pairs.del(&answer, out));
    client.show(simple, print_json::del(&answer).into())
}

/// Runs `compaction`. Its output has one form only.
pub async fn compaction(mut session: Session) -> Result<(), Exit> {
    let request = compaction_request(&session.invocation.flags, session.operands())?;
    let settings = Settings::of(&mut session)?;
    let client = settings.bounded(settings.connect()).await?;
    let mut kv = client.kv();
    let call = async { kv.compact(request).await.map_err(failed) };
    settings.bounded(call).await?;
    super::say(format!("compacted revision {}\n", request.revision).as_bytes())
}

fn buffer(print: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    print(&mut out);
    out
}

/// The request of a `get`.
pub fn range_request(flags: &Flags, operands: &[Vec<u8>]) -> Result<pb::RangeRequest, Exit> {
    let Some(key) = operands.first() else {
        let text = "get command needs one argument as key and an optional argument as range_end";
        return Err(Exit::new(Exit::BAD_ARGS, text));
    };
    one_of(flags, "prefix", "from-key")?;
    one_of(flags, "keys-only", "count-only")?;
    let serializable = is_serializable(flags.text("consistency"))?;
    let (key, range_end) = span(flags, key, operands.get(1))?;
    let order = sort_order(flags.text("order"))?;
    let target = sort_target(flags.text("sort-by"))?;
    Ok(pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: flags.number("limit"),
        revision: flags.number("rev").max(0),
        sort_order: i32::from(implied_order(order, target)),
        sort_target: i32::from(target),
        serializable,
        keys_only: flags.switch("keys-only"),
        count_only: flags.switch("count-only"),
        min_mod_revision: flags.number("min-mod-rev").max(0),
        max_mod_revision: upper(flags, "Mod", "min-mod-rev", "max-mod-rev")?,
        min_create_revision: flags.number("min-create-rev").max(0),
        max_create_revision: upper(flags, "Create", "min-create-rev", "max-create-rev")?,
    })
}

/// etcd's client leaves the order out where it is what a range has anyway: ascending by key.
fn implied_order(order: SortOrder, target: SortTarget) -> SortOrder {
    match (order, target) {
        (SortOrder::Ascend, SortTarget::Key) => SortOrder::None,
        _ => order,
    }
}

fn upper(flags: &Flags, what: &str, min: &str, max: &str) -> Result<i64, Exit> {
    let (min, max) = (flags.number(min), flags.number(max));
    if max > 0 && min > max {
        let text = format!("getMin{what}Rev(={min}) > getMax{what}Rev(={max})");
        return Err(Exit::new(Exit::BAD_FEATURE, text));
    }
    Ok(max.max(0))
}

fn sort_order(text: &str) -> Result<SortOrder, Exit> {
    match text.to_uppercase().as_str() {
        "" => Ok(SortOrder::None),
        "ASCEND" => Ok(SortOrder::Ascend),
        "DESCEND" => Ok(SortOrder::Descend),
        _ => Err(Exit::new(Exit::BAD_FEATURE, format!("bad sort order {text}"))),
    }
}

fn sort_target(text: &str) -> Result<SortTarget, Exit> {
    match text.to_uppercase().as_str() {
        "" | "KEY" => Ok(SortTarget::Key),
        "CREATE" => Ok(SortTarget::Create),
        "MODIFY" => Ok(SortTarget::Mod),
        "VALUE" => Ok(SortTarget::Value),
        "VERSION" => Ok(SortTarget::Version),
        _ => Err(Exit::new(Exit::BAD_FEATURE, format!("bad sort target {text}"))),
    }
}

/// Whether a read may be answered by one member alone.
pub fn is_serializable(text: &str) -> Result<bool, Exit> {
    match text {
        "s" => Ok(true),
        "l" => Ok(false),
        _ => {
            let text = format!("unknown consistency flag {}", go::quote(text));
            Err(Exit::new(Exit::BAD_FEATURE, text))
        }
    }
}

/// The request of a `put`. A value that is no operand is read from `input`.
pub fn put_request(
    flags: &Flags,
    operands: &[Vec<u8>],
    input: impl Read,
) -> Result<pb::PutRequest, Exit> {
    let needs = || {
        let text = "put command needs 1 argument and input from stdin or 2 arguments";
        Exit::new(Exit::BAD_ARGS, text)
    };
    let key = operands.first().ok_or_else(needs)?;
    let ignore_value = flags.switch("ignore-value");
    if ignore_value && operands.len() > 1 {
        let text = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Exit::new(Exit::BAD_ARGS, text));
    }
    let value = match operands.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => read_value(input).ok_or_else(needs)?,
    };
    let lease = go::parse_int(flags.text("lease"), 16).map_err(|reason| {
        Exit::new(Exit::BAD_ARGS, format!("bad lease ID ({reason}), expecting ID in Hex"))
    })?;
    Ok(pb::PutRequest {
        key: key.clone().into(),
        value: value.into(),
        lease,
        prev_kv: flags.switch("prev-kv"),
        ignore_value,
        ignore_lease: flags.switch("ignore-lease"),
    })
}

fn read_value(mut input: impl Read) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    input.read_to_end(&mut value).ok()?;
    (!value.is_empty()).then_some(value)
}

/// The request of a `del`.
pub fn delete_request(flags: &Flags, operands: &[Vec<u8>]) -> Result<pb::DeleteRangeRequest, Exit> {
    let [key, ends @ ..] = operands else { return Err(del_operands()) };
    if ends.len() > 1 {
        return Err(del_operands());
    }
    one_of(flags, "prefix", "from-key")?;
    let (key, range_end) = span(flags, key, ends.first())?;
    let prev_kv = flags.switch("prev-kv");
    Ok(pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv })
}

fn del_operands() -> Exit {
    let text = "del command needs one argument as key and an optional argument as range_end";
    Exit::new(Exit::BAD_ARGS, text)
}

/// Two operands may be a slip of the hand for two keys: says what will happen, and waits.
pub fn warn_of_range(flags: &Flags, operands: &[Vec<u8>]) {
    let [key, end] = operands else { return };
    if flags.switch("range") {
        return;
    }
    eprintln!(
        "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next \
         2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
        go::quote_bytes(key),
        go::quote_bytes(end)
    );
    std::thread::sleep(RANGE_DELAY);
}

const RANGE_DELAY: Duration = Duration::from_secs(2);

/// The request of a `compaction`.
pub fn compaction_request(
    flags: &Flags,
    operands: &[Vec<u8>],
) -> Result<pb::CompactionRequest, Exit> {
    let [revision] = operands else {
        return Err(Exit::new(Exit::BAD_ARGS, "compaction command needs 1 argument"));
    };
    let revision = go::parse_int(&String::from_utf8_lossy(revision), 10)
        .map_err(|reason| Exit::new(Exit::ERROR, reason))?;
    Ok(pb::CompactionRequest { revision, physical: flags.switch("physical") })
}

fn one_of(flags: &Flags, one: &str, other: &str) -> Result<(), Exit> {
    if flags.switch(one) && flags.switch(other) {
        let text = format!("`--{one}` and `--{other}` cannot be set at the same time, choose one");
        return Err(Exit::new(Exit::BAD_ARGS, text));
    }
    Ok(())
}

/// The first key and the end of what the operands and flags mean.
fn span(flags: &Flags, key: &[u8], end: Option<&Vec<u8>>) -> Result<(Vec<u8>, Vec<u8>), Exit> {
    let (prefix, from_key) = (flags.switch("prefix"), flags.switch("from-key"));
    if end.is_some() && (prefix || from_key) {
        let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` \
                    is set";
        return Err(Exit::new(Exit::BAD_ARGS, text));
    }
    if !prefix && !from_key {
        return Ok((key.to_vec(), end.cloned().unwrap_or_default()));
    }
    let first = if key.is_empty() { vec![0] } else { key.to_vec() };
    let end = if prefix && !key.is_empty() { prefix_end(key) } else { vec![0] };
    Ok((first, end))
}

/// The end of the range of all keys that start with `prefix`; `\0`, no end, if nothing is above them.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let Some(last) = prefix.iter().rposition(|byte| *byte < 0xff) else { return vec![0] };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}
