//! Tests of what HTTP answers, over connections in memory.

use std::cell::RefCell;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// A member that is as it is told to be.
#[derive(Clone, Default)]
struct Fake {
    leaderless: bool,
    learner: bool,
    alarms: Vec<AlarmKind>,
    local_error: Option<&'static str>,
    linear_error: Option<&'static str>,
    versions: Versions,
    checks: Rc<RefCell<Vec<(Check, bool)>>>,
}

impl Probe for Fake {
    async fn range(&self, serializable: bool) -> Result<(), String> {
        tokio::task::yield_now().await;
        let error = if serializable { self.local_error } else { self.linear_error };
        error.map_or(Ok(()), |error| Err(error.to_owned()))
    }

    fn has_leader(&self) -> bool {
        !self.leaderless
    }

    fn is_learner(&self) -> bool {
        self.learner
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        self.alarms.clone()
    }

    fn versions(&self) -> Versions {
        self.versions.clone()
    }

    async fn metrics(&self) -> String {
        "etcd_server_has_leader 1\n".to_owned()
    }

    fn checked(&self, check: Check, failure: Option<&str>) {
        self.checks.borrow_mut().push((check, failure.is_none()));
    }
}

fn options(surface: Surface) -> HttpOptions {
    HttpOptions::new(surface, |duration| Box::pin(tokio::time::sleep(duration)))
}

/// Runs on a clock that jumps when there is nothing to do.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime can be made");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

fn connect(fake: &Fake, first: &str, options: HttpOptions) -> DuplexStream {
    let (client, server) = duplex(1 << 20);
    let first = Bytes::copy_from_slice(first.as_bytes());
    tokio::task::spawn_local(serve(server, first, Rc::new(fake.clone()), Rc::new(options)));
    client
}

