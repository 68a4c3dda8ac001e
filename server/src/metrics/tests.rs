//! Tests of the metrics page.

use holdfast_core::id::{Index, LeaseId, Position, Term};

use super::*;

fn page(metrics: &Metrics) -> String {
    let mut text = String::new();
    metrics.render(&mut text);
    text
}

fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = page(metrics);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing from\n{text}")).parse().expect("a number")
}

fn leader_is(leader: Option<u64>, term: u64) -> Fact {
    Fact::LeaderChanged { leader: leader.map(MemberId), term: Term(term) }
}

#[test]
fn everything_is_there_from_the_start() {
    let metrics = Metrics::new(MemberId(0xabc));
    let names = [
        "etcd_server_id{server_id=\"abc\"}",
        "etcd_server_version{server_version=\"3.7.1\"}",
        "etcd_server_has_leader",
        "etcd_server_is_leader",
        "etcd_server_is_learner",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_pending",
        "etcd_server_proposals_failed_total",
        "etcd_server_health_success",
        "etcd_server_health_failures",
        "etcd_debugging_server_lease_expired_total",
        "etcd_debugging_lease_renewed_total",
        "etcd_debugging_mvcc_current_revision",
        "etcd_debugging_mvcc_compact_revision",
        "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_auth_revision",
        "etcd_debugging_mvcc_watch_stream_total",
        "etcd_debugging_mvcc_watcher_total",
        "etcd_debugging_mvcc_slow_watcher_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}",
        "etcd_disk_wal_fsync_duration_seconds_sum",
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "os_fd_limit",
        "os_fd_used",
    ];
    for name in names {
        value(&metrics, name);
    }
    assert!(value(&metrics, "process_resident_memory_bytes") > 100_000.0);
    assert!(value(&metrics, "process_open_fds") >= 3.0);
    assert!(value(&metrics, "process_start_time_seconds") > 1.5e9);
    assert!(!page(&metrics).contains("cluster_version"), "it is not decided yet");
    metrics.set_cluster_version("3.7");
    assert_eq!(value(&metrics, "etcd_cluster_version{cluster_version=\"3.7\"}"), 1.0);
}

#[test]
fn turns_are_observed() {
    let metrics = Metrics::new(MemberId(1));
    let status = Status {
        leader: Some(MemberId(1)),
        role: Role::Leader,
        commit: Index(9),
        applied: Position::new(8, 2),
        pending: 3,
        ..Status::default()
    };
    let facts = [
        leader_is(Some(2), 1),
        leader_is(Some(2), 1),
        leader_is(None, 1),
        leader_is(Some(2), 2),
        leader_is(Some(1), 3),
        Fact::ProposalsFailed { commands: 4 },
        Fact::LeaseExpired { id: LeaseId(1) },
        Fact::LeaseRenewed { id: LeaseId(1), ttl: 5 },
        Fact::LeaseRenewed { id: LeaseId(1), ttl: 5 },
    ];
    metrics.observe(&status, &facts);
    metrics.proposal_failed();
    let expected = [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_is_learner", 0.0),
        ("etcd_server_leader_changes_seen_total", 3.0),
        ("etcd_server_proposals_committed_total", 9.0),
        ("etcd_server_proposals_applied_total", 8.0),
        ("etcd_server_proposals_pending", 3.0),
        ("etcd_server_proposals_failed_total", 5.0),
        ("etcd_debugging_server_lease_expired_total", 1.0),
        ("etcd_debugging_lease_renewed_total", 2.0),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&metrics, series), wanted, "{series}");
    }
    metrics.observe(&Status { role: Role::Learner, ..Status::default() }, &[leader_is(None, 4)]);
    assert_eq!(value(&metrics, "etcd_server_has_leader"), 0.0);
    assert_eq!(value(&metrics, "etcd_server_is_leader"), 0.0);
    assert_eq!(value(&metrics, "etcd_server_is_learner"), 1.0);
    assert_eq!(value(&metrics, "etcd_server_leader_changes_seen_total"), 3.0);
}

#[test]
fn the_store_the_watches_and_the_log_are_shown() {
    let metrics = Metrics::new(MemberId(1));
    metrics.set_store(StoreFacts {
        revision: Revision(7),
        compacted: Revision(-1),
        keys: 5,
        size_bytes: 4096,
        size_in_use_bytes: 1024,
        quota_bytes: 5000,
        auth_revision: 6,
    });
    metrics.set_watches(1, 2, 3);
    for ms in [1, 3, 60_000] {
        metrics.wal_synced(100, Duration::from_millis(ms));
    }
    let expected = [
        ("etcd_debugging_mvcc_current_revision", 7.0),
        ("etcd_debugging_mvcc_compact_revision", -1.0),
        ("etcd_debugging_mvcc_keys_total", 5.0),
        ("etcd_debugging_auth_revision", 6.0),
        ("etcd_mvcc_db_total_size_in_bytes", 4096.0),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", 1024.0),
        ("etcd_debugging_mvcc_watch_stream_total", 1.0),
        ("etcd_debugging_mvcc_watcher_total", 2.0),
        ("etcd_debugging_mvcc_slow_watcher_total", 3.0),
        ("etcd_disk_wal_write_bytes_total", 300.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"}", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"}", 2.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}", 2.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("etcd_disk_wal_fsync_duration_seconds_count", 3.0),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&metrics, series), wanted, "{series}");
    }
    assert!((value(&metrics, "etcd_disk_wal_fsync_duration_seconds_sum") - 60.004).abs() < 1e-9);
}

#[test]
fn checks_are_counted_by_outcome() {
    let metrics = Metrics::new(MemberId(1));
    assert!(!page(&metrics).contains("healthcheck"), "before the first probe");
    metrics.checked(Check::Health, true);
    metrics.checked(Check::Health, false);
    metrics.checked(Check::Health, false);
    metrics.checked(Check::Readyz("linearizable_read"), true);
    metrics.checked(Check::Readyz("linearizable_read"), false);
    metrics.checked(Check::Livez("serializable_read"), true);
    let labels = "type=\"readyz\",name=\"linearizable_read\"";
    let expected = [
        ("etcd_server_health_success".to_owned(), 1.0),
        ("etcd_server_health_failures".to_owned(), 2.0),
        (format!("etcd_server_healthcheck{{{labels}}}"), 0.0),
        (format!("etcd_server_healthchecks_total{{{labels},status=\"success\"}}"), 1.0),
        (format!("etcd_server_healthchecks_total{{{labels},status=\"error\"}}"), 1.0),
        ("etcd_server_healthcheck{type=\"livez\",name=\"serializable_read\"}".to_owned(), 1.0),
    ];
    for (series, wanted) in expected {
        assert_eq!(value(&metrics, &series), wanted, "{series}");
    }
}

/// Prometheus refuses a page that breaks any of these.
#[test]
fn the_page_is_well_formed() {
    let metrics = Metrics::new(MemberId(1));
    metrics.checked(Check::Livez("serializable_read"), true);
    let text = page(&metrics);
    let mut families = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').expect("has a text").0;
            assert!(families.insert(family), "{family} is there twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind.starts_with(family), "{line}");
        } else {
            assert!(line.starts_with(family), "{line} is not of {family}");
            line.rsplit_once(' ').expect("has a value").1.parse::<f64>().expect("a number");
        }
    }
    assert!(text.ends_with('\n'));
}
