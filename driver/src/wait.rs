//! Waiting for an original to end: woken by a hint, looking again by itself, holding nothing of the store.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use semel_core::engine::{Claiming, Rejection, Waiting};
use semel_core::observe::Event;
use semel_core::record::RecordId;
use semel_core::store::Watch;

use crate::idempotency::Idempotency;
use crate::runtime::{BoxFuture, within};

/// The longest a waiter trusts wake-ups before it looks again by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The shortest, right after it began to wait.
const LOOK_FIRST: Duration = Duration::from_millis(25);
/// So many wake-ups are followed at once.
const TRUSTED: u32 = 8;

/// Who waits, per record and in all.
#[derive(Debug)]
pub(crate) struct Waiters {
    // Bounded by `total`.
    by_record: Mutex<(usize, HashMap<RecordId, usize>)>,
    total: usize,
}

impl Waiters {
    pub(crate) fn new(total: usize) -> Self {
        Self { by_record: Mutex::default(), total }
    }

    fn enter(&self, id: RecordId, per_key: usize) -> Option<usize> {
        let mut waiters = self.by_record.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_record) = &mut *waiters;
        if *total >= self.total {
            return None;
        }
        // Looked up before it is entered: a refusal leaves no entry behind.
        let here = by_record.get(&id).copied().unwrap_or(0);
        if here >= per_key {
            return None;
        }
        by_record.insert(id, here + 1);
        *total += 1;
        Some(here + 1)
    }

    fn leave(&self, id: &RecordId) {
        let mut waiters = self.by_record.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_record) = &mut *waiters;
        *total = total.saturating_sub(1);
        if let Some(here) = by_record.get_mut(id) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                by_record.remove(id);
            }
        }
    }
}

/// One who waits, counted from the first wait to the last answer.
struct Seat {
    idempotency: Idempotency,
    id: RecordId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.idempotency.waiters().leave(&self.id);
    }
}

/// How long one duplicate has waited, and the wake-up it subscribed to.
#[derive(Default)]
pub(crate) struct Waited {
    seat: Option<(Seat, Duration)>,
    watch: Option<Watch>,
    pause: Option<Duration>,
    woken: u32,
}

impl Waited {
    /// Waits for a change. The first call only subscribes: what happened between the claim's answer and the
    /// subscription is found by asking again at once.
    pub(crate) async fn wait(
        &mut self,
        idempotency: &Idempotency,
        waiting: Waiting,
    ) -> Result<Claiming, Rejection> {
        let id = waiting.ask().id;
        let runtime = idempotency.runtime();
        let now = runtime.now();
        let since = if let Some((_, since)) = &self.seat {
            *since
        } else {
            let Some(waiters) = idempotency.waiters().enter(id, waiting.per_key()) else {
                return Err(waiting.give_up());
            };
            self.seat = Some((Seat { idempotency: idempotency.clone(), id }, now));
            idempotency.observe(&Event::Waiting { id: &id, waiting: waiters });
            now
        };
        let left = waiting.budget().saturating_sub(now.saturating_sub(since));
        if left.is_zero() {
            return Err(waiting.give_up());
        }
        match self.watch.take() {
            None => {
                if self.woken > TRUSTED {
                    // Woken again and again for nothing: a store that cries wolf is not asked in a tight loop.
                    runtime.sleep(LOOK_FIRST.min(left)).await;
                }
                let limit = idempotency.call_within().min(left);
                let watch = within(runtime, limit, idempotency.store().watch(&id)).await;
                // Without a subscription it still looks again by itself.
                self.watch = Some(watch.ok().and_then(Result::ok).unwrap_or_else(Watch::never));
            }
            Some(watch) => {
                let pause = self.pause.map_or(LOOK_FIRST, |pause| (pause * 2).min(LOOK_AGAIN));
                self.pause = Some(pause);
                let pause = idempotency.jitter(pause).min(left);
                // The lease may end without anybody saying so.
                let pause = pause.min(waiting.lease_remaining().max(LOOK_FIRST));
                self.watch = woken_or_slept(watch, runtime.sleep(pause)).await;
                self.woken += u32::from(self.watch.is_none());
            }
        }
        Ok(waiting.again())
    }
}

/// Waits for either. A wake-up that has not come yet is given back, for the next time.
async fn woken_or_slept(mut watch: Watch, mut sleep: BoxFuture<'static, ()>) -> Option<Watch> {
    let woken = std::future::poll_fn(|cx| {
        if Pin::new(&mut watch).poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        sleep.as_mut().poll(cx).map(|()| false)
    })
    .await;
    (!woken).then_some(watch)
}