/// Everything the server says to `request`, whose connection is closed after it.
fn ask(fake: &Fake, surface: Surface, request: &str) -> String {
    run(async {
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (first, rest) = request.split_at(2);
        let mut client = connect(fake, first, options(surface));
        client.write_all(rest.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("the server closes");
        answer
    })
}

fn get(fake: &Fake, path: &str) -> (u16, String) {
    let answer = ask(fake, Surface::Client, &format!("GET {path}"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("has a body");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_client_that_says_no_more_gets_its_answer() {
    for path in ["/version", "/health"] {
        let answer = run(async {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            let mut client = connect(&Fake::default(), &request, options(Surface::Client));
            client.shutdown().await.expect("a pipe can be half closed");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("the server closes");
            answer
        });
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[test]
fn versions_are_json() {
    let mut fake = Fake::default();
    let undecided = r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}"#;
    assert_eq!(get(&fake, "/version"), (200, undecided.to_owned()));
    fake.versions = Versions { cluster: Some("3.7.0".into()), storage: Some("3.7.0".into()) };
    let decided = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get(&fake, "/version"), (200, decided.to_owned()));
    let answer = ask(&fake, Surface::Client, "GET /version");
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
}

#[test]
fn health_tells_the_first_reason() {
    let good = r#"{"health":"true","reason":""}"#.to_owned();
    let bad = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
    let mut fake = Fake::default();
    assert_eq!(get(&fake, "/health"), (200, good.clone()));
    fake.linear_error = Some("etcdserver: request timed out");
    let reason = "RANGE ERROR:etcdserver: request timed out";
    assert_eq!(get(&fake, "/health"), (503, bad(reason)));
    assert_eq!(get(&fake, "/health?serializable=true"), (200, good.clone()));
    assert_eq!(get(&fake, "/health?serializable=1"), (503, bad(reason)));
    fake.leaderless = true;
    assert_eq!(get(&fake, "/health"), (503, bad("RAFT NO LEADER")));
    assert_eq!(get(&fake, "/health?serializable=true"), (200, good.clone()));
    fake.alarms = vec![AlarmKind::NoSpace, AlarmKind::Corrupt];
    assert_eq!(get(&fake, "/health"), (503, bad("ALARM NOSPACE")));
    assert_eq!(get(&fake, "/health?exclude=NOSPACE"), (503, bad("ALARM CORRUPT")));
    assert_eq!(get(&fake, "/health?exclude=NOSPACE,CORRUPT"), (503, bad("ALARM NOSPACE")));
    let all = "/health?exclude=NOSPACE&exclude=CORRUPT&exclude=X&exclude=&serializable=true";
    assert_eq!(get(&fake, all), (200, good));
    fake.checks.borrow_mut().clear();
    get(&fake, "/health");
    get(&fake, all);
    assert_eq!(*fake.checks.borrow(), [(Check::Health, false), (Check::Health, true)]);
}

#[test]
fn health_has_go_s_content_types() {
    let mut fake = Fake::default();
    let answer = ask(&fake, Surface::Client, "GET /health");
    assert_eq!(header(&answer, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&answer, "x-content-type-options"), None);
    fake.leaderless = true;
    let answer = ask(&fake, Surface::Client, "GET /health");
    assert_eq!(header(&answer, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
}

#[test]
fn livez_and_readyz_have_their_checks() {
    let fake = Fake::default();
    let ok = (200, "ok\n".to_owned());
    for path in ["/livez", "/readyz", "/readyz?exclude=nonsense", "/livez/serializable_read"] {
        assert_eq!(get(&fake, path), ok, "{path}");
    }
    for name in ["data_corruption", "serializable_read", "linearizable_read", "non_learner"] {
        assert_eq!(get(&fake, &format!("/readyz/{name}")), ok, "{name}");
    }
    assert_eq!(get(&fake, "/livez?verbose").1, "[+]serializable_read ok\nok\n");
    assert_eq!(
        get(&fake, "/readyz?verbose=").1,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    );
    assert_eq!(get(&fake, "/readyz/non_learner?verbose").1, "[+]non_learner ok\nok\n");
    for path in ["/livez/linearizable_read", "/livez/", "/readyz/x", "/health/x", "/livez/x/y"] {
        assert_eq!(get(&fake, path), (404, "404 page not found\n".to_owned()), "{path}");
    }
}

#[test]
fn a_failed_check_is_told_unasked() {
    let fake = Fake {
        learner: true,
        alarms: vec![AlarmKind::NoSpace, AlarmKind::Corrupt],
        linear_error: Some("etcdserver: no leader"),
        ..Fake::default()
    };
    assert_eq!(get(&fake, "/livez"), (200, "ok\n".to_owned()));
    let lines = "[-]data_corruption failed: alarm activated: CORRUPT\n\
                 [+]serializable_read ok\n\
                 [-]linearizable_read failed: etcdserver: no leader\n\
                 [-]non_learner failed: not supported for learner\n\n";
    assert_eq!(get(&fake, "/readyz"), (503, lines.to_owned()));
    let answer = ask(&fake, Surface::Client, "GET /readyz");
    assert_eq!(header(&answer, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
    let rest = "?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner";
    assert_eq!(get(&fake, &format!("/readyz{rest}")), (200, "ok\n".to_owned()));
    assert_eq!(get(&fake, "/readyz/serializable_read"), (200, "ok\n".to_owned()));
    fake.checks.borrow_mut().clear();
    get(&fake, "/readyz/non_learner");
    assert_eq!(*fake.checks.borrow(), [(Check::Readyz("non_learner"), false)]);
    let no_space = Fake { alarms: vec![AlarmKind::NoSpace], ..Fake::default() };
    assert_eq!(get(&no_space, "/readyz"), (200, "ok\n".to_owned()));
}

#[test]
fn other_methods_are_refused() {
    let fake = Fake::default();
    for path in ["/version", "/health", "/livez", "/readyz", "/readyz/non_learner"] {
        let answer = ask(&fake, Surface::Client, &format!("POST {path}"));
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{path}: {answer}");
        assert_eq!(header(&answer, "allow"), Some("GET"), "{path}");
        assert!(answer.ends_with("\r\n\r\nMethod Not Allowed\n"), "{path}: {answer}");
    }
    assert!(fake.checks.borrow().is_empty());
}

#[test]
fn metrics_are_served_on_both_and_the_rest_is_not() {
    let fake = Fake::default();
    for surface in [Surface::Client, Surface::Metrics] {
        let answer = ask(&fake, surface, "GET /metrics");
        let kind = header(&answer, "content-type").expect("has one");
        assert!(kind.starts_with("text/plain; version=0.0.4; charset=utf-8"), "{kind}");
        assert!(answer.ends_with("\r\n\r\netcd_server_has_leader 1\n"), "{answer}");
        for path in ["/health", "/livez", "/readyz/non_learner"] {
            assert!(ask(&fake, surface, &format!("GET {path}")).starts_with("HTTP/1.1 200"));
        }
        for path in ["/", "/v2/keys", "/debug/vars", "/metrics/"] {
            assert!(ask(&fake, surface, &format!("GET {path}")).starts_with("HTTP/1.1 404"));
        }
    }
    assert!(ask(&fake, Surface::Metrics, "GET /version").starts_with("HTTP/1.1 404"));
    let allowed = "access-control-allow-origin";
    assert_eq!(header(&ask(&fake, Surface::Metrics, "GET /health"), allowed), None);
    assert_eq!(header(&ask(&fake, Surface::Client, "GET /health"), allowed), Some("*"));
    let preflight = ask(&fake, Surface::Client, "OPTIONS /v3/kv/put");
    assert!(preflight.starts_with("HTTP/1.1 200"), "{preflight}");
}

#[test]
fn a_connection_serves_many_requests() {
    run(async {
        let mut client = connect(&Fake::default(), "", options(Surface::Client));
        for _ in 0..3 {
            client.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("is read");
            let mut answer = vec![0; 4096];
            let count = client.read(&mut answer).await.expect("is answered");
            let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
            assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        }
    });
}

#[test]
fn a_head_without_end_is_bounded() {
    let fake = Fake::default();
    let long = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}", "y".repeat(2 * HEAD_BYTES_MAX));
    let many = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(101));
    for request in [long, many] {
        let answer = run(async {
            let mut client = connect(&fake, "", options(Surface::Client));
            client.write_all(request.as_bytes()).await.expect("fits into the pipe");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("the server closes");
            answer
        });
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

/// Short periods of real time, since the paused clock needs a feature that is not switched on.
fn hasty() -> HttpOptions {
    HttpOptions {
        head_timeout: Duration::from_millis(40),
        idle_head_timeouts: 5,
        ..options(Surface::Client)
    }
}

async fn end(mut client: DuplexStream) -> Duration {
    let begun = std::time::Instant::now();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("the server closes");
    begun.elapsed()
}

#[test]
fn half_a_head_is_not_waited_for() {
    run(async {
        let patient = HttpOptions { idle_head_timeouts: 1000, ..hasty() };
        let took = end(connect(&Fake::default(), "GET /heal", patient)).await;
        assert!(took >= Duration::from_millis(39), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}: closed as idle, not as half a head");
    });
}

#[test]
fn an_idle_connection_is_closed_at_last() {
    run(async {
        let took = end(connect(&Fake::default(), "", hasty())).await;
        assert!(took >= Duration::from_millis(190), "{took:?}");
    });
}

#[test]
fn garbage_is_refused() {
    let answer = run(async {
        let mut client = connect(&Fake::default(), "\u{1}\u{2}", options(Surface::Client));
        client.write_all(b"\x03\x04\r\n\r\n").await.expect("is read");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("the server closes");
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
