//! The stock Rust client against one endpoint: one line per check, exit code 1 at the first failure.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, LeaseTimeToLiveOptions,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

type Outcome = Result<(), Box<dyn Error>>;

const PREFIX: &str = "clients/rust/";
const A: &str = "clients/rust/a";
const LEASED: &str = "clients/rust/leased";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(endpoint) = std::env::args().nth(1) else {
        eprintln!("usage: holdfast-client-check <endpoint>, e.g. 127.0.0.1:2379");
        return ExitCode::from(2);
    };
    match tokio::time::timeout(Duration::from_secs(60), checks(&endpoint)).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("FAIL {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("FAIL: not done after a minute");
            ExitCode::FAILURE
        }
    }
}

async fn checks(endpoint: &str) -> Outcome {
    let mut client = Client::connect([endpoint], None).await?;
    put(&mut client).await?;
    range(&mut client).await?;
    txn(&mut client).await?;
    watch(&mut client).await?;
    delete(&mut client).await?;
    lease(&mut client).await?;
    compaction(&mut client).await
}

/// Says that a check passed, or why it did not.
fn expect(name: &str, holds: bool, got: impl std::fmt::Debug) -> Outcome {
    if !holds {
        return Err(format!("{name}: got {got:?}").into());
    }
    println!("ok {name}");
    Ok(())
}

async fn put(client: &mut Client) -> Outcome {
    client.delete(PREFIX, Some(DeleteOptions::new().with_prefix())).await?;
    client.put(A, "1", None).await?;
    let answer = client.put(A, "2", Some(PutOptions::new().with_prev_key())).await?;
    let before = answer.prev_key().map(|kv| kv.value().to_vec());
    expect("put", before.as_deref() == Some(b"1"), before)
}

async fn range(client: &mut Client) -> Outcome {
    client.put("clients/rust/b", "b", None).await?;
    client.put("clients/rust/c", "c", None).await?;
    let options = GetOptions::new().with_prefix().with_limit(2);
    let options = options.with_sort(SortTarget::Key, SortOrder::Descend);
    let answer = client.get(PREFIX, Some(options)).await?;
    let first = answer.kvs().first().map(|kv| kv.key().to_vec());
    let whole = answer.kvs().len() == 2 && answer.count() == 3 && answer.more();
    if !whole || first.as_deref() != Some(b"clients/rust/c") {
        return expect("range", false, answer);
    }
    let now = client.get(A, None).await?;
    let created = now.kvs().first().ok_or("the key is gone")?.create_revision();
    let before = client.get(A, Some(GetOptions::new().with_revision(created))).await?;
    let value = before.kvs().first().map(|kv| kv.value().to_vec());
    expect("range", value.as_deref() == Some(b"1"), value)
}

async fn txn(client: &mut Client) -> Outcome {
    let swap = |from: &str, to: &str| {
        Txn::new()
            .when([Compare::value(A, CompareOp::Equal, from)])
            .and_then([TxnOp::put(A, to, None)])
            .or_else([TxnOp::get(A, None)])
    };
    let done = client.txn(swap("2", "3")).await?;
    if !done.succeeded() {
        return expect("txn", false, done);
    }
    let refused = client.txn(swap("2", "4")).await?;
    let found = refused.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(answer) => answer.kvs().first().map(|kv| kv.value().to_vec()),
        _ => None,
    });
    expect("txn", !refused.succeeded() && found.as_deref() == Some(b"3"), found)
}

async fn watch(client: &mut Client) -> Outcome {
    let now = client.get(A, None).await?;
    let start = now.kvs().first().ok_or("the key is gone")?.create_revision();
    let options = WatchOptions::new().with_start_revision(start).with_prev_key();
    let mut changes = client.watch(A, Some(options)).await?;
    client.put(A, "live", None).await?;
    let (mut seen, mut before) = (Vec::new(), Vec::new());
    while seen.len() < 4 {
        let answer = changes.message().await?.ok_or("the watch ended")?;
        for event in answer.events() {
            seen.extend(event.kv().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()));
            before.extend(event.prev_kv().map(|kv| String::from_utf8_lossy(kv.value()).into_owned()));
        }
    }
    let holds = seen == ["1", "2", "3", "live"] && before == ["1", "2", "3"];
    expect("watch", holds, (seen, before))
}

async fn delete(client: &mut Client) -> Outcome {
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let answer = client.delete(PREFIX, Some(options)).await?;
    expect("delete", answer.deleted() == 3 && answer.prev_kvs().len() == 3, answer)
}

async fn lease(client: &mut Client) -> Outcome {
    let id = client.lease_grant(2, None).await?.id();
    client.put(LEASED, "x", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut renewals) = client.lease_keep_alive(id).await?;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        keeper.keep_alive().await?;
        let renewal = renewals.message().await?.ok_or("the keepalive stream ended")?;
        if renewal.ttl() <= 0 {
            return expect("lease", false, renewal);
        }
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(options)).await?;
    if left.ttl() <= 0 || left.keys().len() != 1 {
        return expect("lease", false, left);
    }
    client.lease_revoke(id).await?;
    let gone = client.get(LEASED, None).await?;
    expect("lease", gone.count() == 0, gone)
}

async fn compaction(client: &mut Client) -> Outcome {
    let answer = client.put(A, "last", None).await?;
    let last = answer.header().ok_or("an answer without a header")?.revision();
    client.compact(last, Some(CompactionOptions::new().with_physical())).await?;
    let old = client.get(A, Some(GetOptions::new().with_revision(last - 1))).await;
    let text = old.err().map(|error| error.to_string()).unwrap_or_default();
    expect("compaction", text.contains("required revision has been compacted"), text)
}
