//! What HTTP/1 asks of a member: health by really reading, and the page of metrics.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::query::{Answered, Query};
use holdfast_core::request::{KeyRange, Range};
use holdfast_core::response::AlarmKind;
use holdfast_core::status::Role;
use holdfast_core::store::{Fault, View};
use holdfast_core::{machine, rejection::Rejection};
use holdfast_net::grpc::Sleep;
use tokio::net::TcpStream;
use tracing::warn;

use crate::edge_threads::EdgeThreads;
use crate::http::{self, HttpOptions, Probe, Surface, Versions};
use crate::member::Gate;
use crate::metrics::{Check, Metrics, StoreFacts};
use crate::runtime::Runtime;
use crate::session::Sessions;
use crate::tokio_runtime::TokioRuntime;

/// The versions this server shows for cluster and storage.
const VERSION: &str = "3.7.0";

/// A member, as its health and metrics see it.
pub struct MemberProbe {
    sessions: Rc<RefCell<Sessions>>,
    threads: Rc<EdgeThreads>,
    metrics: Rc<Metrics>,
}

impl MemberProbe {
    /// A probe of the member behind `sessions`, some of whose clients `threads` serve.
    pub fn new(
        sessions: Rc<RefCell<Sessions>>,
        threads: Rc<EdgeThreads>,
        metrics: Rc<Metrics>,
    ) -> MemberProbe {
        MemberProbe { sessions, threads, metrics }
    }
}

impl Probe for MemberProbe {
    async fn range(&self, serializable: bool) -> Result<(), String> {
        let keys = KeyRange::single(Bytes::from_static(b"a"));
        let query = Query::Range(Range { serializable, limit: 1, ..Range::of(keys) });
        let answer = self.sessions.borrow_mut().query(query);
        let answered: Answered = answer.await.unwrap_or(Err(Rejection::Stopped));
        answered.map(drop).map_err(|rejection| rejection.to_string())
    }

    fn has_leader(&self) -> bool {
        self.sessions.borrow().view().status().leader.is_some()
    }

    fn is_learner(&self) -> bool {
        self.sessions.borrow().view().status().role == Role::Learner
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        let sessions = self.sessions.borrow();
        let alarms = machine::alarms(sessions.view().snapshot());
        alarms.into_iter().map(|alarm| alarm.kind).collect()
    }

    fn versions(&self) -> Versions {
        let sessions = self.sessions.borrow();
        let cluster = machine::cluster_version(sessions.view().snapshot());
        let cluster = cluster.map(|version| version.to_string());
        Versions { cluster, storage: Some(VERSION.into()) }
    }

    async fn metrics(&self) -> String {
        let mut counts = self.sessions.borrow_mut().edge().watches().0.counts();
        self.threads.add_watched(&mut counts).await;
        let sessions = self.sessions.borrow();
        let snapshot = sessions.view().snapshot();
        let mark = snapshot.mark();
        let size_bytes = machine::stored_bytes(snapshot);
        let all = KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        self.metrics.set_store(StoreFacts {
            revision: mark.revision,
            compacted: mark.compacted,
            keys: snapshot.count(&all),
            size_bytes,
            size_in_use_bytes: size_bytes,
            quota_bytes: sessions.view().quota(),
            auth_revision: machine::auth_state(snapshot).revision,
        });
        self.metrics.set_alarms(machine::alarms(snapshot));
        self.metrics.set_watches(counts.streams, counts.watchers, counts.behind);
        let mut page = String::new();
        self.metrics.render(&mut page);
        page
    }

    fn checked(&self, check: Check, failure: Option<&str>) {
        self.metrics.checked(check, failure.is_none());
        if let Some(reason) = failure {
            warn!(reason, "serving a health check: unhealthy");
        }
    }
}

/// Serves HTTP/1 connections of one kind of listener.
pub struct HttpGate {
    probe: Rc<MemberProbe>,
    options: Rc<HttpOptions>,
}

impl HttpGate {
    /// For connections that came to `surface`.
    pub fn new(probe: Rc<MemberProbe>, surface: Surface) -> HttpGate {
        let sleep = |duration| -> Sleep { Box::pin(tokio::time::sleep(duration)) };
        HttpGate { probe, options: Rc::new(HttpOptions::new(surface, sleep)) }
    }
}

impl Gate<TcpStream> for HttpGate {
    fn serve(&self, io: TcpStream, first: Bytes) -> Sleep {
        Box::pin(http::serve(io, first, self.probe.clone(), self.options.clone()))
    }
}

/// Serves `--listen-metrics-urls`, from the start: a member without a quorum is scraped too.
///
/// # Errors
/// An address that cannot be listened on.
pub async fn listen_for_metrics(
    runtime: TokioRuntime,
    gate: Rc<HttpGate>,
    address: &str,
) -> Result<(), Fault> {
    let listener = runtime.listen(address).await;
    let mut listener = listener.map_err(|error| {
        Fault::new("listening, as --listen-metrics-urls wants", address.to_string(), error)
    })?;
    runtime.clone().spawn(async move {
        loop {
            match runtime.accept(&mut listener).await {
                Ok(stream) => {
                    let gate = gate.clone();
                    runtime.spawn(async move { gate.serve(stream, Bytes::new()).await });
                }
                Err(_) => runtime.sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok(())
}
