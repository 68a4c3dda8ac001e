//! Either queue of disk orders serves the same data, and the log says which it is and why.

use crate::rig::{Server, get, put};

fn choose(server: &mut Server, driver: &str) {
    server.layout.flags = vec![format!("--experimental-disk-driver={driver}")];
}

fn line(said: &str) -> String {
    said.lines().rfind(|line| line.contains("disk driver")).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_driver_goes_on_where_the_other_stopped() {
    let mut server = Server::prepare("drivers", &[]);
    let rounds = ["pool", "auto", "pool", "auto"];
    for (round, driver) in rounds.iter().enumerate() {
        choose(&mut server, driver);
        server.restart().await;
        let said = line(&server.says("disk driver").await);
        assert_eq!(*driver == "pool", said.contains("chosen by"), "{said}");
        let mut kv = server.kv().await;
        for key in 0..30 {
            kv.put(put(&format!("{round}-{key}"), "v")).await.expect("is written");
        }
        server.kill();
        drop(std::fs::remove_file(server.layout.log(0)));
    }
    server.restart().await;
    let mut kv = server.kv().await;
    for round in 0..rounds.len() {
        for key in 0..30 {
            let answer = kv.range(get(&format!("{round}-{key}"))).await.expect("is read");
            assert_eq!(answer.into_inner().count, 1, "{round}-{key} was acknowledged");
        }
    }
}

/// A ring that does not prove itself: its test file cannot be made.
#[tokio::test]
async fn without_a_working_ring_there_is_the_pool() {
    let mut server = Server::start("no-ring", &[]).await;
    server.kill();
    let in_the_way = server.layout.data_dir(0).join("holdfast/probe");
    std::fs::write(&in_the_way, "").expect("is written");
    choose(&mut server, "io_uring");
    let said = server.refuses();
    assert!(said.contains("starting the disk driver") && said.contains("choose auto or pool"));
    choose(&mut server, "auto");
    server.restart().await;
    let said = line(&server.says("disk driver").await);
    assert!(said.contains("pool") && said.contains("io_uring is not to be had"), "{said}");
    server.kv().await.put(put("a", "1")).await.expect("is written");
}
