//! txn: conditions, operations if all hold, operations otherwise, each a block of lines of the
//! standard input that ends with an empty line.
//!
//! Leaves out what a condition is (compare.rs) and what an operation's flags mean (kv.rs). Law: nothing
//! is sent before all three blocks were read and understood.
//!
//! Worked example: the input `ver("a") = "0"`, empty, `put a new`, empty, `get a`, empty writes `a`
//! if there is none, else reads it.

use std::io::BufRead;

use holdfast_net::proto::etcdserverpb as pb;
use pb::request_op::Request;

use super::client::{Settings, failed};
use super::command::{self, Action};
use super::{Exit, Session, compare, go, kv, print_json};

/// Runs `txn`.
pub async fn run(mut session: Session) -> Result<(), Exit> {
    if !session.operands().is_empty() {
        return Err(Exit::new(Exit::BAD_ARGS, "txn command does not accept argument"));
    }
    let settings = Settings::of(&mut session)?;
    let interactive = session.invocation.flags.switch("interactive");
    let request = read(&mut std::io::stdin().lock(), |prompt| match interactive {
        true => super::say(format!("{prompt}\n").as_bytes()),
        false => Ok(()),
    })?;
    let settings = settings.from_now(&session);
    let client = settings.bounded(settings.connect()).await?;
    let mut kv = client.kv();
    let call = async { kv.txn(request).await.map_err(failed) };
    let answer = settings.bounded(call).await?.into_inner();
    let simple = || {
        let mut out = Vec::new();
        settings.pairs.txn(&answer, &mut out);
        out
    };
    client.show(simple, print_json::txn(&answer).into())
}

/// Reads a transaction; `prompt` says what comes next.
pub fn read(
    input: &mut impl BufRead,
    prompt: impl Fn(&str) -> Result<(), Exit>,
) -> Result<pb::TxnRequest, Exit> {
    prompt("compares:")?;
    let mut request = pb::TxnRequest::default();
    while let Some(line) = line(input)? {
        request.compare.push(compare::parse(&line)?);
    }
    prompt("success requests (get, put, del):")?;
    request.success = ops(input)?;
    prompt("failure requests (get, put, del):")?;
    request.failure = ops(input)?;
    Ok(request)
}

fn ops(input: &mut impl BufRead) -> Result<Vec<pb::RequestOp>, Exit> {
    let mut ops = Vec::new();
    while let Some(line) = line(input)? {
        ops.push(pb::RequestOp { request: Some(op(&line)?) });
    }
    Ok(ops)
}

/// The next line without the blanks around it; none at an empty one, which ends a block.
fn line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Exit> {
    let mut line = Vec::new();
    let read = input.read_until(b'\n', &mut line);
    read.map_err(|cause| Exit::new(Exit::INVALID_INPUT, cause))?;
    if line.last() != Some(&b'\n') {
        return Err(Exit::new(Exit::INVALID_INPUT, "EOF"));
    }
    let line = line.trim_ascii().to_vec();
    Ok((!line.is_empty()).then_some(line))
}

/// One operation. A `put` must have its value: the input belongs to the transaction.
fn op(line: &[u8]) -> Result<Request, Exit> {
    let shown = String::from_utf8_lossy(line).into_owned();
    let words = go::words(line).map_err(|reason| Exit::new(Exit::INVALID_INPUT, reason))?;
    if words.len() < 2 {
        let text = format!("invalid txn compare request: {shown}");
        return Err(Exit::new(Exit::INVALID_INPUT, text));
    }
    let Some((action, flags, operands)) = command::parse_op(&words) else {
        return Err(Exit::new(Exit::INVALID_INPUT, format!("invalid txn request: {shown}")));
    };
    let operands = &operands.all;
    match action {
        Action::Put => kv::put_request(&flags, operands, std::io::empty()).map(Request::RequestPut),
        Action::Del => {
            let request = kv::delete_request(&flags, operands)?;
            kv::warn_of_range(&flags, operands);
            Ok(Request::RequestDeleteRange(request))
        }
        _ => kv::range_request(&flags, operands).map(Request::RequestRange),
    }
}
