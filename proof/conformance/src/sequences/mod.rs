//! Sequences: whatever is asked in whatever order, every answer is one that the model allows.
//!
//! A state-machine test. Random sequences of all calls, over few keys, several principals, fingerprints and recovery
//! rules, with quotas, delayed duplicates of earlier calls and old leases, go to the store and to the
//! [`model`](crate::model) side by side. The first answer that the model does not allow fails the law, after the
//! sequence was made as small as it gets. Its seed is printed; `SEMEL_SEED` repeats it, and `SEMEL_CASES` asks for
//! more sequences than [`CASES`].
//!
//! Time passes only where the fixture [moves its clock](Fixture::moves_its_clock): there by hours at once, and every
//! lease and life ends a quarter of an hour away from any such move, so that a server's clock, which runs by itself, may
//! be a minute off. Over a clock that a law would have to wait for no time passes, and leases last.
//!
//! Of the 106 broken stores in this crate's own tests, each of which some law was made for, [`CASES`] sequences find 69.
//! They do not look at wake-ups, reopened stores, batches, trailers and fields, or anything that takes two callers at
//! once; some others would take more luck than 64 sequences have.

mod moves;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use semel_core::record::{RecordView, State};
use semel_core::store::{Delete, Query, StoreError, Swept};
use tokio::sync::mpsc;

use crate::kit::{Lab, ask, ok};
use crate::model::{Call, Clock, Model};
use crate::{Fixture, seed};
use moves::{Move, Seen, TICK, moves};

/// How many sequences a run of the law tries.
pub const CASES: u32 = 64;

/// How many smaller ones are tried, once one is not allowed.
const SHRINKS: u32 = 400;

/// A mistake that needs three calls in the right order, or a duplicate at the wrong time, has no law of its own.
pub async fn every_sequence_is_one_the_model_allows<F: Fixture>(f: F) {
    let (seed, cases) = (seed::seed(), seed::cases(CASES));
    if let Err(broken) = check(f, seed, cases).await {
        panic!("{broken}");
    }
}

/// Tries sequences until one is not allowed: then what it is, as small as it gets.
///
/// # Errors
///
/// The text names the seed, the sequence and the answer that is not allowed.
pub async fn check<F: Fixture>(f: F, seed: u64, cases: u32) -> Result<(), String> {
    let mut bench = Bench { with_time: f.moves_its_clock(), lab: Lab::new(f), number: 0, gone: 0 };
    // What proptest makes smaller cannot be sent between threads, so it stays on one, and asks from there.
    let (asks, mut asked) = mpsc::channel(1);
    let (tells, told) = std::sync::mpsc::channel();
    let search = tokio::task::spawn_blocking(move || {
        search(seed, cases, |moves| {
            // If nobody listens, a panic is on its way to the one who waits for us.
            asks.blocking_send(moves).map_err(|_| String::new())?;
            told.recv().map_err(|_| String::new())?
        })
    });
    while let Some(moves) = asked.recv().await {
        if tells.send(bench.play(&moves).await).is_err() {
            break;
        }
    }
    search.await.map_err(|error| error.to_string())?
}

fn search(seed: u64, cases: u32, play: impl Fn(Vec<Move>) -> Result<(), String>) -> Result<(), String> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed::bytes(seed));
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = moves();
    for case in 0..cases {
        let mut tree = strategy.new_tree(&mut runner).map_err(|reason| reason.to_string())?;
        let Err(mut broken) = play(tree.current()) else { continue };
        let mut more = tree.simplify();
        for _ in 0..SHRINKS {
            if !more {
                break;
            }
            more = match play(tree.current()) {
                Err(smaller) => {
                    broken = smaller;
                    tree.simplify()
                }
                Ok(()) => tree.complicate(),
            };
        }
        return Err(format!("SEMEL_SEED={seed}, sequence {case} of {cases}:\n{broken}"));
    }
    Ok(())
}

struct Bench<F> {
    lab: Lab<F>,
    with_time: bool,
    /// Of this sequence: each has its own keys.
    number: u64,
    /// Records that the store may still have to remove, although nobody sees them.
    gone: usize,
}

