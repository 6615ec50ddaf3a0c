//! `semel demo`.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use crate::support::{Folder, PATIENCE, ask, end, order, until};

#[tokio::test]
async fn the_script_makes_each_order_once() {
    let folder = Folder::new();
    let mut command = folder.semel();
    // Variables that somebody set for a proxy of their own.
    command.env("SEMEL_METHODS", "PUT").env("SEMEL_STORE", "memory:");
    let ended = end(command.args(["demo", "--script"])).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let last = ended.out.lines().last().unwrap();
    assert_eq!(last, "4 carts, 12 requests, orders made: 4 (as it must be)");
    assert!(!ended.out.contains("WRONG"), "{}", ended.out);
    assert!(
        ended.out.lines().filter(|line| line.trim_start().starts_with("ok ")).count() >= 18,
        "{}",
        ended.out
    );
    assert!(folder.files().is_empty(), "{:?}", folder.files().keys());
}

#[tokio::test]
async fn the_demo_comes_back_after_a_kill_and_ends_on_a_signal() {
    let folder = Folder::new();
    let mut command = folder.semel();
    command.args(["demo", "--dir", "files"]).stdout(Stdio::piped());
    let mut demo = command.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut find = async |mark: &str| {
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap().expect("a line");
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.to_owned();
            }
        }
    };
    let listening = find("listening on http://").await;
    let address = listening.split_whitespace().next().unwrap().parse().unwrap();
    let pid: i32 = find("kill -9 ").await.trim().parse().unwrap();
    let first = ask(address, order("k", "", r#"{"item":"book"}"#)).await;
    assert_eq!(first.status(), 201);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    find("It is back").await;
    let retry = ask(address, order("k", "", r#"{"item":"book"}"#)).await;
    assert_eq!(
        (retry.body, retry.fields.iter().any(|(name, _)| name == "idempotency-replayed")),
        (first.body, true)
    );

    let demo_pid = i32::try_from(demo.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(demo_pid).unwrap(), Signal::TERM).unwrap();
    let mut rest = String::new();
    timeout(PATIENCE, lines.into_inner().read_to_string(&mut rest)).await.expect("it ends").unwrap();
    assert!(rest.contains("1 order was made."), "{rest}");
    assert_eq!(timeout(PATIENCE, demo.wait()).await.unwrap().unwrap().code(), Some(0));
    assert!(folder.path().join("files/semel.db").exists(), "a named folder stays");

    let again = folder.run(&["demo", "--script", "--dir", "files"]).await;
    assert_eq!(again.code, 3, "{again:?}");
    assert!(again.err.contains("--dir"), "{}", again.err);
}

/// A proxy that nobody knows of goes on holding its port and its file.
#[tokio::test]
async fn the_proxy_does_not_outlive_a_demo_that_was_killed() {
    let folder = Folder::new();
    let mut command = folder.semel();
    command.args(["demo", "--dir", "files"]).stdout(Stdio::piped());
    let mut demo = command.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let address: std::net::SocketAddr = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap().expect("a line");
        if let Some(rest) = line.strip_prefix("listening on http://") {
            break rest.split_whitespace().next().unwrap().parse().unwrap();
        }
    };
    assert_eq!(ask(address, order("k", "", r#"{"item":"book"}"#)).await.status(), 201);
    demo.kill().await.unwrap();
    until("the proxy is gone", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
}

#[tokio::test]
async fn an_address_in_use_is_said_by_the_demo_too() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Folder::new().run(&["demo", "--script", "--listen", &address]).await;
    assert_eq!((ended.code, ended.err.lines().count()), (4, 1), "{ended:?}");
    assert!(ended.err.contains(&address), "{}", ended.err);
}
