//! PostgreSQL: claims and completions beside the plainest single-row statements that do the same, sent by `pgbench`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use semel_store_postgres::PostgresStore;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{CALLERS, server};
use crate::Failure;
use crate::measure::{median, ratio, thousands};
use crate::pairs;
use crate::report::{Report, Table};

const BODY: usize = 300;

/// As a careful user writes it by hand: one row each, prepared, a commit each, in Semel's own table.
const SCRIPT: &str = "\
\\set a random(0, 4611686018427387903)
\\set b random(0, 4611686018427387903)
INSERT INTO semel.record (id, state, recovery, attempt, fence, claim, fingerprint, settings, created, changed, \
lease_until, due, life, released_life) VALUES (decode(repeat(lpad(to_hex(:a::bigint), 16, '0') || \
lpad(to_hex(:b::bigint), 16, '0'), 2), 'hex'), 0, 0, 1, nextval('semel.fence'), decode(repeat('01', 16), 'hex'), \
decode(repeat('02', 32), 'hex'), '1;json', clock_timestamp(), clock_timestamp(), clock_timestamp() + interval '30 s', \
clock_timestamp() + interval '30 s', 604800000, 600000) ON CONFLICT (id) DO NOTHING RETURNING fence \\gset
UPDATE semel.record SET state = 1, changed = clock_timestamp(), lease_until = NULL, \
expires = clock_timestamp() + interval '7 days', body_until = clock_timestamp() + interval '1 day', \
due = clock_timestamp() + interval '1 day', status = 201, body_bytes = 300, progress = NULL, request = NULL, \
completion = decode(repeat('78', 400), 'hex') WHERE id = decode(repeat(lpad(to_hex(:a::bigint), 16, '0') || \
lpad(to_hex(:b::bigint), 16, '0'), 2), 'hex') AND fence = :fence::bigint AND state IN (0, 3) RETURNING fence \\gset
";

/// What was measured of one way, turn by turn.
#[derive(Default)]
struct Turns {
    speed: Vec<f64>,
    median: Vec<f64>,
    /// Microseconds of the server's CPU time a pair.
    cpu: Vec<f64>,
    commits: Vec<f64>,
}

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<(), Failure> {
    let Some((server, bin)) = server::postgres()? else {
        report.notices.push("no figures for PostgreSQL: install Debian's package `postgresql`".into());
        return Ok(());
    };
    let (rounds, seconds) = if quick { (1, 1) } else { (3, 3) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let store = Arc::new(runtime.block_on(PostgresStore::open(&url))?);
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("pair.sql");
    std::fs::write(&script, SCRIPT)?;
    let mut rows = Vec::new();
    let mut series = 0;
    for callers in CALLERS {
        let (mut own, mut base) = (Turns::default(), Turns::default());
        for _ in 0..rounds {
            let before = server.time()?;
            let did = pgbench(&bin, server.port, callers, seconds, &script)?;
            base.add(&did, server.time()?.saturating_sub(before));
            series += 1;
            let commits = runtime.block_on(commits(&url))?;
            let before = server.time()?;
            let time = Duration::from_secs(seconds);
            let did = runtime.block_on(pairs::run(Arc::clone(&store), series, callers, BODY, time))?;
            own.add(&did, server.time()?.saturating_sub(before));
            let commits = runtime.block_on(self::commits(&url))?.saturating_sub(commits);
            own.commits.push(f64::from(u32::try_from(commits)?) / f64::from(did.pairs));
        }
        rows.push(vec![
            callers.to_string(),
            format!("{:.2}", ratio(&own.speed, &base.speed)),
            format!("{:.2}", ratio(&own.median, &base.median)),
            format!("{:.2}", ratio(&own.cpu, &base.cpu)),
            format!("{:.2}", median(own.commits)),
            thousands(median(own.speed)),
            thousands(median(base.speed)),
        ]);
    }
    report.tables.push(Table {
        name: "stores-postgres",
        columns: vec![
            "callers",
            "pairs a second, ratio",
            "median time, ratio",
            "server CPU a pair, ratio",
            "commits a pair",
            "pairs a second",
            "pgbench",
        ],
        rows,
    });
    Ok(())
}

impl Turns {
    fn add(&mut self, did: &pairs::Did, cpu: Duration) {
        self.speed.push(did.speed());
        self.median.push(did.median);
        self.cpu.push(cpu.as_secs_f64() * 1e6 / f64::from(did.pairs.max(1)));
    }
}

/// The number of the next transaction that writes. The server's own counts come late: a session reports what it did when
/// it has been idle for a while.
async fn commits(url: &str) -> Result<u64, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let next: i64 = sqlx::query(sql).fetch_one(&mut connection).await?.try_get(0)?;
    connection.close().await?;
    Ok(u64::try_from(next)?)
}

fn pgbench(bin: &Path, port: u16, callers: u16, seconds: u64, script: &Path) -> Result<pairs::Did, Failure> {
    let logs = tempfile::tempdir()?;
    let output = Command::new(bin.join("pgbench"))
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string(), "-n", "-M", "prepared"])
        .args(["-c", &callers.to_string(), "-j", &callers.min(2).to_string(), "-T", &seconds.to_string()])
        .args(["-l", "--log-prefix", "log", "-f"])
        .arg(script)
        .arg("postgres")
        .current_dir(logs.path())
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !said.contains("number of failed transactions: 0 ") {
        return Err(format!("pgbench failed: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let after = |words: &str| {
        let (_, rest) = said.split_once(words).ok_or("an odd report of pgbench")?;
        Ok::<f64, Failure>(rest.split_whitespace().next().unwrap_or_default().parse()?)
    };
    let speed = after("tps = ")?;
    let mut took = Vec::new();
    for log in std::fs::read_dir(logs.path())? {
        for line in std::fs::read_to_string(log?.path())?.lines() {
            // `client, transaction, microseconds, …`
            took.push(line.split(' ').nth(2).ok_or("an odd log of pgbench")?.parse::<f64>()?);
        }
    }
    let pairs = u32::try_from(took.len())?;
    Ok(pairs::Did { pairs, seconds: f64::from(pairs) / speed, median: median(took) })
}
