//! The transactional level, beside the same handler with a transaction of its own and no Semel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Router, response::IntoResponse};
use http::{Request, StatusCode};
use semel_store_postgres::{Postgres, PostgresStore};
use semel_tower::{Idempotency, IdempotencyLayer, Tx};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tower::ServiceExt as _;

use crate::Failure;
use crate::measure::{median, ratio, thousands};
use crate::pairs::Did;
use crate::report::{Report, Table};
use crate::stores::server;

const CALLERS: [u16; 2] = [1, 16];
/// So many that requests seldom meet at one.
const ACCOUNTS: i64 = 10_000;

/// What was measured of one way, turn by turn.
#[derive(Default)]
struct Turns {
    speed: Vec<f64>,
    median: Vec<f64>,
    /// Microseconds of the server's CPU time a request.
    cpu: Vec<f64>,
}

pub(crate) fn measure(quick: bool) -> Result<Report, Failure> {
    let mut report = Report::new("transactional");
    let Some((server, _)) = server::postgres()? else {
        report.notices.push("nothing was measured: install Debian's package `postgresql`".into());
        return Ok(report);
    };
    let (rounds, seconds) = if quick { (1, 1) } else { (3, 3) };
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (alone, guarded) = runtime.block_on(applications(&url))?;
    let mut rows = Vec::new();
    let mut series = 0;
    for callers in CALLERS {
        let (mut base, mut own) = (Turns::default(), Turns::default());
        for _ in 0..rounds {
            for (router, turns) in [(&alone, &mut base), (&guarded, &mut own)] {
                series += 1;
                let before = server.time()?;
                let time = Duration::from_secs(seconds);
                let did = runtime.block_on(run(router, series, callers, time))?;
                let cpu = server.time()?.saturating_sub(before);
                turns.speed.push(did.speed());
                turns.median.push(did.median);
                turns.cpu.push(cpu.as_secs_f64() * 1e6 / f64::from(did.pairs.max(1)));
            }
        }
        rows.push(vec![
            callers.to_string(),
            format!("{:.2}", ratio(&own.speed, &base.speed)),
            format!("{:.2}", ratio(&own.median, &base.median)),
            format!("{:.2}", ratio(&own.cpu, &base.cpu)),
            thousands(median(own.speed)),
        ]);
    }
    let columns = vec![
        "callers",
        "requests a second, ratio",
        "median time, ratio",
        "server CPU a request, ratio",
        "requests a second",
    ];
    report.tables.push(Table { name: "transactional", columns, rows });
    Ok(report)
}

/// The same handler twice, each over a pool of its own.
async fn applications(url: &str) -> Result<(Router, Router), Failure> {
    let store = PostgresStore::open(url).await?;
    let mut connection = PgConnection::connect(url).await?;
    let tables = "CREATE TABLE account (n bigint PRIMARY KEY, cents bigint NOT NULL);
        CREATE TABLE ledger (n bigserial PRIMARY KEY, payer bigint NOT NULL, payee bigint NOT NULL);
        INSERT INTO account SELECT n, 1000000 FROM generate_series(0, 9999) AS n";
    sqlx::raw_sql(tables).execute(&mut connection).await?;
    let pool = || PgPoolOptions::new().max_connections(16).connect(url);
    let bare = Router::new().route("/{from}/{to}", post(by_itself)).with_state(pool().await?);
    let transactions = store.transactions(pool().await?).open().await?;
    let idempotency = Idempotency::builder(store).require_key().transactional(transactions).build()?;
    let guarded = Router::new().route("/{from}/{to}", post(in_tx)).layer(IdempotencyLayer::new(idempotency));
    Ok((bare, guarded))
}

async fn by_itself(State(pool): State<PgPool>, Path((from, to)): Path<(i64, i64)>) -> impl IntoResponse {
    let done = async {
        let mut tx = pool.begin().await?;
        transfer(&mut tx, from, to).await?;
        tx.commit().await
    };
    answer(&done.await)
}

async fn in_tx(mut tx: Tx<Postgres>, Path((from, to)): Path<(i64, i64)>) -> impl IntoResponse {
    answer(&transfer(&mut tx, from, to).await)
}

async fn transfer(tx: &mut PgConnection, from: i64, to: i64) -> Result<(), sqlx::Error> {
    // In one order, so that no two requests wait for each other.
    for (account, cents) in if from < to { [(from, -1), (to, 1)] } else { [(to, 1), (from, -1)] } {
        let moved = sqlx::query("UPDATE account SET cents = cents + $2 WHERE n = $1");
        moved.bind(account).bind(cents).execute(&mut *tx).await?;
    }
    let line = sqlx::query("INSERT INTO ledger (payer, payee) VALUES ($1, $2)").bind(from).bind(to);
    line.execute(tx).await.map(drop)
}

fn answer(done: &Result<(), sqlx::Error>) -> (StatusCode, &'static str) {
    match done {
        Ok(()) => (StatusCode::CREATED, "moved"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    }
}

async fn run(router: &Router, series: u16, callers: u16, time: Duration) -> Result<Did, Failure> {
    let start = Instant::now();
    let names: Arc<str> = Arc::from(format!("bench-{series}"));
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (router, names) = (router.clone(), Arc::clone(&names));
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut number: i64 = i64::from(caller) * 7919;
                while start.elapsed() < time {
                    number += 1;
                    let (from, to) = (number * 31 % ACCOUNTS, (number * 31 + 4001) % ACCOUNTS);
                    let request = Request::post(format!("/{from}/{to}"))
                        .header("idempotency-key", format!("\"{names}-{caller}-{number}\""))
                        .body(Body::empty())?;
                    let begun = Instant::now();
                    let response = router.clone().oneshot(request).await?;
                    took.push(begun.elapsed().as_secs_f64() * 1e6);
                    if response.status() != StatusCode::CREATED {
                        return Err(format!("an answer of status {}", response.status()).into());
                    }
                }
                Ok::<_, Failure>(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Did { pairs: u32::try_from(took.len())?, seconds, median: median(took) })
}
