//! Claims and answers with numbers for names, and this very binary as a child process.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, Lease, Store as _};
use semel_store_sqlite::SqliteStore;

pub(crate) fn id(n: u32) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn ask(n: u32) -> Begin {
    Begin {
        id: id(n),
        fingerprint: Fingerprint::from_bytes([7; 32]),
        settings: "test".into(),
        principal: None,
        claim: ClaimId::from_u128(u128::from(fastrand::u64(1..)) << 64 | u128::from(fastrand::u64(..))),
        lease_for: Duration::from_hours(1),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}

pub(crate) fn answer(body: impl Into<Bytes>) -> Arc<Completion> {
    Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers: http::HeaderMap::new(),
            body: StoredBody::Kept(body.into()),
            trailers: None,
            origin: None,
        }),
        reference: None,
    })
}

pub(crate) fn body(completion: &Completion) -> Bytes {
    match &completion.response.as_ref().unwrap().body {
        StoredBody::Kept(body) => body.clone(),
        StoredBody::NotKept(why) => panic!("not kept: {why:?}"),
    }
}

pub(crate) async fn claimed(store: &SqliteStore, n: u32) -> Lease {
    match store.begin(&ask(n)).await.unwrap() {
        Begun::Acquired(acquired) => acquired.lease,
        other => panic!("{n}: {other:?}"),
    }
}

/// Which part a child plays, and on which file.
const PART: &str = "SEMEL_SQLITE_TEST_PART";
const FILE: &str = "SEMEL_SQLITE_TEST_FILE";

/// This binary again, running one test only, which sees that it is a child by [`part`].
pub(crate) fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(PART, test).env(FILE, file).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// The file to work on, if this process is a child made for `test`.
pub(crate) fn part(test: &str) -> Option<std::path::PathBuf> {
    (std::env::var(PART).ok()? == test).then(|| std::env::var_os(FILE).unwrap().into())
}

/// A line to the parent, whole or not at all. The harness writes to the same pipe, so ours are marked, and begin
/// on a line of their own.
pub(crate) fn tell(words: impl std::fmt::Display) {
    let line = format!("\n@ {words}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn told(line: &str) -> Option<Vec<&str>> {
    line.strip_prefix("@ ").map(|words| words.split(' ').collect())
}
