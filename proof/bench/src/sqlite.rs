//! Pairs of claim and completion a second on a SQLite file at `synchronous=FULL`, and the syncs they take.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use semel_store_sqlite::{SqliteStore, Synchronous};

use crate::Failure;
use crate::measure::{median, thousands};
use crate::pairs::{self, Did};
use crate::report::{Report, Table};

const CALLERS: [u16; 3] = [1, 16, 64];
/// Bytes of an answer's body.
const BODY: usize = 300;

/// What one process does with one file.
#[derive(clap::Args)]
pub(crate) struct Pairs {
    /// A file that is not there yet.
    file: PathBuf,
    /// How many tasks claim and complete at once.
    callers: u16,
    /// For how long, in milliseconds.
    millis: u64,
}

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let (rounds, millis) = if quick { (1, 200) } else { (3, 4000) };
    let mut report = Report::new("sqlite");
    let folder = tempfile::tempdir_in(std::env::current_exe()?.parent().ok_or("no folder")?)?;
    let mut speeds = [const { Vec::new() }; CALLERS.len()];
    for round in 0..rounds {
        for (callers, speeds) in CALLERS.iter().zip(&mut speeds) {
            let did = child(&folder.path().join(format!("{round}-{callers}")), *callers, millis, None)?;
            speeds.push(did.speed());
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
fn syncs(folder: &Path, callers: u16, millis: u64) -> Result<String, Failure> {
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

fn child(file: &Path, callers: u16, millis: u64, table: Option<&Path>) -> Result<Did, Failure> {
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
    let time = Duration::from_millis(pairs.millis);
    let did = runtime.block_on(pairs::run(Arc::new(store), 0, pairs.callers, BODY, time))?;
    serde_json::to_writer(std::io::stdout(), &did)?;
    Ok(())
}
