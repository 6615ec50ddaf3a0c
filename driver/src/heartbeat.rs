//! Keeps the leases of running requests alive: one task a process, batched, away from the handlers' threads.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use semel_core::observe::Event;
use semel_core::store::{LeaseRef, Settled};
use slab::Slab;
use tokio::sync::Notify;

use crate::idempotency::{Idempotency, Shared};
use crate::runtime::within;

/// How many leases one renewal carries.
const BATCH: usize = 256;
const LONGEST_TICK: Duration = Duration::from_secs(1);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Heart {
    // Bounded by the budget's runs: an entry lives as long as its run.
    runs: Mutex<Slab<Beat>>,
    tick_millis: AtomicU64,
    /// Wakes the task from a tick that is too long for a lease that has come since.
    faster: Notify,
}

#[derive(Debug)]
struct Beat {
    lease: LeaseRef,
    lease_for: Duration,
    every: Duration,
    renew_at: Duration,
    ends_at: Duration,
    state: Life,
    run: Option<Waker>,
}

/// Leases of one length, each with its entry.
type Batch = (Duration, Vec<(usize, LeaseRef)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Renewed,
    /// Unknown by now, or somebody else's: nothing more to renew, but its client still waits.
    Lost,
    /// Past `max_run`.
    Over,
}

impl Heart {
    pub(crate) fn new() -> Self {
        let longest = u64::try_from(LONGEST_TICK.as_millis()).unwrap_or(u64::MAX);
        Self { runs: Mutex::default(), tick_millis: AtomicU64::new(longest), faster: Notify::new() }
    }

    /// A route with a short lease makes the heart beat faster.
    pub(crate) fn expect(&self, renew_every: Duration) {
        let tick = (renew_every / 4).clamp(SHORTEST_TICK, LONGEST_TICK);
        let tick = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX);
        if self.tick_millis.fetch_min(tick, Ordering::Relaxed) > tick {
            self.faster.notify_one();
        }
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_millis.load(Ordering::Relaxed))
    }

    /// `asked_at` is when the claim was sent: its lease began no earlier. `renewed`: false where a renewal would keep the
    /// run's own transaction from completing the record.
    pub(crate) fn enter(
        &self,
        lease: LeaseRef,
        lease_for: Duration,
        max_run: Duration,
        asked_at: Duration,
        renewed: bool,
    ) -> usize {
        let every = lease_for / 3;
        // The request may bring rules of its own.
        self.expect(every);
        self.locked().insert(Beat {
            lease,
            lease_for,
            every,
            renew_at: if renewed { asked_at.saturating_add(every) } else { Duration::MAX },
            ends_at: asked_at.saturating_add(max_run),
            state: Life::Renewed,
            run: None,
        })
    }

    pub(crate) fn leave(&self, entry: usize) {
        self.locked().try_remove(entry);
    }

    /// Ready when the run is past `max_run`.
    pub(crate) fn poll_over(&self, entry: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut runs = self.locked();
        match runs.get_mut(entry) {
            Some(beat) if beat.state == Life::Over => Poll::Ready(()),
            Some(beat) => {
                match &mut beat.run {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Slab<Beat>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is due now: leases to renew, in batches of one length, and runs that are over.
    fn due(&self, now: Duration) -> (Vec<Batch>, Vec<LeaseRef>) {
        let mut renew: Vec<Batch> = Vec::new();
        let mut over = Vec::new();
        let mut woken = Vec::new();
        for (entry, beat) in &mut *self.locked() {
            if beat.state == Life::Over {
                continue;
            }
            if beat.ends_at <= now {
                if beat.state == Life::Renewed {
                    over.push(beat.lease);
                }
                beat.state = Life::Over;
                woken.extend(beat.run.take());
            } else if beat.state == Life::Renewed && beat.renew_at <= now {
                let due = (entry, beat.lease);
                match renew
                    .iter_mut()
                    .find(|(length, batch)| *length == beat.lease_for && batch.len() < BATCH)
                {
                    Some((_, batch)) => batch.push(due),
                    None => renew.push((beat.lease_for, vec![due])),
                }
            }
        }
        // With nothing locked: a waker may run its task at once.
        woken.into_iter().for_each(Waker::wake);
        for (_, batch) in &mut renew {
            // Two processes that renew in different orders deadlock each other in some databases.
            batch.sort_unstable_by_key(|(_, lease)| lease.id);
        }
        (renew, over)
    }

    fn renewed(&self, batch: &[(usize, LeaseRef)], answers: &[Settled], asked_at: Duration) {
        let mut runs = self.locked();
        for ((entry, lease), answer) in batch.iter().zip(answers) {
            // The entry may belong to another run by now.
            let Some(beat) = runs.get_mut(*entry).filter(|beat| beat.lease == *lease) else { continue };
            match answer {
                Settled::Applied => beat.renew_at = asked_at.saturating_add(beat.every),
                Settled::Superseded(_) | Settled::Absent => {
                    tracing::warn!(record = %lease.id, fence = %lease.fence, "the lease of a running request is lost");
                    beat.state = Life::Lost;
                }
            }
        }
    }
}

/// Beats until the last handle is gone.
pub(crate) async fn run(shared: Weak<Shared>) {
    loop {
        let Some(alive) = shared.upgrade() else { return };
        let heart = Arc::clone(&alive.heart);
        let mut tick = alive.runtime.sleep(heart.tick());
        drop(alive);
        let mut faster = pin!(heart.faster.notified());
        poll_fn(
            |cx| if faster.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { tick.as_mut().poll(cx) },
        )
        .await;
        let Some(alive) = shared.upgrade() else { return };
        beat(&Idempotency::of(alive)).await;
    }
}

async fn beat(idempotency: &Idempotency) {
    let now = idempotency.runtime().now();
    let heart = idempotency.heart();
    let (renew, over) = heart.due(now);
    for (lease_for, batch) in renew {
        let leases: Vec<LeaseRef> = batch.iter().map(|(_, lease)| *lease).collect();
        let asked = within(
            idempotency.runtime(),
            idempotency.call_within(),
            idempotency.store().renew(&leases, lease_for),
        )
        .await;
        match asked {
            Ok(Ok(answers)) => heart.renewed(&batch, &answers, now),
            // What was not renewed is still due at the next tick.
            Ok(Err(error)) => {
                tracing::warn!(error = %error, leases = leases.len(), "leases could not be renewed, trying again");
                let kind = error.kind();
                idempotency.observe(&Event::StoreFailed { step: "renew", kind, will_retry: true });
            }
            Err(_) => {
                tracing::warn!(leases = leases.len(), "the store did not renew leases in time, trying again");
            }
        }
    }
    if !over.is_empty() {
        // Apart: one record that the store cannot get at must not cost the others their leases.
        idempotency.runtime().spawn(Box::pin(give_up(idempotency.clone(), over)));
    }
}

async fn give_up(idempotency: Idempotency, over: Vec<LeaseRef>) {
    for lease in over {
        tracing::warn!(record = %lease.id, fence = %lease.fence, "a run is past max_run: it is no longer renewed");
        idempotency.observe(&Event::RunTooLong { id: &lease.id, fence: lease.fence });
        let tries = idempotency.claim_tries();
        // If this fails the lease runs out by itself, with the same result.
        let _abandoned = idempotency.asking("abandon", tries, || idempotency.store().abandon(lease)).await;
    }
}