impl<F: Fixture> Bench<F> {
    /// Plays one sequence over a store without records, and removes what it leaves.
    async fn play(&mut self, moves: &[Move]) -> Result<(), String> {
        self.number += 1;
        let mut model = Model::new(self.now().await, self.lab.store.capabilities().quotas);
        let mut seen = Seen::new(self.number);
        let mut script = Vec::new();
        let mut played = Ok(());
        for step in moves {
            played = self.step(step, &mut model, &mut seen, &mut script).await;
            if played.is_err() {
                break;
            }
        }
        self.gone += model.records() + moves.len();
        for id in (0..u8::MAX).map(|key| seen.id(key)).take(3) {
            let _any = ok(self.lab.store.delete(&id, Delete::Any).await);
        }
        played.map_err(|why: String| format!("{}\n  {why}", script.join("\n")))
    }

    async fn step(
        &mut self,
        step: &Move,
        model: &mut Model,
        seen: &mut Seen,
        script: &mut Vec<String>,
    ) -> Result<(), String> {
        match step {
            Move::Advance { .. } if !self.with_time => Ok(()),
            Move::Advance { ticks } => {
                let by = TICK * u32::from(*ticks);
                script.push(format!("  {by:?} pass"));
                self.lab.fixture.advance(by).await;
                model.advance(by);
                Ok(())
            }
            Move::List { state, limit } => {
                let views = self.list(*state, usize::from(*limit)).await.map_err(failed)?;
                script.push(format!("  list {state:?} by {limit}\n    -> {views:?}"));
                model.listed(*state, &views).map_err(|refusal| refusal.to_string())
            }
            Move::Sweep { limit } => {
                let swept = self.sweep(usize::from(*limit)).await?;
                script.push(format!("  sweep by {limit}\n    -> {swept:?}"));
                model.swept(&swept, self.gone + script.len()).map_err(|refusal| refusal.to_string())
            }
            _ => {
                let Some(mut call) = seen.call(step, model.clock()) else { return Ok(()) };
                if let Call::Begin(ask) = &mut call
                    && !self.lab.fixture.quotas()
                {
                    ask.quota = None;
                }
                let sent = call.send(&self.lab.store).await;
                script.push(format!("  {call:?}\n    -> {sent:?}"));
                let answer = sent.map_err(failed)?;
                model.answered(&call, &answer).map_err(|refusal| refusal.to_string())?;
                seen.learn(&call, &answer);
                Ok(())
            }
        }
    }

    async fn list(&self, state: Option<State>, limit: usize) -> Result<Vec<RecordView>, StoreError> {
        let mut views = Vec::new();
        let mut after = None;
        for _ in 0..100 {
            let page = self.lab.store.list(&Query { state, after, limit }).await?;
            views.extend(page.records);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(views)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept, String> {
        let mut sum = Swept::default();
        for _ in 0..10_000 {
            let swept = self.lab.store.sweep(limit).await.map_err(failed)?;
            if swept.removed + swept.bodies + swept.unknown + swept.released > limit {
                return Err(format!("a sweep of at most {limit} did {swept:?}"));
            }
            sum.removed += swept.removed;
            sum.bodies += swept.bodies;
            sum.unknown += swept.unknown;
            sum.released += swept.released;
            if !swept.more {
                return Ok(sum);
            }
        }
        Err("a sweep without end".to_owned())
    }

    /// What the store's clock shows: by a record, since only records show it.
    async fn now(&mut self) -> Clock {
        self.gone += 1;
        clock(&self.lab).await
    }
}

/// What the store's clock shows: by a record, since only records show it.
pub(crate) async fn clock<F: Fixture>(lab: &Lab<F>) -> Clock {
    let probe = ask(u64::MAX);
    let begun = ok(lab.store.begin(&probe).await);
    drop(begun);
    let view = ok(lab.store.inspect(&probe.id).await).unwrap_or_else(|| panic!("what was claimed is gone"));
    let _gone = ok(lab.store.delete(&probe.id, Delete::Any).await);
    Clock::at(view.now.as_millis())
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn failed(error: StoreError) -> String {
    format!("the store failed: {error}")
}
