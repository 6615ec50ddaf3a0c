//! Redis: claims and completions beside a bare `SET NX GET` and `SET`, over the same driver and connection, and sent
//! by `redis-benchmark`.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use semel_store_redis::RedisStore;

use super::CALLERS;
use super::server::Server;
use crate::Failure;
use crate::measure::{median, ratio, thousands};
use crate::pairs;
use crate::report::{Report, Table};

/// Bytes of the answers' bodies.
const BODIES: [usize; 2] = [300, 10_240];
/// Bytes of a claimed record: what a bare `SET NX GET` writes.
const CLAIM: usize = 111;
/// Bytes of a completed record and its answer beside the body.
const COMPLETED: usize = 187;

pub(crate) fn measure(report: &mut Report, server: &Server, quick: bool) -> Result<(), Failure> {
    let (rounds, millis) = if quick { (1, 300) } else { (3, 1500) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let store = Arc::new(runtime.block_on(RedisStore::open(&url))?);
    // The driver's own half a second is no measure of a machine that servers and callers share.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url.as_str())?;
    let bare = runtime.block_on(client.get_multiplexed_async_connection_with_config(&patient))?;
    let time = Duration::from_millis(millis);
    let mut rows = Vec::new();
    let mut series = 0;
    for body in BODIES {
        for callers in CALLERS {
            let (mut speed, mut cpu) = (<[Vec<f64>; 3]>::default(), <[Vec<f64>; 3]>::default());
            for _ in 0..rounds {
                series += 1;
                let before = server.time()?;
                let did = runtime.block_on(pairs::run(Arc::clone(&store), series, callers, body, time))?;
                speed[0].push(did.speed());
                cpu[0].push(each(server, before, did.pairs)?);

                let before = server.time()?;
                let (pairs, seconds) = runtime.block_on(bare_pairs(&bare, series, callers, body, time))?;
                speed[1].push(f64::from(pairs) / seconds);
                cpu[1].push(each(server, before, pairs)?);

                let (pairs, seconds, took) = benchmark(server, callers, body, quick)?;
                speed[2].push(f64::from(pairs) / seconds);
                cpu[2].push(took / f64::from(pairs));
            }
            rows.push(vec![
                format!("{callers}, {body} B"),
                format!("{:.2}", ratio(&speed[0], &speed[1])),
                format!("{:.2}", ratio(&cpu[0], &cpu[1])),
                format!("{:.2}", ratio(&speed[0], &speed[2])),
                format!("{:.2}", ratio(&cpu[0], &cpu[2])),
                thousands(median(speed[0].clone())),
            ]);
            // Nobody measures an allocator that is full of the last row's answers.
            runtime.block_on(async {
                let mut connection = bare.clone();
                redis::cmd("FLUSHALL").exec_async(&mut connection).await
            })?;
        }
    }
    report.tables.push(Table {
        name: "stores-redis",
        columns: vec![
            "callers, body",
            "pairs a second, ratio to the driver's",
            "server CPU, ratio to the driver's",
            "pairs a second, ratio to redis-benchmark",
            "server CPU, ratio to redis-benchmark",
            "pairs a second",
        ],
        rows,
    });
    Ok(())
}

/// Microseconds of the server's CPU time a pair.
fn each(server: &Server, before: Duration, pairs: u32) -> Result<f64, Failure> {
    Ok(server.time()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(pairs.max(1)))
}

/// The two commands that a lock in Redis takes at the least, over one multiplexed connection.
async fn bare_pairs(
    connection: &MultiplexedConnection,
    series: u16,
    callers: u16,
    body: usize,
    time: Duration,
) -> Result<(u32, f64), Failure> {
    let (claim, answer) = (Arc::new(vec![b'c'; CLAIM]), Arc::new(vec![b'x'; COMPLETED + body]));
    let start = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let mut connection = connection.clone();
            let (claim, answer) = (Arc::clone(&claim), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut pairs = 0_u32;
                while start.elapsed() < time {
                    let key = format!("bare:{{{series}:{caller}:{pairs}}}");
                    let mut set = redis::cmd("SET");
                    set.arg(&key).arg(&claim[..]).arg("NX").arg("GET");
                    let before: Option<Vec<u8>> = set.query_async(&mut connection).await?;
                    if before.is_some() {
                        return Err("a fresh key was not free".into());
                    }
                    redis::cmd("SET").arg(&key).arg(&answer[..]).exec_async(&mut connection).await?;
                    pairs += 1;
                }
                Ok::<_, Failure>(pairs)
            })
        })
        .collect();
    let mut pairs = 0;
    for caller in callers {
        pairs += caller.await??;
    }
    Ok((pairs, start.elapsed().as_secs_f64()))
}

/// Pairs, seconds, and microseconds of the server's CPU time, of the same two commands sent by Redis's own program.
fn benchmark(server: &Server, callers: u16, body: usize, quick: bool) -> Result<(u32, f64, f64), Failure> {
    let pairs = if quick { 2_000 } else { 20_000 };
    let before = server.time()?;
    let start = Instant::now();
    for (size, rest) in [(CLAIM, &["NX", "GET"][..]), (COMPLETED + body, &[][..])] {
        let done = Command::new("redis-benchmark")
            .args(["-p", &server.port.to_string(), "-c", &callers.to_string(), "-n", &pairs.to_string()])
            .args(["-r", "1000000000", "-q", "SET", "plain:__rand_int__", &"x".repeat(size)])
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !done.success() {
            return Err("redis-benchmark failed".into());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((pairs, seconds, server.time()?.saturating_sub(before).as_secs_f64() * 1e6))
}
