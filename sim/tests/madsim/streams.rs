//! The two long-lived streams: the watch, resumed wherever it was lost, and the lease's renewals.

use std::time::Duration;

use bytes::Bytes;
use holdfast_net::proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use madsim::time::timeout;

use crate::client::{Duplex, Status};
use crate::runtime::truth;
use crate::shared::Phase;
use crate::workload::{Client, PATIENCE, PREFIX, PREFIX_END, grant};

/// How long the watch hears nothing before it asks for progress.
const QUIET: Duration = Duration::from_millis(400);

/// Unanswered questions after which the watch is taken for lost.
const QUESTIONS_MAX: u32 = 5;

/// Watches everything until the world is over, from wherever it was lost.
pub async fn watch(mut client: Client) {
    while client.is(Phase::NoRenewals) {
        let Err(status) = watch_one(&mut client).await else { continue };
        client.shared.board().watch_on = None;
        client.give_up(&status).await;
    }
}

/// Watches on one connection, until it fails or the world wants it elsewhere.
async fn watch_one(client: &mut Client) -> Result<(), Status> {
    let (at, channel) = client.channel().await?;
    let mut stream: Duplex<WatchRequest, WatchResponse> =
        channel.stream("/etcdserverpb.Watch/Watch", None).await?;
    let start_revision = client.shared.history().watch_from();
    stream.send(&create(start_revision), false)?;
    client.note(format!("watch on n{} from r{start_revision}", at + 1));
    let mut questions = 0;
    while client.is(Phase::NoRenewals) && !client.is_misplaced() {
        let Ok(response) = timeout(QUIET, stream.next()).await else {
            questions += 1;
            if questions > QUESTIONS_MAX {
                let message = "client: the watch says nothing any more".to_string();
                return Err(Status { code: crate::client::UNAVAILABLE, message });
            }
            stream.send(&progress(), false)?;
            continue;
        };
        questions = 0;
        let response = response?;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        client.note(format!("watch r{revision}, {} events", response.events.len()));
        assert!(!response.canceled, "nothing here cancels a watch: {}", response.cancel_reason);
        if response.created {
            let mut board = client.shared.board();
            board.watch_on = Some(at);
            board.counts.watches += 1;
        }
        client.shared.history().watched(&response);
    }
    client.shared.board().watch_on = None;
    Ok(())
}

fn create(start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: Bytes::from_static(PREFIX),
        range_end: Bytes::from_static(PREFIX_END),
        start_revision,
        progress_notify: true,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn progress() -> WatchRequest {
    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
    WatchRequest { request_union: Some(progress) }
}

/// Grants a lease and renews it each third of its time; grants another when it was starved.
pub async fn keep_alive(mut client: Client, ttl: i64) {
    let mut number = 0;
    while client.is(Phase::NoWrites) {
        number += 1;
        let granted = grant(&mut client, number, ttl).await;
        let Some(id) = client.done(granted).await else { continue };
        client.shared.board().lease = Some(id);
        while client.is(Phase::NoWrites) && !client.shared.history().has_ended(id) {
            let result = renew(&mut client, id, ttl).await;
            client.shared.board().renewal_at = None;
            client.done(result).await;
        }
        if client.shared.history().has_ended(id) {
            client.shared.count(|counts| counts.leases_starved += 1);
        }
    }
}

/// Renews on one connection, until it fails or the world wants it elsewhere.
async fn renew(client: &mut Client, id: i64, ttl: i64) -> Result<(), Status> {
    let (at, channel) = client.channel().await?;
    let mut stream: Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
        channel.stream("/etcdserverpb.Lease/LeaseKeepAlive", None).await?;
    let third = Duration::from_millis(ttl.unsigned_abs() * 1000 / 3);
    while client.is(Phase::NoWrites) && !client.is_misplaced() {
        let sent = truth();
        stream.send(&LeaseKeepAliveRequest { id }, false)?;
        client.shared.board().renewal_at = Some(at);
        let answer = timeout(PATIENCE.min(third), stream.next()).await;
        client.shared.board().renewal_at = None;
        let answer = answer.unwrap_or_else(|_| {
            let message = "client: a renewal is not answered".to_string();
            Err(Status { code: crate::client::DEADLINE_EXCEEDED, message })
        })?;
        assert_eq!(answer.id, id, "the answer is about the lease that was asked about");
        if answer.ttl <= 0 {
            client.note(format!("lease is gone: {}", answer.ttl));
            client.shared.history().is_gone(id, truth());
            return Ok(());
        }
        client.note(format!("lease renewed for {}", answer.ttl));
        client.shared.history().renewed(id, sent);
        client.shared.count(|counts| counts.renewals += 1);
        madsim::time::sleep(third).await;
    }
    Ok(())
}
