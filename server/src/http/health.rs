//! `/health`, `/livez`, `/readyz` and their single checks.
//!
//! Worked example: with a CORRUPT alarm `/health` says
//! `{"health":"false","reason":"ALARM CORRUPT"}`, and `/readyz` `[-]data_corruption failed: alarm
//! activated: CORRUPT`; `/livez` is not concerned.

use holdfast_core::response::AlarmKind;
use http::StatusCode;

use super::query::Query;
use super::{PLAIN, Probe, Reply, error, json, plain, typed};
use crate::metrics::Check;

/// One of the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/health`
    Health,
    /// `/livez` and below.
    Livez(&'static [Test]),
    /// `/readyz` and below.
    Readyz(&'static [Test]),
}

/// One check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// No member has found data that differ.
    DataCorruption,
    /// This member can read.
    SerializableRead,
    /// The cluster can be read from here.
    LinearizableRead,
    /// This member votes, and so serves clients.
    NonLearner,
}

impl Test {
    fn name(self) -> &'static str {
        match self {
            Test::DataCorruption => "data_corruption",
            Test::SerializableRead => "serializable_read",
            Test::LinearizableRead => "linearizable_read",
            Test::NonLearner => "non_learner",
        }
    }

    async fn run(self, probe: &impl Probe) -> Result<(), String> {
        match self {
            Test::DataCorruption if probe.alarms().contains(&AlarmKind::Corrupt) => {
                Err("alarm activated: CORRUPT".into())
            }
            Test::NonLearner if probe.is_learner() => Err("not supported for learner".into()),
            Test::DataCorruption | Test::NonLearner => Ok(()),
            Test::SerializableRead => probe.range(true).await,
            Test::LinearizableRead => probe.range(false).await,
        }
    }
}

impl Endpoint {
    /// The endpoint of a path.
    pub fn of(path: &str) -> Option<Endpoint> {
        match path {
            "/health" => Some(Endpoint::Health),
            "/livez" => Some(Endpoint::Livez(LIVEZ)),
            "/readyz" => Some(Endpoint::Readyz(READYZ)),
            _ => {
                let (root, name) = path.strip_prefix('/')?.split_once('/')?;
                match root {
                    "livez" => single(LIVEZ, name).map(Endpoint::Livez),
                    "readyz" => single(READYZ, name).map(Endpoint::Readyz),
                    _ => None,
                }
            }
        }
    }

    /// Answers a GET.
    pub async fn answer(self, probe: &impl Probe, query: &Query) -> Reply {
        match self {
            Endpoint::Health => health(probe, query).await,
            Endpoint::Livez(tests) => checks(tests, Check::Livez, probe, query).await,
            Endpoint::Readyz(tests) => checks(tests, Check::Readyz, probe, query).await,
        }
    }
}

fn single(tests: &'static [Test], name: &str) -> Option<&'static [Test]> {
    tests.iter().find(|test| test.name() == name).map(std::slice::from_ref)
}

async fn health(probe: &impl Probe, query: &Query) -> Reply {
    let result = health_result(probe, query).await;
    let reason = result.as_ref().err().map(String::as_str);
    probe.checked(Check::Health, reason);
    let body = format!(
        "{{\"health\":\"{}\",\"reason\":{}}}",
        result.is_ok(),
        json(reason.unwrap_or_default())
    );
    if result.is_ok() {
        typed(StatusCode::OK, PLAIN, body)
    } else {
        error(StatusCode::SERVICE_UNAVAILABLE, &body)
    }
}

async fn health_result(probe: &impl Probe, query: &Query) -> Result<(), String> {
    let excluded = |alarm: &AlarmKind| query.all("exclude").any(|name| name == alarm_name(*alarm));
    if let Some(alarm) = probe.alarms().into_iter().find(|alarm| !excluded(alarm)) {
        return Err(format!("ALARM {}", alarm_name(alarm)));
    }
    let serializable = query.first("serializable") == Some("true");
    if !serializable && !probe.has_leader() {
        return Err("RAFT NO LEADER".into());
    }
    probe.range(serializable).await.map_err(|error| format!("RANGE ERROR:{error}"))
}

fn alarm_name(alarm: AlarmKind) -> &'static str {
    match alarm {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

async fn checks(
    tests: &'static [Test],
    kind: fn(&'static str) -> Check,
    probe: &impl Probe,
    query: &Query,
) -> Reply {
    let mut lines = String::new();
    let mut healthy = true;
    for test in tests.iter().filter(|test| query.all("exclude").all(|name| name != test.name())) {
        let result = test.run(probe).await;
        probe.checked(kind(test.name()), result.as_ref().err().map(String::as_str));
        match result {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", test.name())),
            Err(reason) => {
                healthy = false;
                lines.push_str(&format!("[-]{} failed: {reason}\n", test.name()));
            }
        }
    }
    if !healthy {
        return error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    if !query.has("verbose") {
        lines.clear();
    }
    lines.push_str("ok\n");
    plain(StatusCode::OK, lines)
}

const LIVEZ: &[Test] = &[Test::SerializableRead];

const READYZ: &[Test] =
    &[Test::DataCorruption, Test::SerializableRead, Test::LinearizableRead, Test::NonLearner];
