//! A gRPC client of one member: the calls that the kill test makes, and a connection that is seen to
//! stand before it is used.
//!
//! Leaves out retries: an error on a standing connection leaves the outcome unknown, and what to make
//! of it is the caller's business.
//!
//! Worked example: `Client::connect(url)` fails while the member is down, with nothing sent. After
//! it, `put` either gives the revision or an error that may hide a write.

use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, request_op,
};
use crate::proto::mvccpb::KeyValue;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a call may take.
const CALL: Duration = Duration::from_secs(6);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Pairs read at a time.
const PAGE: i64 = 5_000;

/// A connection to one member.
#[derive(Clone)]
pub struct Client {
    kv: KvClient<Channel>,
}

/// What a read found.
pub struct Found {
    /// The revision of the answer's header.
    pub revision: i64,
    /// The pair, if the key exists.
    pub pair: Option<KeyValue>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect(url: &str) -> Result<Client, tonic::transport::Error> {
        let channel = channel(url).await?;
        let kv = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Client { kv })
    }

    /// Writes a pair; gives its revision.
    ///
    /// # Errors
    /// Any: the pair may have been written.
    pub async fn put(&mut self, key: Bytes, value: Bytes) -> Result<i64, Status> {
        let request = PutRequest { key, value, ..Default::default() };
        let answer = self.kv.put(request).await?.into_inner();
        Ok(answer.header.unwrap_or_default().revision)
    }

    /// Removes a key; gives the revision and whether it existed.
    ///
    /// # Errors
    /// Any: the key may have been removed.
    pub async fn delete(&mut self, key: Bytes) -> Result<(i64, bool), Status> {
        let request = DeleteRangeRequest { key, ..Default::default() };
        let answer = self.kv.delete_range(request).await?.into_inner();
        Ok((answer.header.unwrap_or_default().revision, answer.deleted == 1))
    }

    /// Writes a pair if the key was last written at `before` (0: if it does not exist); gives the
    /// revision and whether it did.
    ///
    /// # Errors
    /// Any: the pair may have been written.
    pub async fn swap(
        &mut self,
        key: Bytes,
        before: i64,
        value: Bytes,
    ) -> Result<(i64, bool), Status> {
        let unchanged = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(before)),
            ..Default::default()
        };
        let put = PutRequest { key, value, ..Default::default() };
        let put = RequestOp { request: Some(request_op::Request::RequestPut(put)) };
        let request = TxnRequest { compare: vec![unchanged], success: vec![put], failure: vec![] };
        let answer = self.kv.txn(request).await?.into_inner();
        Ok((answer.header.unwrap_or_default().revision, answer.succeeded))
    }

    /// Reads a key, linearizably.
    ///
    /// # Errors
    /// Any.
    pub async fn get(&mut self, key: Bytes) -> Result<Found, Status> {
        let request = RangeRequest { key, ..Default::default() };
        let mut answer = self.kv.range(request).await?.into_inner();
        let revision = answer.header.unwrap_or_default().revision;
        Ok(Found { revision, pair: answer.kvs.pop() })
    }

    /// Gives up history below a revision.
    ///
    /// # Errors
    /// Any: it may have been given up.
    pub async fn compact(&mut self, revision: i64) -> Result<(), Status> {
        self.kv.compact(CompactionRequest { revision, physical: false }).await.map(drop)
    }

    /// Hands every pair of one revision to `each`, in key order, from this member's own state.
    ///
    /// # Errors
    /// Any; also that the member has not come to that revision yet.
    pub async fn scan(
        &mut self,
        revision: i64,
        mut each: impl FnMut(KeyValue),
    ) -> Result<(), Status> {
        let mut from = Bytes::from_static(b"\0");
        loop {
            let request = RangeRequest {
                key: from,
                range_end: Bytes::from_static(b"\0"),
                limit: PAGE,
                revision,
                serializable: true,
                ..Default::default()
            };
            let answer = self.kv.range(request).await?.into_inner();
            let Some(last) = answer.kvs.last() else { return Ok(()) };
            from = [&last.key[..], b"\0"].concat().into();
            answer.kvs.into_iter().for_each(&mut each);
            if !answer.more {
                return Ok(());
            }
        }
    }
}

/// A channel over a connection that stands.
///
/// # Errors
/// Nobody answers.
pub async fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    endpoint.connect_timeout(CONNECT).timeout(CALL).tcp_nodelay(true).connect().await
}
