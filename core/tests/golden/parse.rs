//! Words of a script's command into the core's types.

use bytes::Bytes;
use holdfast_core::alarm::AlarmOp;
use holdfast_core::id::{LeaseId, MemberId, Revision};
use holdfast_core::membership::{MemberChange, Started, Version};
use holdfast_core::request::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Op, Put, Range, RangeEnd,
    SortOrder, SortTarget, Txn, TxnOp,
};
use holdfast_core::response::AlarmKind;

/// Words not yet read.
pub struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

type Parsed<T> = Result<T, String>;

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Words<'a> {
        Words(line.split_whitespace().peekable())
    }

    pub fn next(&mut self) -> Parsed<&'a str> {
        self.0.next().ok_or_else(|| "a word is missing".to_owned())
    }

    pub fn number(&mut self) -> Parsed<i64> {
        number(self.next()?)
    }

    pub fn rest(&mut self) -> Vec<String> {
        self.0.by_ref().map(str::to_owned).collect()
    }

    pub fn end(&mut self) -> Parsed<()> {
        self.0.next().map_or(Ok(()), |word| Err(format!("`{word}` is not understood")))
    }

    /// The next word, if it is an option of the present operation.
    fn option(&mut self) -> Option<&'a str> {
        self.0.next_if(|word| ![";", "else", "end"].contains(word))
    }

    /// The end of a range: a key that does not look like an option.
    fn range_end(&mut self) -> Option<&'a str> {
        let options = [";", "else", "end", "prev", "asc", "desc", "keys-only", "count-only"];
        self.0.next_if(|word| !options.contains(word) && !word.contains('='))
    }
}

/// A replicated operation, or `None` when the word is another command.
pub fn op(word: &str, words: &mut Words<'_>) -> Parsed<Option<Op>> {
    Ok(Some(match word {
        "put" => Op::Put(put(words)?),
        "del" => Op::DeleteRange(delete(words)?),
        "txn" => Op::Txn(txn(words)?),
        "compact" => Op::Compact { revision: Revision(words.number()?) },
        "grant" => Op::LeaseGrant { id: LeaseId(words.number()?), ttl: words.number()? },
        "revoke" => Op::LeaseRevoke { id: LeaseId(words.number()?) },
        "alarms" => match words.rest().first().map(String::as_str) {
            None => Op::AlarmList,
            Some("none") => Op::Alarm(AlarmOp::Nothing),
            Some(name) => Op::Alarm(AlarmOp::List(alarm_kind(name)?)),
        },
        "raise" | "notice" => Op::Alarm(AlarmOp::Raise {
            member: MemberId(words.number()? as u64),
            kind: alarm_kind(words.next()?)?,
            automatic: word == "notice",
        }),
        "clear" => Op::Alarm(AlarmOp::Clear {
            member: MemberId(words.number()? as u64),
            kind: alarm_kind(words.next()?)?,
        }),
        "auth" => Op::Auth(super::auth::op(words)?),
        "publish" => Op::Publish {
            member: MemberId(words.number()? as u64),
            name: words.next()?.to_owned(),
            client_urls: words.rest(),
        },
        _ => return member(word, words),
    }))
}

fn alarm_kind(name: &str) -> Parsed<AlarmKind> {
    match name {
        "nospace" => Ok(AlarmKind::NoSpace),
        "corrupt" => Ok(AlarmKind::Corrupt),
        _ => Err(format!("alarm `{name}`")),
    }
}

/// What is about members.
fn member(word: &str, words: &mut Words<'_>) -> Parsed<Option<Op>> {
    if word == "version" {
        let (major, minor) = (words.number()? as u8, words.number()? as u8);
        return Ok(Some(Op::ClusterVersion(Version { major, minor })));
    }
    if !["add", "learner", "promote", "update", "remove", "force", "started"].contains(&word) {
        return Ok(None);
    }
    let id = MemberId(words.number()? as u64);
    Ok(Some(Op::Member(match word {
        "add" | "learner" => {
            let (peer_urls, is_learner) = (words.rest(), word == "learner");
            MemberChange::Add { id, peer_urls, is_learner, learners_max: 1 }
        }
        "promote" => MemberChange::Promote { id },
        "update" => MemberChange::Update { id, peer_urls: words.rest() },
        "remove" => MemberChange::Remove { id },
        "force" => MemberChange::ForceNew { id },
        _ => {
            let started = Started { birth: words.number()? as u64, version: Version::OWN };
            return Ok(Some(Op::Started { member: id, started }));
        }
    })))
}

