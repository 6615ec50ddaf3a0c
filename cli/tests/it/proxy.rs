//! `semel proxy` from a client's side. Runs are counted at the upstream.

use semel_testkit::wire;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::{Act, Folder, Proxy, Upstream, answer, code, get, order};

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let upstream = Upstream::answering("made").await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;

    let first = proxy.ask(order("k", "", r#"{"a":1,"b":2}"#)).await;
    assert_eq!(
        (first.status(), first.text().as_str(), first.one("idempotency-replayed")),
        (200, "made", None)
    );
    let retry = proxy.ask(order("k", "", r#"{ "b": 2, "a": 1 }"#)).await;
    assert_eq!((retry.text().as_str(), retry.one("idempotency-replayed")), ("made", Some("true")));
    let other = proxy.ask(order("k", "", r#"{"a":2}"#)).await;
    assert_eq!((other.status(), code(&other).as_str()), (422, "key-reused"));
    let somebody_else = proxy.ask(order("k", "Authorization: Bearer x\r\n", r#"{"a":1,"b":2}"#)).await;
    assert_eq!(somebody_else.status(), 422);
    assert_eq!(upstream.count(), 1);

    assert_eq!(proxy.ask(get("/")).await.text(), "made");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_duplicate_of_a_running_request_is_told_to_come_back() {
    let upstream = Upstream::start(|_| Act::Never).await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let address = proxy.address;
    let first = tokio::spawn(async move { crate::support::try_ask(address, order("k", "", "{}")).await });
    assert!(upstream.until(|upstream| upstream.count() == 1).await);

    let second = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((second.status(), code(&second).as_str()), (409, "in-flight"));
    assert!(second.one("retry-after").is_some());
    assert_eq!(upstream.count(), 1);
    first.abort();
}

/// A key that stays taken although nothing was sent locks its client out for no reason.
#[tokio::test]
async fn an_upstream_that_is_not_there_frees_the_key_at_once() {
    // Bound and not listening yet: nobody else can take the port, and connections are refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &format!("http://{address}"), &[]).await;
    for _ in 0..2 {
        let failed = proxy.ask(order("k", "", "{}")).await;
        assert_eq!((failed.status(), code(&failed).as_str()), (502, "upstream-unreachable"));
    }

    let listener: TcpListener = socket.listen(16).unwrap();
    let serve = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let request = wire::read_message(&mut stream, false).await.unwrap().unwrap();
        stream.get_mut().write_all(&answer(201, "made")).await.unwrap();
        request
    });
    let made = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((made.status(), made.text().as_str()), (201, "made"));
    let request = serve.await.unwrap();
    assert_eq!(
        (request.one("idempotency-key"), request.one("idempotency-attempt")),
        (Some("\"k\""), Some("3"))
    );
}

/// Whether it was done is unknown, and the retry must not find out by doing it.
#[tokio::test]
async fn an_upstream_that_hangs_up_leaves_the_outcome_unknown() {
    let upstream = Upstream::start(|_| Act::HangUp).await.unwrap();
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &upstream.url(), &[]).await;
    let first = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((first.status(), code(&first).as_str()), (502, "outcome-unknown"));
    let retry = proxy.ask(order("k", "", "{}")).await;
    assert_eq!((retry.status(), code(&retry).as_str()), (409, "outcome-unknown"));
    assert_eq!(upstream.count(), 1);
    let listed = folder.run(&["keys", "list", "--state", "unknown", "--json"]).await.json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_admin_address_says_alive_and_ready() {
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, "http://127.0.0.1:9", &[]).await;
    let admin = proxy.admin.expect("an admin address");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(crate::support::ask(admin, get(path)).await.status(), 200, "{path}");
    }
}

/// The gateway's namespace differs from the library's and from that of every other upstream.
#[tokio::test]
async fn two_proxies_on_one_file_do_not_share_keys() {
    let (one, other) =
        (Upstream::answering("one").await.unwrap(), Upstream::answering("other").await.unwrap());
    let folder = Folder::new();
    let first = Proxy::start(&folder, &one.url(), &[]).await;
    let second = Proxy::start(&folder, &other.url(), &[]).await;
    assert_eq!(first.ask(order("k", "", "{}")).await.text(), "one");
    assert_eq!(second.ask(order("k", "", "{}")).await.text(), "other");
    let same = Proxy::start(&folder, &one.url(), &[]).await;
    assert_eq!(same.ask(order("k", "", "{}")).await.one("idempotency-replayed"), Some("true"));
    assert_eq!((one.count(), other.count()), (1, 1));
}

/// Logs are kept for years and read by many.
#[tokio::test]
async fn the_log_holds_no_keys_credentials_or_bodies() {
    let upstream = Upstream::start(|_| Act::HangUp).await.unwrap();
    let folder = Folder::new();
    let mut command = folder.semel();
    command.env("SEMEL_LOG", "debug").env("SEMEL_LOG_FORMAT", "json").env("SEMEL_UPSTREAM", upstream.url());
    command.args(["proxy", "--listen", "127.0.0.1:0", "--admin", "off"]);
    let proxy = Proxy::of(&folder, command).await;
    let request = order("key-of-alice", "Authorization: Bearer token-of-alice\r\n", r#"{"card":"4242"}"#);
    proxy.ask(&request).await;
    proxy.ask(&request).await;
    proxy.ask(order("key-of-alice", "", "{}")).await;
    proxy.kill().await;
    let log = folder.log();
    assert!(log.contains("its outcome is unknown") && log.contains("key-reused"), "{log}");
    for secret in ["key-of-alice", "token-of-alice", "4242"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}
