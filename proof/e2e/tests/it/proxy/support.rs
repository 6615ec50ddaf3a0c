//! What the scenarios share: a shop that counts, `semel proxy` before it, and `semel keys` beside it.

use std::net::SocketAddr;
use std::time::Duration;

use semel_testkit::client::{Ask, PATIENCE, post};
use semel_testkit::program::{self, Proxy};
use semel_testkit::wire::Message;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use super::shop::{
    GATE_THEN_HEED, GATE_THEN_ORDER, LARGE, LARGE_ORDERS, ORDER_THEN_GATE, ORDERS, Shop, WORK,
};

/// A request with a key of its own.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) key: String,
    pub(crate) ask: Ask,
}

/// So many orders, each under a key that begins with `name`.
pub(crate) fn fresh(path: &str, name: &str, count: usize) -> Vec<Sent> {
    (0..count).map(|number| one(path, &format!("{name}-{number:04}-5f1d7e84a6"))).collect()
}

/// One order under this key.
pub(crate) fn one(path: &str, key: &str) -> Sent {
    Sent { ask: post(path, key, r#"{"item": 7}"#), key: key.to_owned() }
}

pub(crate) fn keys(sent: &[Sent]) -> impl Iterator<Item = &str> + Clone {
    sent.iter().map(|sent| sent.key.as_str())
}

/// A store in a folder of its own, and the flags of the proxies that use it.
pub(crate) struct Place {
    folder: TempDir,
    flags: Vec<String>,
    upstream: String,
}

impl Place {
    /// A SQLite file at its default durability, before this upstream, with these flags.
    pub(crate) fn new(upstream: &str, flags: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            upstream: upstream.to_owned(),
        }
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("semel.db")
    }

    pub(crate) fn store(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags =
            vec!["--upstream".to_owned(), self.upstream.clone(), "--store".to_owned(), self.store()];
        flags.extend_from_slice(&self.flags);
        flags
    }

    pub(crate) async fn proxy(&self) -> Proxy {
        Proxy::start(self.flags()).await.unwrap()
    }

    /// `semel keys` with these arguments and `--json`.
    pub(crate) async fn keys(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["keys"].iter().chain(args).copied().collect();
        let output =
            program::run(args.into_iter().chain(["--json", "--store", &self.store()])).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The ids of the records in this state.
    pub(crate) async fn listed(&self, state: &str) -> Vec<String> {
        let page = self.keys(&["list", "--state", state, "--limit", "10000"]).await;
        assert_eq!(page["next"], Value::Null);
        let records = page["records"].as_array().unwrap();
        records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The id of the record of this key.
    pub(crate) async fn id(&self, key: &str) -> String {
        let record = self.keys(&["show", "--key", key, "--upstream", &self.upstream]).await;
        record["id"].as_str().unwrap().to_owned()
    }

    /// Settles a record by hand: nothing happened.
    pub(crate) async fn resolve_not_applied(&self, key: &str) {
        let resolved =
            self.keys(&["resolve", "--key", key, "--upstream", &self.upstream, "--not-applied"]).await;
        assert_eq!(resolved["resolved"], true, "{resolved}");
    }
}

/// Sends a request again while it is told to come back with the same key: the first one runs, or the store's disk
/// stands still.
pub(crate) async fn once_final(to: SocketAddr, ask: &Ask) -> Message {
    // Not by `until`, whose future cannot be sent to another thread.
    let asking = async {
        loop {
            let answer = ask.send(to).await.unwrap();
            if advice(&answer) != "same-key" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("final in time")
}

/// Looks again until there is something to see.
pub(crate) async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("seen in time")
}

/// The problem's code, or nothing if the answer is none.
pub(crate) fn code(answer: &Message) -> String {
    member(answer, "code")
}

/// What the problem says to do, or nothing if the answer is none.
pub(crate) fn advice(answer: &Message) -> String {
    member(answer, "retry")
}

fn member(answer: &Message, name: &str) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    problem[name].as_str().unwrap_or_default().to_owned()
}

/// A problem with this status and code, and the advice that belongs to it.
#[track_caller]
pub(crate) fn assert_problem(answer: &Message, status: u16, expected: &str, retry: &str) {
    assert_eq!((answer.status(), code(answer).as_str()), (status, expected), "{}", answer.text());
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["retry"], retry, "{problem}");
    assert!(!problem["detail"].as_str().unwrap_or_default().is_empty(), "{problem}");
}

/// The replay of this first answer: status, fields and body. A reason phrase means nothing (RFC 9112, section 4),
/// neither does the order of fields of different names (RFC 9110, section 5.3).
#[track_caller]
pub(crate) fn assert_replay(first: &Message, replay: &Message) {
    assert_eq!(first.one("idempotency-replayed"), None);
    assert_eq!(replay.one("idempotency-replayed"), Some("true"), "{replay:?}");
    assert_same(first, replay);
}

/// The same answer, whether it is replayed or not.
#[track_caller]
pub(crate) fn assert_same(one: &Message, other: &Message) {
    assert_eq!(one.status(), other.status());
    assert_eq!(kept(one), kept(other));
    assert!(one.body == other.body, "bodies of {} and {} bytes", one.body.len(), other.body.len());
    assert_eq!(one.trailers, other.trailers);
}

/// Without what says when, and over which connection, the answer was sent.
fn kept(answer: &Message) -> Vec<(String, String)> {
    const NOT_KEPT: [&str; 5] =
        ["date", "connection", "idempotency-replayed", "access-control-expose-headers", "via"];
    let kept = |name: &str| !NOT_KEPT.contains(&name.to_ascii_lowercase().as_str());
    let fields = answer.fields.iter().filter(|(name, _)| kept(name));
    let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}
