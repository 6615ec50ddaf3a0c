//! For users' own tests: a memory store and a clock that is moved by hand.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use semel_core::record::Timestamp;
use semel_core::store::AnyStore;
use semel_store_memory::{ManualClock, MemoryStore};
use tokio::sync::oneshot;

use crate::idempotency::{Builder, Idempotency};
use crate::runtime::{BoxFuture, Runtime};

/// What [`Idempotency::test`] gives.
#[derive(Debug)]
#[non_exhaustive]
pub struct Tested {
    /// To set the rules with, and to build.
    pub builder: Builder,
    /// Moves the store's clock and every timer.
    pub clock: TestClock,
}

impl Idempotency {
    /// A memory store, and a clock that is moved by hand: for tests of what happens when a lease is over or a record
    /// has expired. Call it inside a Tokio runtime; a current-thread one (`#[tokio::test]`) makes it deterministic.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use semel_driver::Idempotency;
    ///
    /// let tested = Idempotency::test();
    /// let idempotency = tested.builder.require_key().build()?;
    /// tested.clock.advance(Duration::from_secs(31)).await;
    /// # Ok(()) }
    /// ```
    pub fn test() -> Tested {
        Self::test_with(AnyStore::new)
    }

    /// As [`test`](Self::test), with something around the store: one that fails, or counts.
    pub fn test_with(wrap: impl FnOnce(MemoryStore) -> AnyStore) -> Tested {
        let store_clock = ManualClock::new();
        let store = MemoryStore::builder().clock(store_clock.clone()).build();
        let clock = TestClock(Arc::new(Timers {
            store_clock,
            tasks: tokio::runtime::Handle::current(),
            state: Mutex::default(),
        }));
        let builder = Self::builder_any(wrap(store)).runtime(Arc::new(clock.clone()));
        Tested { builder, clock }
    }
}

/// A clock that is moved by hand. All its clones are the same clock.
#[derive(Clone)]
pub struct TestClock(Arc<Timers>);

struct Timers {
    store_clock: ManualClock,
    tasks: tokio::runtime::Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now: Duration,
    // Ordered by when they are due; the second number keeps timers of one instant apart.
    due: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    made: u64,
}

impl TestClock {
    /// Moves time on, timer by timer: whatever is due on the way happens at its time and in its order.
    pub async fn advance(&self, by: Duration) {
        settle().await;
        let target = self.locked().now + by;
        loop {
            let fired = {
                let mut state = self.locked();
                match state.due.first_key_value().map(|(key, _)| *key) {
                    Some(key) if key.0 <= target => {
                        self.move_to(&mut state, key.0);
                        state.due.remove(&key)
                    }
                    _ => {
                        self.move_to(&mut state, target);
                        None
                    }
                }
            };
            let Some(timer) = fired else { break };
            // Nobody waits for a timer that was dropped.
            let _gone = timer.send(());
            settle().await;
        }
        settle().await;
    }

    fn move_to(&self, state: &mut State, instant: Duration) {
        self.0.store_clock.advance(instant.saturating_sub(state.now));
        state.now = state.now.max(instant);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the tasks that were woken run until they wait again.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

impl Runtime for TestClock {
    fn now(&self) -> Duration {
        self.locked().now
    }

    fn wall(&self) -> Timestamp {
        self.0.store_clock.now()
    }

    fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.locked();
        state.due.retain(|_, timer| !timer.is_closed());
        state.made += 1;
        let key = (state.now + length, state.made);
        state.due.insert(key, sender);
        Box::pin(async move {
            // A clock that is gone moves no more: wait for ever, as on a clock nobody moves.
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.tasks.spawn(task);
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClock").field("now", &self.locked().now).finish_non_exhaustive()
    }
}
