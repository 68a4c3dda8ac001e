//! What stands between a member's driver and clients: an edge alone, or the shipped sessions and
//! transport around it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_core::query::Query;
use holdfast_core::time::Instant;
use holdfast_core::watch::{WatchRequest, WatchStreamId};
use holdfast_net::call::StreamId;
use holdfast_server::auth::Credential;
use holdfast_server::edge::{Asked, Edge};
use holdfast_server::host::Event;

use super::served::Served;
use crate::checker::Requests;
use crate::history::OpId;

/// See the module.
pub(super) enum Front {
    /// Clients speak to the edge.
    Direct(Box<Direct>),
    /// They have connections.
    Served(Box<Served>),
}

/// An edge and what came for it.
pub(super) struct Direct {
    pub edge: Edge,
    /// Requests that came and were not looked at yet.
    pub asks: Vec<(OpId, Query, Credential)>,
    /// Requests of watch streams, likewise.
    pub watch_asks: Vec<(WatchStreamId, bool, Vec<WatchRequest>)>,
    /// Whose stream each is.
    pub streams: BTreeMap<WatchStreamId, (usize, u64)>,
    /// Streams whose clients are slow.
    pub blocked: BTreeSet<WatchStreamId>,
}

impl Direct {
    pub(super) fn new(edge: Edge) -> Direct {
        Direct {
            edge,
            asks: Vec::new(),
            watch_asks: Vec::new(),
            streams: BTreeMap::new(),
            blocked: BTreeSet::new(),
        }
    }

    /// Hands on what came, and notes whose request each is.
    fn collect(&mut self, now: Instant, inbox: &mut Vec<Event>, requests: &mut Requests) {
        let before = inbox.len();
        for (op, query, by) in std::mem::take(&mut self.asks) {
            let call = StreamId(op.0 as u64);
            self.edge.ask(now, Asked { call, query, by }, inbox);
        }
        self.edge.flush(now, inbox);
        for event in &inbox[before..] {
            if let Event::Request(request) = event
                && let Some(call) = self.edge.asker(request.id)
            {
                requests.ops.insert(request.id, OpId(call.0 as usize));
            }
        }
    }
}

impl Front {
    /// The beginning of a turn: what came is handed to the driver.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        inbox: &mut Vec<Event>,
        requests: &mut Requests,
    ) {
        match self {
            Front::Direct(direct) => direct.collect(now, inbox, requests),
            Front::Served(served) => {
                served.run(now);
                served.collect(inbox, requests);
            }
        }
    }

    pub(super) fn with_edge<T>(&mut self, look: impl FnOnce(&mut Edge) -> T) -> T {
        match self {
            Front::Direct(direct) => look(&mut direct.edge),
            Front::Served(served) => served.with_edge(look),
        }
    }

    /// Whether a connection's task waits for its turn.
    pub(super) fn is_woken(&self) -> bool {
        matches!(self, Front::Served(served) if served.is_woken())
    }

    /// When there is something to do without a turn of the driver.
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Front::Direct(direct) => direct.edge.deadline(),
            Front::Served(served) => served.deadline(),
        }
    }
}
