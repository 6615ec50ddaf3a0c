//! Replays from the local cache before a server, beside replays of the memory store.

use std::time::Instant;

use semel_core::store::{AnyStore, Begun};
use semel_store_layers::{Layers, Tier};
use semel_store_memory::MemoryStore;
use semel_store_redis::RedisStore;

use super::server::Server;
use crate::Failure;
use crate::measure::{median, ratio};
use crate::pairs::{begin, completion};
use crate::report::{Report, Table};

pub(crate) fn measure(report: &mut Report, server: &Server, quick: bool) -> Result<(), Failure> {
    let (rounds, replays) = if quick { (2, 1_000) } else { (15, 100_000) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let (memory, tiered, mut connection) = runtime.block_on(async {
        let connection = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
        // Longer than the measurement, so that what is measured is the cache alone.
        let tier = Tier::new().max_age(std::time::Duration::from_mins(10));
        let tiered = Layers::new(RedisStore::open(&url).await?).tier(tier).build()?;
        Ok::<_, Failure>((AnyStore::new(MemoryStore::new()), tiered, connection))
    })?;
    let (mut own, mut base) = (Vec::new(), Vec::new());
    let mut commands = 0;
    runtime.block_on(async {
        settle(&memory).await?;
        settle(&tiered).await?;
        for _ in 0..rounds {
            base.push(replay(&memory, replays).await?);
            let before = processed(&mut connection).await?;
            own.push(replay(&tiered, replays).await?);
            // The second question is a command itself.
            commands += processed(&mut connection).await? - before - 1;
        }
        Ok::<_, Failure>(())
    })?;
    let row = |name: &str, ratio: f64, nanos: Vec<f64>, commands: String| {
        vec![name.to_owned(), format!("{ratio:.2}"), format!("{:.0}", median(nanos)), commands]
    };
    let times = ratio(&own, &base);
    report.tables.push(Table {
        name: "stores-tiered",
        columns: vec!["a replay", "time, ratio", "ns", "commands at the server"],
        rows: vec![
            row("memory store", 1.0, base, "-".into()),
            row("local cache before Redis", times, own, commands.to_string()),
        ],
    });
    Ok(())
}

async fn settle(store: &AnyStore) -> Result<(), Failure> {
    let ask = begin(0, 0, 0);
    let Begun::Acquired(acquired) = store.begin(&ask).await? else {
        return Err("a fresh key was not free".into());
    };
    let _applied = store.complete(acquired.lease.as_ref(), &completion(300), &ask.retention).await?;
    // The first replay asks the store.
    replay(store, 1).await.map(drop)
}

/// Nanoseconds a replay.
async fn replay(store: &AnyStore, replays: u32) -> Result<f64, Failure> {
    let ask = begin(0, 0, 0);
    let start = Instant::now();
    for _ in 0..replays {
        let Begun::Settled(_) = store.begin(&ask).await? else { return Err("not a replay".into()) };
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(replays))
}

async fn processed(connection: &mut redis::aio::MultiplexedConnection) -> Result<u64, Failure> {
    let info: String = redis::cmd("INFO").arg("stats").query_async(connection).await?;
    let (_, rest) = info.split_once("total_commands_processed:").ok_or("an odd INFO")?;
    Ok(rest.lines().next().unwrap_or_default().trim().parse()?)
}
