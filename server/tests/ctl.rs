//! `holdfast ctl`: what it understands and what it prints, without a server.
//!
//! The expected texts were taken from etcdctl 3.7.1 run on the same operands. What is not here: calls
//! over a connection, which the tests with real processes make.

use std::io::Cursor;
use std::time::Duration;

use holdfast_net::proto::etcdserverpb as pb;
use holdfast_net::proto::mvccpb::{Event, KeyValue};
use holdfast_server::ctl::cluster::{self, Health, Status};
use holdfast_server::ctl::command::{self, Action, Invocation, Parsed};
use holdfast_server::ctl::json::Json;
use holdfast_server::ctl::print::Pairs;
use holdfast_server::ctl::watch::{Plan, Preset, cancel_text};
use holdfast_server::ctl::{
    self, Exit, check, compare, env, go, kv, lease, print, print_json, txn,
};

fn bytes(args: &[&str]) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

fn parse(args: &[&str]) -> Result<Invocation, Exit> {
    match command::parse(&bytes(args))? {
        Parsed::Run(invocation) => Ok(invocation),
        Parsed::Help(page) => panic!("{args:?} asks for a page: {page}"),
    }
}

fn range(args: &[&str]) -> Result<pb::RangeRequest, Exit> {
    let parsed = parse(args)?;
    kv::range_request(&parsed.flags, &parsed.operands.all)
}

fn put(args: &[&str], input: &str) -> Result<pb::PutRequest, Exit> {
    let parsed = parse(args)?;
    kv::put_request(&parsed.flags, &parsed.operands.all, input.as_bytes())
}

/// The exit code and the first line of what is said.
fn refusal<T: std::fmt::Debug>(result: Result<T, Exit>) -> (i32, String) {
    let exit = result.expect_err("this is refused");
    (exit.code, exit.to_string().lines().next().unwrap_or_default().to_owned())
}

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: u64::MAX, member_id: 8, revision: 3, raft_term: 2 })
}

const HEADER: &str =
    r#""cluster_id":18446744073709551615,"member_id":8,"revision":3,"raft_term":2"#;

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: value.to_owned().into(),
        lease: 0,
    }
}

#[test]
fn flags_stand_anywhere_and_words_may_be_shortened() {
    let parsed = parse(&["--hex", "mem", "-w=json", "li", "--consistency", "s"]);
    let parsed = parsed.expect("member list");
    assert_eq!(parsed.action, Action::MemberList);
    assert!(parsed.flags.switch("hex"));
    assert_eq!(parsed.flags.text("write-out"), "json");
    assert_eq!(parsed.flags.text("consistency"), "s");
    assert_eq!(parsed.operands.all, bytes(&[]));

    let parsed = parse(&["get", "a", "-wjson", "--hex=false", "--limit", "1", "--limit=0x10"]);
    let parsed = parsed.expect("get");
    assert_eq!(parsed.flags.number("limit"), 16, "the last value wins");
    assert!(!parsed.flags.switch("hex"));
    let parsed = parse(&["put", "k", "--", "-1"]).expect("put");
    assert_eq!(parsed.operands.all, bytes(&["k", "-1"]));
    assert_eq!(parsed.operands.before_dashes, Some(1));
}

#[test]
fn a_repeated_list_replaces_the_default_and_grows() {
    let args = ["get", "a", "--endpoints=a:1,b:2", "--endpoints", "c:3"];
    assert_eq!(parse(&args).expect("get").flags.list("endpoints"), ["a:1", "b:2", "c:3"]);
    assert_eq!(parse(&["get"]).expect("get").flags.list("endpoints"), ["127.0.0.1:2379"]);
}

