//! Pairs of claim and completion a second on a SQLite file at `synchronous=FULL`, and the syncs they take.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use semel_core::record::{
    ClaimId, Completion, Fingerprint, RecordId, Recovery, Retention, StoredBody, StoredResponse,
};
use semel_core::store::{Begin, Begun, Settled, Store as _};
use semel_store_sqlite::{SqliteStore, Synchronous};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::measure::{median, thousands};
use crate::report::{Report, Table};

const CALLERS: [u32; 3] = [1, 16, 64];

/// What one process does with one file.
#[derive(clap::Args)]
pub(crate) struct Pairs {
    /// A file that is not there yet.
    file: PathBuf,
    /// How many tasks claim and complete at once.
    callers: u32,
    /// For how long, in milliseconds.
    millis: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Did {
    pairs: u32,
    seconds: f64,
}

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let (rounds, millis) = if quick { (1, 200) } else { (3, 4000) };
    let mut report = Report::new("sqlite");
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("no folder")?)?;
    let mut speeds = [const { Vec::new() }; CALLERS.len()];
    for round in 0..rounds {
        for (callers, speeds) in CALLERS.iter().zip(&mut speeds) {
            let did = child(&folder.path().join(format!("{round}-{callers}")), *callers, millis, None)?;
            speeds.push(f64::from(did.pairs) / did.seconds);
        }
    }
    let strace = Command::new("strace").arg("--version").output().is_ok_and(|it| it.status.success());
    if !strace {
        report.notices.push("syncs are not counted: install Debian's package `strace`".into());
    }
    let first = median(speeds[0].clone());
    let mut rows = Vec::new();
    for (callers, speeds) in CALLERS.iter().zip(speeds) {
        let syncs = if strace { syncs(folder.path(), *callers, millis)? } else { "-".into() };
        let speed = median(speeds);
        rows.push(vec![callers.to_string(), format!("{:.1}", speed / first), thousands(speed), syncs]);
    }
    let columns = vec!["callers", "ratio to one caller", "pairs a second", "syncs a pair"];
    report.tables.push(Table { name: "sqlite", columns, rows });
    Ok(report)
}

/// Counted by the kernel's account of the calls, in a run of its own, since being watched takes time.
fn syncs(folder: &Path, callers: u32, millis: u64) -> Result<String, Failure> {
    let table = folder.join(format!("syncs-{callers}"));
    let did = child(&folder.join(format!("watched-{callers}")), callers, millis, Some(&table))?;
    let text = std::fs::read_to_string(table)?;
    let mut calls = 0;
    for line in text.lines().filter(|line| line.ends_with("sync")) {
        // `% time, seconds, usecs/call, calls, [errors,] syscall`
        calls += line.split_ascii_whitespace().nth(3).ok_or("an odd table of strace")?.parse::<u32>()?;
    }
    Ok(format!("{:.3}", f64::from(calls) / f64::from(did.pairs.max(1))))
}

fn child(file: &Path, callers: u32, millis: u64, table: Option<&Path>) -> Result<Did, Failure> {
    let own = std::env::current_exe()?;
    let mut command = match table {
        Some(table) => {
            let mut strace = Command::new("strace");
            strace.args(["--follow-forks", "--summary-only", "--trace=fsync,fdatasync", "--output"]);
            strace.arg(table).arg(own);
            strace
        }
        None => Command::new(own),
    };
    let (callers, millis) = (callers.to_string(), millis.to_string());
    command.arg("pairs").arg(file).args([callers, millis]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the process that claims and completes failed".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Claims and completes until the time is over, and says what it did.
pub(crate) fn pairs(pairs: &Pairs) -> Result<(), Failure> {
    let store = SqliteStore::open(&pairs.file)?;
    debug_assert_eq!(Synchronous::default(), Synchronous::Full);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let did = runtime.block_on(async {
        let store = Arc::new(store);
        let start = Instant::now();
        let until = start + Duration::from_millis(pairs.millis);
        let callers: Vec<_> =
            (0..pairs.callers).map(|caller| tokio::spawn(call(Arc::clone(&store), caller, until))).collect();
        let mut pairs = 0;
        for caller in callers {
            pairs += caller.await??;
        }
        Ok::<_, Failure>(Did { pairs, seconds: start.elapsed().as_secs_f64() })
    })?;
    serde_json::to_writer(std::io::stdout(), &did)?;
    Ok(())
}

async fn call(store: Arc<SqliteStore>, caller: u32, until: Instant) -> Result<u32, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let completion = Arc::new(Completion {
        response: Some(StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: StoredBody::Kept(Bytes::from_static(&[b'x'; 300])),
            trailers: None,
            origin: None,
        }),
        reference: None,
    });
    let mut pairs = 0_u32;
    while Instant::now() < until {
        let ask = begin(caller, pairs);
        let Begun::Acquired(acquired) = store.begin(&ask).await? else {
            return Err("a fresh key was not acquired".into());
        };
        let settled = store.complete(acquired.lease.as_ref(), &completion, &ask.retention).await?;
        if settled != Settled::Applied {
            return Err("a completion was not applied".into());
        }
        pairs += 1;
    }
    Ok(pairs)
}

/// Spread over the index, as hashes of keys are.
fn begin(caller: u32, number: u32) -> Begin {
    let mixed = (u64::from(caller) << 32 | u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&mixed.to_be_bytes());
    Begin {
        id: RecordId::from_bytes(id),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        settings: "1;json".into(),
        principal: None,
        claim: ClaimId::from_u128(u128::from(mixed)),
        lease_for: Duration::from_secs(30),
        recovery: Recovery::Hold,
        retention: Retention::default(),
        minted: None,
        quota: None,
        request: None,
    }
}