pub fn range(words: &mut Words<'_>) -> Parsed<Range> {
    let mut range = Range::of(keys(words)?);
    while let Some(word) = words.option() {
        match word {
            "asc" => range.order = SortOrder::Ascend,
            "desc" => range.order = SortOrder::Descend,
            "keys-only" => range.keys_only = true,
            "count-only" => range.count_only = true,
            "by=key" => range.target = SortTarget::Key,
            "by=version" => range.target = SortTarget::Version,
            "by=create" => range.target = SortTarget::Create,
            "by=mod" => range.target = SortTarget::Mod,
            "by=value" => range.target = SortTarget::Value,
            word => {
                let (name, value) = word.split_once('=').ok_or(format!("option `{word}`"))?;
                let field = match name {
                    "rev" => &mut range.revision,
                    "limit" => &mut range.limit,
                    "mod>" => &mut range.mod_min,
                    "mod<" => &mut range.mod_max,
                    "create>" => &mut range.create_min,
                    "create<" => &mut range.create_max,
                    _ => return Err(format!("option `{word}`")),
                };
                *field = number(value)?;
            }
        }
    }
    Ok(range)
}

fn put(words: &mut Words<'_>) -> Parsed<Put> {
    let key = text(words.next()?);
    let value = match words.next()? {
        "-" => Bytes::new(),
        value => text(value),
    };
    let mut put = Put {
        key,
        value,
        lease: LeaseId::NONE,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    while let Some(word) = words.option() {
        match word.split_once('=') {
            Some(("lease", id)) => put.lease = LeaseId(number(id)?),
            None if word == "prev" => put.prev_kv = true,
            None if word == "ignore-value" => put.ignore_value = true,
            None if word == "ignore-lease" => put.ignore_lease = true,
            _ => return Err(format!("option `{word}`")),
        }
    }
    Ok(put)
}

fn delete(words: &mut Words<'_>) -> Parsed<DeleteRange> {
    let keys = keys(words)?;
    let prev_kv = match words.option() {
        None => false,
        Some("prev") => true,
        Some(word) => return Err(format!("option `{word}`")),
    };
    Ok(DeleteRange { keys, prev_kv })
}

fn txn(words: &mut Words<'_>) -> Parsed<Txn> {
    let mut txn = Txn::default();
    let mut word = words.next()?;
    if word == "if" {
        word = words.next()?;
        while !["then", "else", "end"].contains(&word) {
            txn.compares.push(compare(word)?);
            word = words.next()?;
        }
    }
    while word != "end" {
        let branch = match word {
            "then" => &mut txn.success,
            "else" => &mut txn.failure,
            word => return Err(format!("`{word}` instead of then, else or end")),
        };
        word = words.next()?;
        while !["else", "end"].contains(&word) {
            if word != ";" {
                branch.push(txn_op(word, words)?);
            }
            word = words.next()?;
        }
    }
    Ok(txn)
}

fn txn_op(word: &str, words: &mut Words<'_>) -> Parsed<TxnOp> {
    Ok(match word {
        "put" => TxnOp::Put(put(words)?),
        "del" => TxnOp::DeleteRange(delete(words)?),
        "range" => TxnOp::Range(range(words)?),
        "txn" => TxnOp::Txn(Box::new(txn(words)?)),
        _ => return Err(format!("operation `{word}`")),
    })
}

/// `target(key)=operand`, `target(key,end)!operand`; the relations are `= ! < > ?`.
fn compare(word: &str) -> Parsed<Compare> {
    let broken = || format!("compare `{word}`");
    let (target, rest) = word.split_once('(').ok_or_else(broken)?;
    let (key, rest) = rest.split_once(')').ok_or_else(broken)?;
    let keys = match key.split_once(',') {
        Some((start, end)) => KeyRange { start: text(start), end: range_end(end) },
        None => KeyRange::single(text(key)),
    };
    let (relation, operand) = rest.split_at_checked(1).ok_or_else(broken)?;
    let result = match relation {
        "=" => CompareResult::Equal,
        "!" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        "?" => CompareResult::Unknown,
        _ => return Err(broken()),
    };
    let target = match target {
        "version" => CompareTarget::Version(number(operand)?),
        "create" => CompareTarget::Create(number(operand)?),
        "mod" => CompareTarget::Mod(number(operand)?),
        "lease" => CompareTarget::Lease(number(operand)?),
        "value" => CompareTarget::Value(text(operand)),
        "unknown" => CompareTarget::Unknown,
        _ => return Err(broken()),
    };
    Ok(Compare { keys, result, target })
}

fn keys(words: &mut Words<'_>) -> Parsed<KeyRange> {
    let start = text(words.next()?);
    let end = words.range_end().map_or(RangeEnd::Single, range_end);
    Ok(KeyRange { start, end })
}

fn range_end(word: &str) -> RangeEnd {
    if word == "*" { RangeEnd::Open } else { RangeEnd::Before(text(word)) }
}

fn number(word: &str) -> Parsed<i64> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn text(word: &str) -> Bytes {
    Bytes::copy_from_slice(word.as_bytes())
}
