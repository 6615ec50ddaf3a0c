//! Histories: callers at once, answers that are lost, and an order of whole calls that explains it all.
//!
//! "One atomic step a call" means linearizable: whatever callers at once were told about a key, there is an order of
//! their calls, none before one that had returned when it was sent, in which each answer is the one of the
//! [`model`](crate::model). Callers here run in parallel on few keys, with each other's leases, superseded ones included;
//! what they were told is recorded, and [`explain`] looks for the order, key by key. Over [`Faulty`] a call may not be
//! applied, may be applied while its answer is lost, or may be applied after a later call.
//!
//! Time passes between the rounds of a batch, where the fixture [moves its clock](Fixture::moves_its_clock), by hours:
//! leases and lives end a quarter of an hour away from any such move, so that a server's own clock, which runs on by
//! itself, decides nothing. Over a clock that a law would have to wait for, leases last and no time passes.
//!
//! The seed is printed, and `SEMEL_SEED` repeats the calls and the faults; which caller comes first is the machine's own.
//! `SEMEL_CASES` asks for more histories than [`HISTORIES`].
//!
//! Of the 106 broken stores in this crate's own tests [`HISTORIES`] find about 69, 10 of which no sequence finds; without
//! and with lost answers it is nearly the same ones. How wide the gap between two steps is decides how soon: a store that
//! looks, then writes 2 ms later, is found at once; `examples/stranger-store` once looked and removed under two locks, some
//! hundred nanoseconds apart, which took 22,568 histories, and half a minute. Search longer than CI does.

mod checker;
mod recorder;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use semel_core::record::RecordId;
use semel_core::store::{AnyStore, Delete, StoreError};

pub use checker::{Event, MOST_EVENTS, Unexplained, What, explain};

use crate::faulty::{Fault, Faults, Faulty, Step};
use crate::kit::{Lab, ok};
use crate::sequences::clock;
use crate::{Fixture, seed};
use recorder::{Recorder, TICK, key};

/// How many histories a run of a law records: one a key.
pub const HISTORIES: u32 = 200;

/// Keys that are used at the same time.
const KEYS: u64 = 8;
/// Callers of each key.
const CALLERS: usize = 4;
/// Rounds with time between them, and calls of each caller in one.
const ROUNDS: usize = 3;
const CALLS: usize = 3;

/// Look, then write is two steps, and another caller comes between them once in a thousand times.
pub async fn calls_at_once_have_an_order<F: Fixture>(f: F) {
    let seed = seed::seed();
    if let Err(broken) = check(f, seed, seed::cases(HISTORIES), false).await {
        panic!("{broken}");
    }
}

/// The answer is lost, the call is sent again, and the first copy arrives after the second: still nobody was told
/// anything that another was told the opposite of.
pub async fn calls_whose_answers_are_lost_have_an_order<F: Fixture>(f: F) {
    let seed = seed::seed();
    if let Err(broken) = check(f, seed, seed::cases(HISTORIES), true).await {
        panic!("{broken}");
    }
}

/// Records at least so many histories, until one has no order.
///
/// # Errors
///
/// The text names the seed, the key and its history.
pub async fn check<F: Fixture>(f: F, seed: u64, histories: u32, lossy: bool) -> Result<(), String> {
    let lab = Lab::new(f);
    let batches = histories.div_ceil(u32::try_from(KEYS).unwrap_or(1));
    let lost = Arc::new(AtomicUsize::new(0));
    for batch in 0..batches {
        let mut rng = Rng::with_seed(seed ^ u64::from(batch) << 32);
        let start = clock(&lab).await;
        let recorder = Recorder::default();
        let ids: Vec<_> = (0..KEYS).map(|number| key(seed, batch, number)).collect();
        for id in &ids {
            recorder.open(*id);
        }
        let (store, faults) = Faulty::over(lab.store.clone());
        let store = AnyStore::new(store);
        for round in 0..ROUNDS {
            if lossy {
                script(&faults, &mut rng);
            }
            run(&recorder, &store, &ids, &mut rng, &lost).await?;
            if round + 1 < ROUNDS && lab.fixture.moves_its_clock() {
                let by = TICK * u32::from(rng.u8(..4));
                recorder.advance(by, lab.fixture.advance(by)).await;
            }
        }
        faults.heal();
        faults.deliver().await;
        for (id, events) in recorder.histories() {
            explain(start, &events)
                .map_err(|why| format!("SEMEL_SEED={seed}, batch {batch} of {batches}, {id:?}: {why}"))?;
        }
        for id in &ids {
            let _gone = ok(lab.store.delete(id, Delete::Any).await);
        }
    }
    if lossy || lost.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    Err(format!(
        "SEMEL_SEED={seed}: {} answers were lost, and nothing had been broken",
        lost.load(Ordering::Relaxed)
    ))
}

/// All callers at once, and a sweep among them.
async fn run(
    recorder: &Recorder,
    store: &AnyStore,
    ids: &[RecordId],
    rng: &mut Rng,
    lost: &Arc<AtomicUsize>,
) -> Result<(), String> {
    let callers = ids.iter().flat_map(|id| (0..CALLERS).map(move |caller| (*id, caller)));
    let start = Arc::new(tokio::sync::Barrier::new(ids.len() * CALLERS + 1));
    let mut running = tokio::task::JoinSet::new();
    for (id, caller) in callers {
        let (recorder, store, lost) = (recorder.clone(), store.clone(), Arc::clone(lost));
        let (start, mut rng) = (Arc::clone(&start), rng.fork());
        running.spawn(async move {
            start.wait().await;
            for _ in 0..CALLS {
                count(recorder.call(&store, caller, id, &mut rng).await, &lost)?;
                // A store that waits for nothing would have one caller make all its calls before another comes.
                tokio::task::yield_now().await;
            }
            Ok::<(), String>(())
        });
    }
    start.wait().await;
    count(recorder.sweep(store).await, lost)?;
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// An answer may be lost; a store that is broken is something else.
fn count(sent: Result<(), StoreError>, lost: &AtomicUsize) -> Result<(), String> {
    match sent {
        Ok(()) => Ok(()),
        Err(error) if error.can_retry() => {
            lost.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(format!("the store failed: {error}")),
    }
}

/// Every fourth call of each step fails, in one of the ways that end.
fn script(faults: &Faults, rng: &mut Rng) {
    let steps =
        [Step::Begin, Step::Renew, Step::Complete, Step::Release, Step::Abandon, Step::Read, Step::Other];
    for step in steps {
        for _ in 0..KEYS {
            for _ in 0..rng.u8(..6) {
                faults.pass(step);
            }
            let ways = [Fault::Refused, Fault::AnswerLost, Fault::Late];
            faults.next(step, ways[rng.usize(..ways.len())]);
        }
    }
}
