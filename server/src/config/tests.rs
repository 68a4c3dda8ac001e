//! Tables of command lines: what each becomes, or is refused with.

use super::flags::{FLAGS, Standing};
use super::*;

type Args = &'static [&'static str];
type Env = &'static [(&'static str, &'static str)];

fn parse_with(args: &[&str], env: &[(&str, &str)]) -> Result<Command, ConfigError> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let env: Vec<(String, String)> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(&args, &env)
}

fn run_with(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse_with(args, env) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn run(args: &[&str]) -> Config {
    run_with(args, &[])
}

fn refused(args: &[&str], env: &[(&str, &str)]) -> (u8, String) {
    let error = parse_with(args, env).expect_err("is refused");
    (error.exit_code, error.message)
}

fn texts(urls: &[HttpUrl]) -> Vec<&str> {
    urls.iter().map(HttpUrl::as_str).collect()
}

#[test]
fn no_flags_are_etcd_s_defaults() {
    let config = run(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(texts(&config.listen_client), ["http://localhost:2379"]);
    assert_eq!(texts(&config.advertise_client), ["http://localhost:2379"]);
    assert_eq!(texts(&config.listen_peer), ["http://localhost:2380"]);
    assert_eq!(texts(&config.initial_advertise_peer), ["http://localhost:2380"]);
    assert!(config.listen_metrics.is_empty());
    assert_eq!(config.initial_cluster.len(), 1);
    assert_eq!(config.initial_cluster[0].name, "default");
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.watch_progress_interval, Duration::from_secs(600));
    assert_eq!((config.log_level, &config.log_outputs[..]), (Level::Info, &[Output::Stderr][..]));
    assert!(!config.unsafe_no_fsync);
    assert!(config.warnings.is_empty());
}

/// Laws of the table that `Values` counts on.
#[test]
fn defaults_parse_and_no_flag_is_there_twice() {
    let mut names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    let served = FLAGS.iter().filter(|flag| flag.standing == Standing::Served);
    for flag in served.filter(|flag| flag.name != "version") {
        let with_default = run(&[&format!("--{}={}", flag.name, flag.default), CLIENT]);
        assert_eq!(with_default, run(&[CLIENT]), "--{}", flag.name);
    }
}

/// So that `--listen-client-urls` may be given.
const CLIENT: &str = "--advertise-client-urls=http://localhost:2379";

#[test]
fn every_served_flag_has_its_effect() {
    let config = run(&[
        "--name=a",
        "--data-dir=/var/lib/a",
        "--listen-client-urls=http://0.0.0.0:1,http://[::1]:2",
        "--advertise-client-urls=http://a.example:1",
        "--listen-peer-urls=http://10.0.0.1:3",
        "--initial-advertise-peer-urls=http://a.example:3",
        "--initial-cluster=b=http://b.example:3,a=http://a.example:3",
        "--initial-cluster-state=existing",
        "--initial-cluster-token=t",
        "--heartbeat-interval=20",
        "--election-timeout=200",
        "--snapshot-count=7",
        "--snapshot-catchup-entries=0",
        "--max-request-bytes=1000",
        "--max-txn-ops=9",
        "--watch-progress-notify-interval=1m30s",
        "--max-concurrent-streams=12",
        "--grpc-keepalive-min-time=1s",
        "--grpc-keepalive-interval=1h",
        "--grpc-keepalive-timeout=3s",
        "--compaction-batch-limit=11",
        "--listen-metrics-urls=http://127.0.0.1:4",
        "--experimental-disk-driver=pool",
        "--experimental-edge-threads=3",
        "--experimental-answer-memory-bytes=4096",
        "--log-level=debug",
        "--log-outputs=stdout,/tmp/x.log,stderr",
        "--logger=zap",
    ]);
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("a", Some("/var/lib/a")));
    assert_eq!(texts(&config.listen_client), ["http://0.0.0.0:1", "http://[::1]:2"]);
    assert_eq!(config.listen_client[1].address(), "[::1]:2");
    assert_eq!((config.listen_client[1].host(), config.listen_client[1].port()), ("::1", 2));
    assert_eq!(texts(&config.advertise_client), ["http://a.example:1"]);
    assert_eq!(texts(&config.listen_peer), ["http://10.0.0.1:3"]);
    assert_eq!(texts(&config.listen_metrics), ["http://127.0.0.1:4"]);
    let names: Vec<&str> = config.initial_cluster.iter().map(|member| &*member.name).collect();
    assert_eq!((names, config.initial_cluster_state), (vec!["a", "b"], ClusterState::Existing));
    assert_eq!(config.initial_cluster_token, "t");
    let limits = Limits {
        heartbeat: Duration::from_millis(20),
        election_timeout: Duration::from_millis(200),
        request_timeout: Duration::from_millis(5400),
        checkpoint_entries: 7,
        catchup_entries: 0,
        request_bytes_max: 1000,
        txn_ops_max: 9,
        compaction_batch: 11,
        ..Limits::default()
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.watch_progress_interval, Duration::from_secs(90));
    let connections = Http2Options {
        recv_bytes_max: 1000 + (512 << 10),
        concurrent_streams_max: 12,
        keepalive: Some(KeepaliveOptions {
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(3),
        }),
        keepalive_min: Duration::from_secs(1),
        ..Http2Options::default()
    };
    assert_eq!(config.connections, connections);
    assert_eq!((config.disk_driver, config.edge_threads), (DiskDriver::Pool, Some(3)));
    assert_eq!((config.log_level, config.answer_memory_bytes), (Level::Debug, Some(4096)));
    let outputs = [Output::File("/tmp/x.log".into()), Output::Stderr, Output::Stdout];
    assert_eq!(config.log_outputs, outputs);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn what_zero_means_for_connections() {
    let config = run(&["--max-concurrent-streams=0", "--grpc-keepalive-interval=0s"]);
    assert_eq!(config.connections.concurrent_streams_max, u32::MAX);
    assert_eq!(config.connections.keepalive, None);
    assert_eq!(run(&["--grpc-keepalive-timeout=0s"]).connections.keepalive, None);
    let policy = run(&["--grpc-keepalive-min-time=0s"]).connections.keepalive_min;
    assert_eq!(policy, Duration::from_secs(300), "as gRPC for Go without a policy");
    let often = run(&["--grpc-keepalive-interval=1ns"]).connections.keepalive;
    assert_eq!(often.map(|pings| pings.interval), Some(Duration::from_secs(1)));
    let (code, message) = refused(&["--grpc-keepalive-min-time=-1s"], &[]);
    assert!(code == 1 && message.ends_with("must not be negative (set to -1s)"), "{message}");
    let (code, message) = refused(&["--max-concurrent-streams=4294967296"], &[]);
    assert!(code == 1 && message.contains("at most 4294967295"), "{message}");
}

#[test]
fn syntax_is_go_s() {
    for args in [
        &["-name", "m"][..],
        &["--name", "m"],
        &["-name=m"],
        &["--name=m"],
        &["--name", "x", "-name=m"],
        &["--name=m", "--"],
    ] {
        assert_eq!(run(args).name, "m", "{args:?}");
    }
    assert_eq!(run(&["--initial-cluster-token", "--name"]).initial_cluster_token, "--name");
    assert_eq!(run(&["--initial-cluster-token=a=b"]).initial_cluster_token, "a=b");
    assert_eq!(run(&["--initial-cluster-token="]).initial_cluster_token, "");
    assert!(run(&["--unsafe-no-fsync"]).unsafe_no_fsync);
    assert!(!run(&["--unsafe-no-fsync=false"]).unsafe_no_fsync);
    assert!(!run(&["--unsafe-no-fsync", "-unsafe-no-fsync=F"]).unsafe_no_fsync);
    assert_eq!(run(&["--max-txn-ops=0x10"]).limits.txn_ops_max, 16);
}

#[test]
fn a_name_alone_makes_a_cluster_of_its_own() {
    let config = run(&["--name=m", "--initial-advertise-peer-urls=http://10.0.0.9:2380"]);
    assert_eq!(config.data_dir, PathBuf::from("m.etcd"));
    assert_eq!(config.initial_cluster.len(), 1);
    assert_eq!(texts(&config.initial_cluster[0].peer_urls), ["http://10.0.0.9:2380"]);
}

#[test]
fn localhost_and_its_address_are_the_same() {
    run(&["--initial-cluster=default=http://127.0.0.1:2380"]);
}

#[test]
fn variables_are_flags() {
    let config = run_with(
        &["--heartbeat-interval=50"],
        &[
            ("ETCD_NAME", "e"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_UNSAFE_NO_FSYNC", "true"),
            ("ETCDCTL_API", "3"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("e", Some("e.etcd")));
    assert!(config.unsafe_no_fsync);
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn warnings_are_one_line_each() {
    let cases: &[(Args, Env, &str)] = &[
        (
            &["--quota-backend-bytes=-1"],
            &[],
            "--quota-backend-bytes is negative: the data may grow without a limit",
        ),
        (
            &["--feature-gates=PriorityRequest=true"],
            &[],
            "--feature-gates PriorityRequest=true changes nothing: a leader's own revocations are \
             never refused",
        ),
        (
            &[],
            &[("ETCD_BCRYPT_COST", "3")],
            "use default bcrypt cost instead of the invalid given cost: --bcrypt-cost 3 is not \
             between 4 and 31, and 10 is taken",
        ),
        (&["--auth-token=jwt,sign-method=RS256,x=y"], &[], "unknown JWT options: x"),
        (
            &["--pre-vote=false", "--pre-vote"],
            &[],
            "--pre-vote is accepted but not effective yet: pre-vote is always on",
        ),
        (&["--snapshot"], &[], "--snapshot is no longer supported and ignored, as by etcd"),
        (&[], &[("ETCD_WHATEVER", "1")], "unrecognized environment variable ETCD_WHATEVER"),
        (&[], &[("ETCD_ENABLE_V2", "1")], "unrecognized environment variable ETCD_ENABLE_V2"),
        (&[], &[("ETCD_name", "x")], "unrecognized environment variable ETCD_name"),
        (&[], &[("ETCD_VERSION", "3")], "environment variable ETCD_VERSION is ignored"),
        (
            &["--max-request-bytes=10485761"],
            &[],
            "--max-request-bytes 10485761 exceeds the recommended limit of 10485760",
        ),
        (
            &["--watch-progress-notify-interval=1ms"],
            &[],
            "--watch-progress-notify-interval is raised to 100ms",
        ),
        (
            &["--unsafe-no-fsync"],
            &[],
            "--unsafe-no-fsync: acknowledged writes are lost when the machine loses power",
        ),
        (
            &["--listen-peer-urls=http://0.0.0.0:2380"],
            &[],
            "peers are told to use http://localhost:2380: \
             set --initial-advertise-peer-urls to an address that they can reach",
        ),
    ];
    for (args, env, warning) in cases {
        assert_eq!(run_with(args, env).warnings, [*warning], "{args:?} {env:?}");
    }
    let interval = run(&["--watch-progress-notify-interval=-5s"]).watch_progress_interval;
    assert_eq!(interval, Duration::from_millis(100));
}

/// Flags that cannot be understood: exit code 2, and the way to help on a second line.
const BAD_FLAGS: &[(Args, &str)] = &[
    (&["--nonsense"], "flag provided but not defined: -nonsense"),
    (&["--Name=x"], "flag provided but not defined: -Name"),
    (&["---name=x"], "bad flag syntax: ---name=x"),
    (&["--=x"], "bad flag syntax: --=x"),
    (&["-=x"], "bad flag syntax: -=x"),
    (&["--name"], "flag needs an argument: -name"),
    (
        &["--unsafe-no-fsync=maybe"],
        "invalid boolean value \"maybe\" for -unsafe-no-fsync: parse error",
    ),
    (&["--unsafe-no-fsync="], "invalid boolean value \"\" for -unsafe-no-fsync: parse error"),
    (
        &["--heartbeat-interval=100ms"],
        "invalid value \"100ms\" for flag -heartbeat-interval: parse error",
    ),
    (
        &["--heartbeat-interval=-1"],
        "invalid value \"-1\" for flag -heartbeat-interval: parse error",
    ),
    (
        &["--snapshot-count=18446744073709551616"],
        "invalid value \"18446744073709551616\" for flag -snapshot-count: value out of range",
    ),
    (
        &["--watch-progress-notify-interval=10"],
        "invalid value \"10\" for flag -watch-progress-notify-interval: parse error",
    ),
    (
        &["--initial-cluster-state=old"],
        "invalid value \"old\" for flag -initial-cluster-state: invalid value, use new or existing",
    ),
    (
        &["--listen-peer-urls="],
        "invalid value \"\" for flag -listen-peer-urls: no valid URLs given",
    ),
    (
        &["--listen-peer-urls=localhost:2380"],
        "invalid value \"localhost:2380\" for flag -listen-peer-urls: \
             URL scheme must be http, https, unix, or unixs: localhost:2380",
    ),
    (
        &["--listen-peer-urls=ftp://localhost:2380"],
        "invalid value \"ftp://localhost:2380\" for flag -listen-peer-urls: \
             URL scheme must be http, https, unix, or unixs: ftp://localhost:2380",
    ),
    (
        &["--listen-client-urls=https://127.0.0.1:2379"],
        "invalid value \"https://127.0.0.1:2379\" for flag -listen-client-urls: \
             https is not served yet: use http, or end TLS before it: https://127.0.0.1:2379",
    ),
    (
        &["--listen-client-urls=unix://x.sock:1"],
        "invalid value \"unix://x.sock:1\" for flag -listen-client-urls: \
             unix sockets are not served yet: use http://host:port: unix://x.sock:1",
    ),
    (
        &["--advertise-client-urls=http://a"],
        "invalid value \"http://a\" for flag -advertise-client-urls: \
             URL address does not have the form \"host:port\": http://a",
    ),
    (
        &["--advertise-client-urls=http://a:65536"],
        "invalid value \"http://a:65536\" for flag -advertise-client-urls: \
             URL address does not have the form \"host:port\": http://a:65536",
    ),
    (
        &["--advertise-client-urls=http://u@a:1"],
        "invalid value \"http://u@a:1\" for flag -advertise-client-urls: \
             URL address does not have the form \"host:port\": http://u@a:1",
    ),
    (
        &["--advertise-client-urls=http://a:1/"],
        "invalid value \"http://a:1/\" for flag -advertise-client-urls: \
             URL must not contain a path: http://a:1/",
    ),
    (&["--cert-file=x"], "-cert-file is known to etcd but not yet served by Holdfast: remove it"),
    (
        &["--config-file", "x"],
        "-config-file is known to etcd but not yet served by Holdfast: remove it",
    ),
    (
        &["gateway", "start"],
        "sub-command gateway is known to etcd but not yet served by Holdfast: remove it",
    ),
    (&["--enable-v2"], "flag -enable-v2 was removed from etcd in 3.6: remove it"),
    (&["--discovery=x"], "flag -discovery was removed from etcd in 3.7: remove it"),
    (&["--debug"], "flag -debug was removed from etcd in 3.5: remove it"),
    (
        &["--experimental-compaction-batch-limit=5"],
        "flag -experimental-compaction-batch-limit was removed from etcd in 3.7: \
             use --compaction-batch-limit",
    ),
    (
        &["--experimental-enable-lease-checkpoint"],
        "flag -experimental-enable-lease-checkpoint was removed from etcd in 3.7: \
             it became a feature gate, see --feature-gates",
    ),
];

#[test]
fn bad_flags_exit_with_2() {
    for (args, message) in BAD_FLAGS {
        let hint = "\nRun 'holdfast --help' for the flags that are served.";
        assert_eq!(refused(args, &[]), (2, format!("{message}{hint}")), "{args:?}");
    }
    let (code, message) = refused(&[], &[("ETCD_TRUSTED_CA_FILE", "ca.pem")]);
    assert_eq!(code, 2);
    assert!(message.starts_with(
        "environment variable ETCD_TRUSTED_CA_FILE is known to etcd but not yet served"
    ));
}

#[test]
fn every_flag_that_comes_later_is_refused() {
    for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Later) {
        let (code, message) = refused(&[&format!("--{}=true", flag.name)], &[]);
        assert_eq!(code, 2);
        assert!(message.contains("known to etcd but not yet served"), "{message}");
    }
}

#[test]
fn hash_checks_have_the_flags_of_both_versions() {
    const GATE: &str = "--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true";
    let cases: &[(Args, Option<u64>, Option<u64>, bool)] = &[
        (&[], None, None, false),
        (&["--corrupt-check-time=4h"], Some(14_400), None, false),
        (&["--experimental-corrupt-check-time=5s"], Some(5), None, false),
        (&["--compact-hash-check-time=5s"], None, None, false),
        (&[GATE], None, Some(60), true),
        (&[GATE, "--compact-hash-check-time=5s"], None, Some(5), true),
        (
            &[
                "--experimental-compact-hash-check-enabled",
                "--experimental-compact-hash-check-time=7s",
            ],
            None,
            Some(7),
            false,
        ),
        (&["--experimental-initial-corrupt-check"], None, None, true),
    ];
    for (args, every, compactions_every, initial) in cases {
        let config = run(args);
        let seconds = |period: Option<Duration>| period.map(|period| period.as_secs());
        assert_eq!(seconds(config.hash_checks.every), *every, "{args:?}");
        assert_eq!(seconds(config.hash_checks.compactions_every), *compactions_every, "{args:?}");
        assert_eq!(config.feature_gates.is_on("InitialCorruptCheck"), *initial, "{args:?}");
    }
}

/// Values that do not fit together: exit code 1.
const BAD_VALUES: &[(Args, &str)] = &[
    (&["--compact-hash-check-time=0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
    (&["--corrupt-check-time=-1s"], "--corrupt-check-time must not be negative (set to -1s)"),
    (
        &["--corrupt-check-time=1s", "--experimental-corrupt-check-time=2s"],
        "--corrupt-check-time and --experimental-corrupt-check-time, which it has replaced, have \
         different values",
    ),
    (
        &["--experimental-initial-corrupt-check=false", "--feature-gates=InitialCorruptCheck=true"],
        "--experimental-initial-corrupt-check=false contradicts --feature-gates, where \
         InitialCorruptCheck is true",
    ),
    (&["--unsafe-no-fsync", "false"], "\"false\" is not a valid flag"),
    (
        &["--experimental-disk-driver=uring"],
        "--experimental-disk-driver \"uring\" is none of auto, io_uring, pool",
    ),
    (
        &["--experimental-edge-threads=128"],
        "--experimental-edge-threads \"128\" is neither auto nor a number up to 127",
    ),
    (
        &["--experimental-edge-threads=-1"],
        "--experimental-edge-threads \"-1\" is neither auto nor a number up to 127",
    ),
    (
        &["--experimental-answer-memory-bytes=0"],
        "--experimental-answer-memory-bytes \"0\" is neither auto nor a number of at least 1",
    ),
    (&["start"], "\"start\" is not a valid flag"),
    (&["--name=x", "--", "--name=y"], "\"--name=y\" is not a valid flag"),
    (&["--name=x", "-"], "\"-\" is not a valid flag"),
    (
        &["--listen-client-urls=http://localhost:1"],
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    (
        &["--listen-peer-urls=http://example.com:2380"],
        "expected IP in URL for binding (http://example.com:2380)",
    ),
    (&["--listen-metrics-urls=http://:2380"], "expected IP in URL for binding (http://:2380)"),
    (
        &["--advertise-client-urls=http://:2379"],
        "--advertise-client-urls \"http://:2379\" must be \"host:port\" \
             (unexpected empty host (http://:2379))",
    ),
    (
        &["--heartbeat-interval=250"],
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[250ms]",
    ),
    (
        &["--election-timeout=50001"],
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    ),
    (&["--name="], "--name must not be empty"),
    (
        &["--initial-cluster=default=http://localhost:2380,=http://10.0.0.1:1"],
        "error setting up initial cluster: \"=http://10.0.0.1:1\" has no name",
    ),
    (&["--heartbeat-interval=0"], "--heartbeat-interval must be at least 1 ms"),
    (&["--max-txn-ops=0"], "--max-txn-ops must be at least 1"),
    (&["--max-request-bytes=0"], "--max-request-bytes must be at least 1"),
    (
        &["--max-request-bytes=33554433"],
        "--max-request-bytes must be at most 33554432 (set to 33554433): \
             a batch of the log and a message between members must hold a request",
    ),
    (&["--snapshot-count=0"], "--snapshot-count must be at least 1"),
    (
        &["--compaction-batch-limit=-1"],
        "--compaction-batch-limit must not be negative (set to -1); 0 means 1000",
    ),
    (
        &["--log-level=loud"],
        "unknown --log-level \"loud\": use debug, info, warn, error, panic or fatal",
    ),
    (&["--logger=slog"], "unknown logger option \"slog\": use zap"),
    (&["--log-outputs=default,stdout"], "multi logoutput for \"default\" is not supported yet"),
    (
        &["--log-outputs=systemd/journal"],
        "--log-outputs systemd/journal is not served yet: \
             use stderr, which systemd takes into the journal by itself",
    ),
    (
        &["--name=m", "--initial-cluster=n=http://localhost:2380"],
        "couldn't find local name \"m\" in the initial cluster configuration: \
             --initial-cluster must contain --name exactly",
    ),
    (
        &["--initial-cluster="],
        "couldn't find local name \"default\" in the initial cluster configuration: \
             --initial-cluster must contain --name exactly",
    ),
    (
        &["--initial-cluster=default"],
        "error setting up initial cluster: \"default\": \
             URL scheme must be http, https, unix, or unixs: ",
    ),
    (
        &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
        "initial cluster b=http://localhost:2380,default=http://localhost:2380 \
             has duplicate url http://localhost:2380",
    ),
    (
        &["--initial-cluster=default=http://localhost:2380,default=http://10.0.0.1:1"],
        "--initial-cluster has default=http://10.0.0.1:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380",
    ),
    (
        &["--initial-advertise-peer-urls=http://localhost:2380,http://10.0.0.1:1"],
        "--initial-advertise-peer-urls has http://10.0.0.1:1 but missing from \
             --initial-cluster=default=http://localhost:2380",
    ),
];

#[test]
fn bad_values_exit_with_1() {
    for (args, message) in BAD_VALUES {
        assert_eq!(
            refused(args, &[]),
            (1, format!("failed to verify flags: {message}")),
            "{args:?}"
        );
    }
}

#[test]
fn bad_variables_exit_with_1() {
    assert_eq!(
        refused(&["--name=a"], &[("ETCD_NAME", "a")]),
        (
            1,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)): ETCD_NAME"
                .to_owned()
        )
    );
    assert_eq!(
        refused(&[], &[("ETCD_MAX_TXN_OPS", "many")]),
        (
            1,
            "failed to verify flags: invalid value \"many\" for ETCD_MAX_TXN_OPS: parse error"
                .to_owned()
        )
    );
    let (code, message) = refused(&[], &[("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")]);
    assert!(code == 1 && message.contains("--advertise-client-urls is required"), "{message}");
}

#[test]
fn help_and_version_are_printed() {
    for args in [&["-h"][..], &["--help"], &["-help"], &["--name=x", "-h", "--nonsense"]] {
        let Ok(Command::Help(text)) = parse_with(args, &[]) else { panic!("{args:?}") };
        for flag in FLAGS.iter().filter(|flag| flag.standing == Standing::Served) {
            assert!(text.contains(&format!("--{} '{}'", flag.name, flag.default)), "{}", flag.name);
        }
    }
    let Ok(Command::Version(text)) = parse_with(&["--version"], &[]) else { panic!("no version") };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    let heads =
        ["etcd Version: ", "Git SHA: ", "Go Version: ", "Go OS/Arch: ", "Holdfast Version: "];
    assert_eq!(lines.len(), heads.len());
    assert!(lines.iter().zip(heads).all(|(line, head)| line.starts_with(head)), "{text}");
    assert!(matches!(parse_with(&["--version=false"], &[]), Ok(Command::Run(_))));
}

#[test]
fn text_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let error = utf8(std::ffi::OsString::from_vec(b"--name=\xff".to_vec()), "an argument");
    let wanted = ConfigError::usage("an argument is not UTF-8: --name=\u{fffd}");
    assert_eq!(error, Err(wanted));
}

/// Whatever the command line is, the answer is a value and never a panic.
#[test]
fn no_input_panics() {
    let pieces = [
        "-",
        "--",
        "=",
        "name",
        "é",
        "\u{0}",
        "listen-peer-urls",
        "http://",
        "[::1",
        ":",
        ",",
        "0x",
        "9h",
    ];
    let mut state = 1u32;
    for _ in 0..20_000 {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        let mut args = Vec::new();
        for _ in 0..next() % 3 + 1 {
            let parts: Vec<&str> = (0..next() % 6).map(|_| pieces[next() % pieces.len()]).collect();
            args.push(parts.concat());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let _ = parse_with(&args, &[]);
    }
}
