//! What legitimately differs between the two, each by a named rule with its reason; nothing else is forgiven here.
//!
//! Ids and addresses are not here: they have names ([`super::names`]), which say more than leaving them out.
//!
//! Law: a rule takes away only a value that is as it should be. A header that names another member, a term of 0, a
//! remaining time beyond the granted one stay visible.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::names::Names;
use super::schema::{self, Method};

/// What was asked, of whom.
pub struct Asked<'a> {
    /// The method's short name.
    pub method: &'a str,
    /// The cluster's id.
    pub cluster: u64,
    /// The id of the member that was asked.
    pub member: u64,
    /// The side's names.
    pub names: &'a Names,
}

/// One rule about answers.
pub struct Rule {
    /// How one speaks of it.
    pub name: &'static str,
    /// Why.
    pub reason: &'static str,
    apply: fn(&Asked<'_>, &mut DynamicMessage),
}

/// Those about single messages. [`order`] and [`stream`] are about several.
pub const RULES: &[Rule] = &[
    Rule {
        name: "header-origin",
        reason: "cluster and member are told apart by ids of their own; the cluster's and the asked member's go",
        apply: header_origin,
    },
    Rule {
        name: "raft-term",
        reason: "elections are not counted alike; any term but 0 goes",
        apply: raft_term,
    },
    Rule {
        name: "raft-index",
        reason: "what is put into the log is each one's own matter",
        apply: raft_index,
    },
    Rule {
        name: "sizes",
        reason: "files are laid out differently; any size but 0 goes",
        apply: |asked, message| {
            if asked.method == "Maintenance.Status" {
                clear_where(message, "dbSize", |size| size != 0);
                clear_where(message, "dbSizeInUse", |size| size != 0);
            }
        },
    },
    Rule {
        name: "hash",
        reason: "Hash covers the layout of the files (surface 1.3); any but 0 goes. HashKV is compared",
        apply: |asked, message| {
            if asked.method == "Maintenance.Hash" {
                clear_where(message, "hash", |hash| hash != 0);
            }
        },
    },
    Rule {
        name: "remaining-ttl",
        reason: "time passes while one asks; a remaining time in the last half minute of the granted one is the granted",
        apply: remaining_ttl,
    },
    Rule {
        name: "lease-keys",
        reason: "etcd lists a lease's keys in the order of a Go map",
        apply: |asked, message| unordered(asked, message, ("Lease.LeaseTimeToLive", "keys")),
    },
    Rule {
        name: "lease-order",
        reason: "etcd's leader lists leases by the time that they have left, its other members in no order; ours by id, \
                 which a name may stand for",
        apply: |asked, message| unordered(asked, message, ("Lease.LeaseLeases", "leases")),
    },
    Rule {
        name: "member-order",
        reason: "members are in the order of their ids, which differ",
        apply: |asked, message| unordered(asked, message, ("Cluster.", "members")),
    },
    Rule {
        name: "alarm-order",
        reason: "etcd lists alarms in the order of a Go map",
        apply: |asked, message| unordered(asked, message, ("Maintenance.Alarm", "alarms")),
    },
    Rule {
        name: "alarm-text",
        reason: "Go's text format puts one or two spaces between fields, by a number that differs between builds, so that \
                 nobody relies on it; and alarms come in the order of a Go map",
        apply: |asked, message| {
            if asked.method == "Maintenance.Status" && message.has_field_by_name("errors") {
                let errors = texts_at(message, "errors").into_iter();
                let mut errors: Vec<_> = errors.map(|error| error.replace("  ", " ")).collect();
                errors.sort_by_key(|error| asked.names.hide(error));
                let errors = errors.into_iter().map(Value::String).collect();
                message.set_field_by_name("errors", Value::List(errors));
            }
        },
    },
    Rule {
        name: "permission-order",
        reason: "etcd sorts a role's permissions by key alone, and not in a stable way",
        apply: |asked, message| {
            if asked.method == "Auth.RoleGet" {
                sort_list(message, "perm", |value| match value {
                    Value::Message(perm) => {
                        format!("{:?} {:?}", perm.get_field_by_name("key"), schema::print(perm))
                    }
                    _ => String::new(),
                });
            }
        },
    },
];

/// Applies all rules.
pub fn normalise(asked: &Asked<'_>, message: &mut DynamicMessage) {
    for rule in RULES {
        (rule.apply)(asked, message);
    }
}

fn header_origin(asked: &Asked<'_>, message: &mut DynamicMessage) {
    with_header(message, &mut |header| {
        clear_where(header, "cluster_id", |id| id == asked.cluster);
        clear_where(header, "member_id", |id| id == asked.member);
    });
}

fn raft_term(asked: &Asked<'_>, message: &mut DynamicMessage) {
    with_header(message, &mut |header| clear_where(header, "raft_term", |term| term != 0));
    if asked.method == "Maintenance.Status" {
        clear_where(message, "raftTerm", |term| term != 0);
    }
}

fn raft_index(asked: &Asked<'_>, message: &mut DynamicMessage) {
    if asked.method != "Maintenance.Status" {
        return;
    }
    let (index, applied) =
        (number_at(message, "raftIndex"), number_at(message, "raftAppliedIndex"));
    clear_where(message, "raftAppliedIndex", |applied| applied != 0 && applied <= index);
    clear_where(message, "raftIndex", |index| index != 0 && applied <= index);
}

fn remaining_ttl(asked: &Asked<'_>, message: &mut DynamicMessage) {
    if asked.method != "Lease.LeaseTimeToLive" {
        return;
    }
    let (left, granted) = (signed_at(message, "TTL"), signed_at(message, "grantedTTL"));
    if left > 0 && left <= granted && granted - left <= 30 {
        message.set_field_by_name("TTL", Value::I64(granted));
    }
}

/// The text of a status. Go's protobuf says `proto:` with a blank or with one that does not break (U+00A0), by a number
/// that differs between builds, so that nobody relies on it.
pub fn status_text(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

/// What servers choose and later steps refer to.
pub fn bind(method: &str, request: &str, answer: &DynamicMessage, names: &mut Names) {
    match method {
        "Lease.LeaseGrant" if !request.contains("ID:") => {
            names.bind_next("lease", &signed_at(answer, "ID").to_string());
        }
        "Cluster.MemberAdd" => {
            let id = number_at(answer, "member.ID").to_string();
            names.bind_next("added", &id);
            names.alias("$added", &id);
        }
        "Auth.Authenticate" => names.bind_next("token", &texts_at(answer, "token").join("")),
        "Lock.Lock" if !request.contains("lease:") => {
            names.bind_next("key", &texts_at(answer, "key").join(""));
        }
        "Election.Campaign" if !request.contains("lease:") => {
            names.bind_next("lease", &signed_at(answer, "leader.lease").to_string());
        }
        _ => {}
    }
}

/// What came on one call. Across the watchers of a stream there is no order (surface 1.10 row 13), so messages are in
/// the order of their watchers, and as they came within one. A watcher that catches up gets its events in as many
/// messages as the server likes; those of one header are put together, unless they part the events of a revision
/// without saying so, or say that there is more and there is not.
pub fn order(mut lines: Vec<String>) -> Vec<String> {
    let end = lines.iter().position(|line| line.starts_with("end ")).unwrap_or(lines.len());
    // Other streams' messages have no watch_id and stay as they are.
    lines[..end].sort_by_key(|line| number_behind(line, "watch_id:").unwrap_or_default());
    let mut whole: Vec<String> = Vec::new();
    for line in lines {
        match whole.last_mut() {
            Some(last) if continues(last, &line) => {
                let events = line.split_once(EVENTS).map_or("", |(_, events)| events);
                let fragment = if line.contains(FRAGMENT) { FRAGMENT } else { "" };
                let head = last.trim_end_matches(']').replacen(FRAGMENT, "", 1);
                *last = head.replacen(EVENTS, &format!("{fragment}{EVENTS}"), 1) + "," + events;
            }
            _ => whole.push(line),
        }
    }
    whole
}

const EVENTS: &str = "events:[";
const FRAGMENT: &str = "fragment:true,";

fn continues(last: &str, next: &str) -> bool {
    let parts = |line: &str| {
        let (head, events) = line.split_once(EVENTS)?;
        Some((head.replacen(FRAGMENT, "", 1), events.to_owned()))
    };
    let (Some((head, before)), Some((next_head, after))) = (parts(last), parts(next)) else {
        return false;
    };
    let first = number_behind(&after, "mod_revision:");
    let parted = first.is_some() && revision_of_last(&before) == first;
    head == next_head && (!parted || last.contains(FRAGMENT))
}

/// An event's own revision stands before that of its prev_kv.
fn revision_of_last(events: &str) -> Option<i64> {
    let at = events.rfind("},{").map_or(0, |at| at + 1);
    number_behind(&events[at..], "mod_revision:")
}

/// The number behind a name in text.
pub fn number_behind(text: &str, name: &str) -> Option<i64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The lines of a stream that has ended. A snapshot's bytes are each one's own: what is left is that there were some,
/// that what remains is counted down, and what version they have.
pub fn stream(method: &Method, lines: Vec<String>) -> Vec<String> {
    if method.name != "Maintenance.Snapshot" {
        return lines;
    }
    lines.into_iter().rev().take(1).collect()
}

/// The number at a path of fields, or 0.
pub fn number_at(message: &DynamicMessage, path: &str) -> u64 {
    match value_at(message, path) {
        Some(Value::U64(number)) => number,
        Some(Value::U32(number)) => number.into(),
        Some(Value::I64(number)) => number.cast_unsigned(),
        _ => 0,
    }
}

fn signed_at(message: &DynamicMessage, path: &str) -> i64 {
    number_at(message, path).cast_signed()
}

/// The texts at a path of fields.
pub fn texts_at(message: &DynamicMessage, path: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    match value_at(message, path) {
        Some(Value::List(list)) => list.iter().map(text).collect(),
        Some(value) => vec![text(&value)],
        None => Vec::new(),
    }
}

/// The messages of a repeated field.
pub fn messages_at(message: &DynamicMessage, path: &str) -> Vec<DynamicMessage> {
    let Some(Value::List(list)) = value_at(message, path) else { return Vec::new() };
    list.into_iter().filter_map(|value| value.as_message().cloned()).collect()
}

fn value_at(message: &DynamicMessage, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => message.get_field_by_name(path).map(|value| value.into_owned()),
        Some((field, rest)) => value_at(message.get_field_by_name(field)?.as_message()?, rest),
    }
}

/// The header of an answer, which RangeStream has one level deeper.
fn with_header(message: &mut DynamicMessage, act: &mut dyn FnMut(&mut DynamicMessage)) {
    with_message(message, "header", act);
    with_message(message, "range_response", &mut |inner| with_message(inner, "header", act));
}

fn with_message(
    message: &mut DynamicMessage,
    field: &str,
    act: &mut dyn FnMut(&mut DynamicMessage),
) {
    if message.has_field_by_name(field)
        && let Some(Value::Message(inner)) = message.get_field_by_name_mut(field)
    {
        act(inner);
    }
}

fn clear_where(message: &mut DynamicMessage, field: &str, is_right: impl Fn(u64) -> bool) {
    if message.descriptor().get_field_by_name(field).is_some()
        && is_right(number_at(message, field))
    {
        message.clear_field_by_name(field);
    }
}

/// A list whose order says nothing, of a method or of several that begin alike: by its texts, ids by their names.
fn unordered(asked: &Asked<'_>, message: &mut DynamicMessage, (method, field): (&str, &str)) {
    if asked.method.starts_with(method) {
        sort_list(message, field, |value| asked.names.hide(&format!("{value}")));
    }
}

fn sort_list(message: &mut DynamicMessage, field: &str, key: impl Fn(&Value) -> String) {
    if message.has_field_by_name(field)
        && let Some(Value::List(list)) = message.get_field_by_name_mut(field)
    {
        list.sort_by_cached_key(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        order(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn pieces_of_catching_up_are_put_together() {
        let one = "header{revision:9},watch_id:1,events:[{kv{key:\"a\",mod_revision:3}}]";
        let two = "header{revision:9},watch_id:1,events:[{kv{key:\"a\",mod_revision:4},prev_kv{mod_revision:3}}]";
        let whole = "header{revision:9},watch_id:1,events:[{kv{key:\"a\",mod_revision:3}},\
                     {kv{key:\"a\",mod_revision:4},prev_kv{mod_revision:3}}]";
        assert_eq!(lines(&[one, two]), [whole]);
        let more = one.replace("events", "fragment:true,events");
        assert_eq!(lines(&[&more, two]), [whole]);
        // One that promises more and gives none stays visible.
        assert_eq!(lines(&[one, &more.replace(":3}", ":4}")])[0].matches("fragment").count(), 1);
    }

    #[test]
    fn what_parts_a_revision_silently_stays_in_pieces() {
        let one = "header{revision:9},events:[{kv{key:\"a\",mod_revision:3}}]";
        let two = "header{revision:9},events:[{kv{key:\"b\",mod_revision:3}}]";
        assert_eq!(lines(&[one, two]), [one, two]);
        let said = one.replace("events", "fragment:true,events");
        assert_eq!(lines(&[&said, two]).len(), 1);
    }

    #[test]
    fn watchers_have_no_order_among_each_other() {
        let (one, two) = ("header{revision:3},watch_id:1", "header{revision:2},watch_id:2");
        assert_eq!(lines(&[two, one, "end ok"]), [one, two, "end ok"]);
    }
}