#[test]
fn what_is_not_understood_is_told_in_cobras_words() {
    let cases: [(&[&str], &str); 9] = [
        (&["foo"], r#"Error: unknown command "foo" for "etcdctl""#),
        (&["get", "--foo"], "Error: unknown flag: --foo"),
        (&["put", "k", "-1"], "Error: unknown shorthand flag: '1' in -1"),
        (&["get", "-w"], "Error: flag needs an argument: 'w' in -w"),
        (&["get", "--limit"], "Error: flag needs an argument: --limit"),
        (&["get", "---x"], "Error: bad flag syntax: ---x"),
        (
            &["get", "--limit", "x"],
            r#"Error: invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            &["get", "--hex=maybe"],
            r#"Error: invalid argument "maybe" for "--hex" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        ),
        (
            &["get", "--dial-timeout", "5"],
            r#"Error: invalid argument "5" for "--dial-timeout" flag: time: missing unit in duration "5""#,
        ),
    ];
    for (args, text) in cases {
        assert_eq!(refusal(parse(args)), (1, text.to_owned()), "{args:?}");
    }
}

#[test]
fn the_environment_sets_global_flags_but_not_beside_them() {
    let vars = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let mut parsed = parse(&["get", "a"]).expect("get");
    assert_eq!(env::apply(&mut parsed, &vars("ETCDCTL_WRITE_OUT", "json")), Ok(vec![]));
    assert_eq!(parsed.flags.text("write-out"), "json");
    let unknown = env::apply(&mut parsed, &vars("ETCDCTL_PREFIX", "true"));
    assert_eq!(unknown, Ok(vec!["ETCDCTL_PREFIX=true".to_owned()]), "a flag of get alone");
    assert!(!parsed.flags.switch("prefix"));
    assert_eq!(env::apply(&mut parsed, &vars("ETCDCTL_API", "3")), Ok(vec![]));

    let mut parsed = parse(&["get", "a", "--write-out", "json"]).expect("get");
    let (code, text) = refusal(env::apply(&mut parsed, &vars("ETCDCTL_WRITE_OUT", "")));
    assert_eq!(code, 1);
    assert!(text.contains("conflicting environment variable is shadowed"), "{text}");
    let mut parsed = parse(&["endpoint", "status"]).expect("status");
    env::apply(&mut parsed, &vars("ETCDCTL_CLUSTER", "true")).expect("a flag of the group");
    assert!(parsed.flags.switch("cluster"));
}

#[test]
fn ranges_are_what_the_flags_say() {
    let ends = |args: &[&str]| {
        let request = range(args).expect("a range");
        (request.key.to_vec(), request.range_end.to_vec())
    };
    assert_eq!(ends(&["get", "a"]), (b"a".to_vec(), vec![]));
    assert_eq!(ends(&["get", "a", "c"]), (b"a".to_vec(), b"c".to_vec()));
    assert_eq!(ends(&["get", "/a", "--prefix"]), (b"/a".to_vec(), b"/b".to_vec()));
    assert_eq!(ends(&["get", "", "--prefix"]), (vec![0], vec![0]));
    assert_eq!(ends(&["get", "a", "--from-key"]), (b"a".to_vec(), vec![0]));
    assert_eq!(kv::prefix_end(b"a\xff\xff"), b"b");
    assert_eq!(kv::prefix_end(b"\xff"), [0]);

    let request = range(&["get", "a", "--order=descend", "--sort-by", "MODIFY", "--rev=7"]);
    let request = request.expect("a range");
    assert_eq!((request.sort_order, request.sort_target, request.revision), (2, 3, 7));
    let plain = range(&["get", "a", "--order", "ASCEND"]).expect("a range");
    assert_eq!(plain.sort_order, 0, "ascending by key is what a range has anyway");
    let by_value = range(&["get", "a", "--sort-by", "value"]).expect("a range");
    assert_eq!((by_value.sort_order, by_value.sort_target), (0, 4), "no order unless asked for");
}

#[test]
fn mistakes_in_operands_have_etcdctls_codes() {
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["get"],
            128,
            "Error: get command needs one argument as key and an optional argument as range_end",
        ),
        (
            &["get", "a", "--prefix", "--from-key"],
            128,
            "Error: `--prefix` and `--from-key` cannot be set at the same time, choose one",
        ),
        (&["get", "a", "--order", "x"], 4, "Error: bad sort order x"),
        (&["get", "a", "--sort-by", "x"], 4, "Error: bad sort target x"),
        (&["get", "a", "--consistency", "x"], 4, r#"Error: unknown consistency flag "x""#),
        (
            &["get", "a", "--min-mod-rev=12", "--max-mod-rev=11"],
            4,
            "Error: getMinModRev(=12) > getMaxModRev(=11)",
        ),
    ];
    for (args, code, text) in cases {
        assert_eq!(refusal(range(args)), (code, text.to_owned()), "{args:?}");
    }
    let lease = r#"Error: bad lease ID (strconv.ParseInt: parsing "zz": invalid syntax), expecting ID in Hex"#;
    assert_eq!(refusal(put(&["put", "k", "v", "--lease", "zz"], "")), (128, lease.to_owned()));
    let ttl = r#"Error: bad TTL (strconv.ParseInt: parsing "x": invalid syntax)"#;
    assert_eq!(refusal(lease::grant_ttl(&bytes(&["x"]))), (128, ttl.to_owned()));
    let id = r#"Error: bad lease ID arg (strconv.ParseInt: parsing "zz": invalid syntax), expecting ID in Hex"#;
    assert_eq!(refusal(lease::lease_id(&bytes(&["zz"]), "")), (128, id.to_owned()));
}

#[test]
fn a_value_that_is_no_operand_comes_from_the_input() {
    assert_eq!(put(&["put", "k"], "piped\n").expect("a put").value.as_ref(), b"piped\n");
    let leased = put(&["put", "k", "v", "--lease", "70F3"], "").expect("a put");
    assert_eq!(leased.lease, 0x70f3);
    assert_eq!(refusal(put(&["put", "k"], "")).0, 128);
    assert_eq!(refusal(put(&["put", "k", "v", "--ignore-value"], "")).0, 128);
    assert!(put(&["put", "k", "--ignore-value"], "").expect("a put").value.is_empty());
}

#[test]
fn a_transaction_is_three_blocks() {
    let text = "mod(\"a\") > \"0\"\nval(\"b\") != \"x y\"\n\nput a \"q\\\"\\x41\" --prev-kv\nge a\n\nd a\n\n";
    let request = txn::read(&mut Cursor::new(text), |_| Ok(())).expect("a transaction");
    assert_eq!(request.compare.len(), 2);
    assert_eq!(request.compare[1].key.as_ref(), b"b");
    let Some(pb::request_op::Request::RequestPut(put)) = &request.success[0].request else {
        panic!("the first operation is a put: {request:?}");
    };
    assert_eq!((put.value.as_ref(), put.prev_kv), (b"q\"A".as_slice(), true));
    assert_eq!((request.success.len(), request.failure.len()), (2, 1));
}

#[test]
fn mistakes_in_a_transaction_name_the_line() {
    let read = |text: &str| txn::read(&mut Cursor::new(text.to_owned()), |_| Ok(()));
    let cases = [
        ("", 3, "Error: EOF"),
        (
            "mod(\"w\" > \"0\"\n",
            3,
            r#"Error: malformed comparison: mod("w" > "0"; got mod("w")  """#,
        ),
        (
            "foo(\"w\") > \"0\"\n",
            3,
            r#"Error: malformed comparison: foo("w") > "0" (unknown target foo)"#,
        ),
        ("mod(\"w\") > \"zz\"\n", 3, r#"Error: invalid txn compare request: mod("w") > "zz""#),
        ("\nput\n", 3, "Error: invalid txn compare request: put"),
        ("\nfoo a b\n", 3, "Error: invalid txn request: foo a b"),
        ("\nput a b --foo\n", 3, "Error: invalid txn request: put a b --foo"),
        (
            "\nput a\n",
            128,
            "Error: put command needs 1 argument and input from stdin or 2 arguments",
        ),
    ];
    for (text, code, said) in cases {
        assert_eq!(refusal(read(text)), (code, said.to_owned()), "{text:?}");
    }
    assert_eq!(refusal(compare::parse(br#"mod("w") ~ "1""#)).0, 3);
}

#[test]
fn a_watch_splits_keys_from_the_command() {
    let plan = |args: &[&str], preset: &Preset| {
        let parsed = parse(args)?;
        Plan::of(&parsed.flags, &parsed.operands, preset)
    };
    let none = Preset::default();
    let made = plan(&["watch", "a", "--rev", "5", "--", "echo", "-n", "x"], &none);
    let made = made.expect("a watch");
    assert_eq!(made.exec, bytes(&["echo", "-n", "x"]));
    assert_eq!((made.create.key.as_ref(), made.create.start_revision), (b"a".as_slice(), 5));
    let prefix = plan(&["watch", "/a", "--prefix", "--prev-kv"], &none).expect("a watch");
    assert_eq!(prefix.create.range_end.as_ref(), b"/b");
    assert!(prefix.create.prev_kv);

    let key = vec![("ETCDCTL_WATCH_KEY".to_owned(), "k".to_owned())];
    let preset = Preset::of(&key).expect("a key");
    assert_eq!(plan(&["watch"], &preset).expect("a watch").create.key.as_ref(), b"k");
    let cases: [(&[&str], &Preset, &str); 3] = [
        (&["watch"], &none, "bad number of arguments"),
        (
            &["watch", "a", "--"],
            &none,
            "bad number of arguments (found separator --, but no commands)",
        ),
        (&["watch", "a"], &preset, "bad number of arguments (found conflicting environment key)"),
    ];
    for (args, preset, text) in cases {
        assert_eq!(refusal(plan(args, preset)), (128, format!("Error: {text}")), "{args:?}");
    }
}

#[test]
fn pairs_are_lines() {
    let answer = pb::RangeResponse {
        header: header(),
        kvs: vec![pair("a", "1"), pair("b", "\u{7}")],
        more: false,
        count: 2,
    };
    let shown = |pairs: Pairs| {
        let mut out = Vec::new();
        pairs.get(&answer, &mut out);
        String::from_utf8(out).expect("the pairs are text")
    };
    assert_eq!(shown(Pairs::default()), "a\n1\nb\n\u{7}\n");
    assert_eq!(shown(Pairs { hex: true, value_only: false }), "\\x61\n\\x31\n\\x62\n\\x07\n");
    assert_eq!(shown(Pairs { hex: false, value_only: true }), "1\n\u{7}\n");
    let json = r#""kvs":[{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQ=="},{"key":"Yg==","create_revision":2,"mod_revision":3,"version":2,"value":"Bw=="}],"count":2}"#;
    let expected = format!("{{\"header\":{{{HEADER}}},{json}");
    assert_eq!(Json::from(print_json::get(&answer)).to_string(), expected);
}

#[test]
fn a_transactions_answer_is_nested() {
    let inner = pb::ResponseHeader { revision: 3, ..pb::ResponseHeader::default() };
    let put = pb::PutResponse { header: Some(inner), prev_kv: Some(pair("a", "0")) };
    let response = pb::response_op::Response::ResponsePut(put);
    let answer = pb::TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![pb::ResponseOp { response: Some(response) }],
    };
    let mut out = Vec::new();
    Pairs::default().txn(&answer, &mut out);
    assert_eq!(out, b"SUCCESS\n\nOK\na\n0\n");
    let json = r#""succeeded":true,"responses":[{"Response":{"response_put":{"header":{"revision":3},"prev_kv":{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MA=="}}}}]}"#;
    let expected = format!("{{\"header\":{{{HEADER}}},{json}");
    assert_eq!(Json::from(print_json::txn(&answer)).to_string(), expected);
}

#[test]
fn a_watch_answer_has_every_field() {
    let gone = KeyValue { mod_revision: 4, ..KeyValue { key: "a".into(), ..KeyValue::default() } };
    let events = vec![
        Event { r#type: 0, kv: Some(pair("a", "1")), prev_kv: None },
        Event { r#type: 1, kv: Some(gone), prev_kv: Some(pair("a", "1")) },
    ];
    let answer = pb::WatchResponse { header: header(), events, ..pb::WatchResponse::default() };
    let mut out = Vec::new();
    Pairs::default().watch(&answer, &mut out);
    assert_eq!(out, b"PUT\na\n1\nDELETE\na\n1\na\n\n");
    let kv = r#"{"key":"YQ==","create_revision":2,"mod_revision":3,"version":2,"value":"MQ=="}"#;
    let expected = format!(
        r#"{{"Header":{{{HEADER}}},"Events":[{{"kv":{kv}}},{{"type":1,"kv":{{"key":"YQ==","mod_revision":4}},"prev_kv":{kv}}}],"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}}"#
    );
    assert_eq!(Json::from(print_json::watch(&answer)).to_string(), expected);

    let compacted = pb::WatchResponse { compact_revision: 5, canceled: true, ..answer };
    assert_eq!(cancel_text(&compacted), "etcdserver: mvcc: required revision has been compacted");
    let empty = pb::WatchResponse { events: vec![], header: None, ..compacted };
    let expected = r#"{"Header":null,"Events":null,"CompactRevision":5,"Canceled":true,"Created":false,"CancelReason":""}"#;
    assert_eq!(Json::from(print_json::watch(&empty)).to_string(), expected);
}

#[test]
fn leases_carry_the_header_flat() {
    let granted = pb::LeaseGrantResponse { header: header(), id: 0x1234, ttl: 7, error: "".into() };
    assert_eq!(print::grant(&granted), "lease 0000000000001234 granted with TTL(7s)\n");
    let expected = format!(r#"{{{HEADER},"ID":4660,"TTL":7,"Error":""}}"#);
    assert_eq!(Json::from(print_json::grant(&granted)).to_string(), expected);

    let mut time = pb::LeaseTimeToLiveResponse {
        header: header(),
        id: 0x1234,
        ttl: 5,
        granted_ttl: 7,
        keys: vec!["a".into(), "b".into()],
    };
    let line = "lease 0000000000001234 granted with TTL(7s), remaining(5s), attached keys([a b])\n";
    assert_eq!(print::time_to_live(&time, true), line.as_bytes());
    let expected =
        format!(r#"{{{HEADER},"id":4660,"ttl":5,"granted-ttl":7,"keys":["YQ==","Yg=="]}}"#);
    assert_eq!(Json::from(print_json::time_to_live(&time)).to_string(), expected);
    (time.ttl, time.granted_ttl, time.keys) = (-1, 0, vec![]);
    assert_eq!(print::time_to_live(&time, true), b"lease 0000000000001234 already expired\n");
    let json = Json::from(print_json::time_to_live(&time)).to_string();
    assert!(json.ends_with(r#""ttl":-1,"granted-ttl":0,"keys":null}"#), "{json}");

    let none = pb::LeaseLeasesResponse { header: None, leases: vec![] };
    assert_eq!(print::leases(&none), "found 0 leases\n");
    assert_eq!(Json::from(print_json::leases(&none)).to_string(), r#"{"leases":[]}"#);
    assert_eq!(print::lost(0x1234), "lease 0000000000001234 expired or revoked.\n");
}

#[test]
fn an_endpoint_has_sixteen_columns() {
    let answer = pb::StatusResponse {
        header: header(),
        version: "3.7.1".into(),
        db_size: 20480,
        leader: 8,
        raft_index: 9,
        raft_term: 2,
        raft_applied_index: 9,
        db_size_in_use: 16384,
        storage_version: "3.7.0".into(),
        db_size_quota: 2_147_483_648,
        downgrade_info: Some(pb::DowngradeInfo::default()),
        ..pb::StatusResponse::default()
    };
    let all = [Status { endpoint: "127.0.0.1:2379".into(), answer }];
    let line = "127.0.0.1:2379, 8, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 9, 9, , , false\n";
    assert_eq!(print::status(&all), line);
    let expected = format!(
        r#"[{{"Endpoint":"127.0.0.1:2379","Status":{{"header":{{{HEADER}}},"version":"3.7.1","dbSize":20480,"leader":8,"raftIndex":9,"raftTerm":2,"raftAppliedIndex":9,"dbSizeInUse":16384,"storageVersion":"3.7.0","dbSizeQuota":2147483648,"downgradeInfo":{{}}}}}}]"#
    );
    assert_eq!(print_json::status(&all).to_string(), expected);
    assert_eq!(print_json::status(&[]).to_string(), "null");
}

#[test]
fn health_names_the_alarms() {
    let alarm = |alarm| pb::AlarmMember { member_id: 8, alarm };
    assert_eq!(cluster::alarm_text(&[]), "");
    let text = cluster::alarm_text(&[alarm(1), alarm(2)]);
    assert_eq!(text, "Active Alarm(s): NOSPACE CORRUPT ");
    let ill = Health { endpoint: "a:1".into(), healthy: false, took: "1ms".into(), error: text };
    let expected = r#"[{"endpoint":"a:1","health":false,"took":"1ms","error":"Active Alarm(s): NOSPACE CORRUPT "}]"#;
    assert_eq!(print_json::health(&[ill]).to_string(), expected);
}

#[test]
fn a_member_is_a_line_or_an_object() {
    let member = pb::Member {
        id: 0xbfe1,
        name: String::new(),
        peer_ur_ls: vec!["http://a:2380".into(), "http://b:2380".into()],
        client_ur_ls: vec![],
        is_learner: true,
    };
    let header = header().map(|header| pb::ResponseHeader { revision: 0, ..header });
    let all = pb::MemberListResponse { header, members: vec![member] };
    let line = "bfe1, unstarted, , http://a:2380,http://b:2380, , true\n";
    assert_eq!(print::members(&all), line);
    let urls = r#""peerURLs":["http://a:2380","http://b:2380"],"isLearner":true}]}"#;
    let expected = format!(
        r#"{{"header":{{"cluster_id":18446744073709551615,"member_id":8,"raft_term":2}},"members":[{{"ID":49121,{urls}"#
    );
    assert_eq!(Json::from(print_json::members(&all, false)).to_string(), expected);
    let expected = format!(
        r#"{{"header":{{"cluster_id":"ffffffffffffffff","member_id":"8","raft_term":2}},"members":[{{"ID":"bfe1","name":"",{urls}"#
    );
    let hex = Json::from(print_json::members(&all, true)).to_string();
    assert_eq!(hex, expected.replace(r#""name":"","#, ""));
}

#[test]
fn gos_notations() {
    let span = |text: &str| go::parse_duration(text);
    assert_eq!(span("1m30s"), Ok(Duration::from_secs(90)));
    assert_eq!(span("1.5h"), Ok(Duration::from_secs(5400)));
    assert_eq!(span("5x"), Err(r#"time: unknown unit "x" in duration "5x""#.to_owned()));
    assert_eq!(span(""), Err(r#"time: invalid duration """#.to_owned()));
    for (nanos, text) in [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (11_968_062, "11.968062ms"),
        (61_000_000_000, "1m1s"),
        (3_600_000_000_000, "1h0m0s"),
    ] {
        assert_eq!(go::duration(Duration::from_nanos(nanos)), text);
    }
    for (size, text) in [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (82_854_982, "83 MB")] {
        assert_eq!(go::size(size), text);
    }
    assert_eq!(go::quote_bytes(b"a\"\n\xff\x01"), r#""a\"\n\xff\x01""#);
    let words = go::words(br#"put "a b" 'c "d' e"f g"#).expect("words");
    assert_eq!(words, bytes(&["put", "a b", "c \"d", "e\"f", "g"]));
    assert_eq!(Json::from("<a&\u{2028}\"\n>").to_string(), r#""\u003ca\u0026\u2028\"\n\u003e""#);
}

#[test]
fn the_client_is_asked_for_by_word_or_by_name() {
    let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let asked = ctl::requested("/bin/holdfast", &args(&["ctl", "get"]));
    assert_eq!(asked, Some(args(&["get"])));
    assert_eq!(ctl::requested("/bin/etcdctl", &args(&["get"])), Some(args(&["get"])));
    assert_eq!(ctl::requested("/bin/holdfast", &args(&["--name", "ctl"])), None);
}

#[test]
fn changes_of_members_say_what_etcdctl_says() {
    use holdfast_server::ctl::member;
    assert_eq!(member::name_of(&bytes(&["b"])), Ok("b".to_owned()));
    let why = refusal(member::name_of(&bytes(&["b", "http://h:2"])));
    let sentence = "Error: too many arguments, did you mean --peer-urls=http://h:2";
    assert_eq!(why, (Exit::BAD_ARGS, sentence.to_owned()));
    let why = refusal(member::name_of(&[]));
    assert_eq!(why, (Exit::BAD_ARGS, "Error: member name not provided".to_owned()));
    assert_eq!(member::id_of(&bytes(&["8e9e05c52164694d"])), Ok(0x8e9e_05c5_2164_694d));
    let why = refusal(member::id_of(&bytes(&["0x1"])));
    let sentence = "Error: bad member ID arg (strconv.ParseUint: parsing \"0x1\": invalid syntax), \
                    expecting ID in Hex";
    assert_eq!(why, (Exit::BAD_ARGS, sentence.to_owned()));

    let one = |id: u64, name: &str, is_learner| pb::Member {
        id,
        name: name.to_owned(),
        peer_ur_ls: vec![format!("http://h:{id}")],
        client_ur_ls: Vec::new(),
        is_learner,
    };
    let new = one(2, "", true);
    let header = Some(pb::ResponseHeader { cluster_id: 0xcdf8, ..Default::default() });
    let members = vec![one(1, "a", false), new.clone()];
    let answer = pb::MemberAddResponse { header, member: Some(new), members };
    let line = "Member                2 added as learner to cluster             cdf8\n";
    assert_eq!(member::added(&answer), line);
    let variables = "\nETCD_NAME=\"b\"\nETCD_INITIAL_CLUSTER=\"a=http://h:1,b=http://h:2\"\n\
                     ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://h:2\"\n\
                     ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
    assert_eq!(member::variables(&answer, "b", "http://h:2"), variables);
}

#[test]
fn workloads_have_names_of_two_lengths() {
    let parsed = parse(&["check", "perf", "--load=xLarge"]).expect("check perf");
    assert_eq!(parsed.action, Action::CheckPerf);
    assert_eq!(parsed.flags.text("prefix"), "/etcdctl-check-perf/");
    let rate = check::rate(parsed.flags.text("load")).expect("a workload");
    assert_eq!((rate.limit, rate.clients, rate.time.as_secs()), (15_000, 1000, 60));
    let small = check::rate("s").expect("a workload");
    assert_eq!((small.limit, small.clients, small.time.as_secs()), (150, 50, 60));
    let parsed = parse(&["check", "datascale", "--auto-compact"]).expect("check datascale");
    assert_eq!(parsed.action, Action::CheckDatascale);
    assert_eq!(parsed.flags.text("prefix"), "/etcdctl-check-datascale/");
    assert!(parsed.flags.switch("auto-compact") && !parsed.flags.switch("auto-defrag"));
    assert_eq!(check::scale("medium"), Ok(check::Scale { limit: 100_000, clients: 200 }));
    let unknown = (4, "Error: unknown load option XL".to_owned());
    assert_eq!(refusal(check::rate("XL")), unknown);
    assert_eq!(refusal(check::scale("XL")), unknown);
}

/// The lines of a minute in which so many puts took so long, one of them longer.
fn verdict(count: usize, latency: f64, slowest: f64) -> (String, bool) {
    let mut latencies = vec![latency; count];
    latencies[count / 2] = slowest;
    let total = Duration::from_secs(60);
    check::verdict(&check::Stats { latencies, total, ..Default::default() }, 150)
}

#[test]
fn a_verdict_is_three_lines_and_one() {
    let good = "PASS: Throughput is 151 writes/s\nPASS: Slowest request took 0.500000s\n\
                PASS: Stddev is 0.005217s\nPASS\n";
    assert_eq!(verdict(9000, 0.005, 0.5), (good.to_owned(), true));
    // Nine tenths of the rate are too little, and so is half a second for one of them.
    let slow = "FAIL: Throughput too low: 136 writes/s\nSlowest request took too long: 0.500001s\n\
                PASS: Stddev is 0.005500s\nFAIL\n";
    assert_eq!(verdict(8100, 0.005, 0.500_001), (slow.to_owned(), false));
    assert!(verdict(8101, 0.005, 0.5).1);
    let uneven: Vec<f64> = (0..9000).map(|at| f64::from(at % 2) * 0.2002).collect();
    let total = Duration::from_secs(60);
    let mut stats = check::Stats { latencies: uneven, total, ..Default::default() };
    let (lines, passed) = check::verdict(&stats, 150);
    assert!(!passed && lines.contains("\nStddev too high: 0.100100s\nFAIL\n"), "{lines}");
    stats.latencies.iter_mut().for_each(|latency| *latency = 0.1);
    stats.errors.insert("etcdserver: request timed out".to_owned(), 3);
    let (lines, passed) = check::verdict(&stats, 150);
    let errors = "FAIL: too many errors\nFAIL: ERROR(etcdserver: request timed out) -> 3\nPASS: T";
    assert!(!passed && lines.starts_with(errors) && lines.ends_with("s\nFAIL\n"), "{lines}");
    let nothing = check::Stats { latencies: Vec::new(), ..stats };
    assert!(check::verdict(&nothing, 150).0.contains("PASS: Stddev is NaNs\n"), "as in Go");
}

#[test]
fn the_resident_memory_is_a_line_of_the_metrics() {
    let page = "# HELP process_resident_memory_bytes x\nprocess_resident_memory_bytes 1.5e+07\n";
    assert_eq!(check::resident_of(page), Some(1.5e7));
    assert_eq!(check::resident_of("process_resident_memory_bytes 0\n"), None);
    assert_eq!(check::resident_of("other 1\n"), None);
}

#[test]
fn pieces_of_a_stream_are_one_answer() {
    let mut whole = pb::RangeResponse::default();
    let piece = |key| pb::RangeResponse { kvs: vec![pair(key, "1")], ..Default::default() };
    kv::merge(&mut whole, piece("a"));
    kv::merge(
        &mut whole,
        pb::RangeResponse { header: header(), more: true, count: 5, ..piece("b") },
    );
    let kvs = vec![pair("a", "1"), pair("b", "1")];
    assert_eq!(whole, pb::RangeResponse { header: header(), kvs, more: true, count: 5 });
}
