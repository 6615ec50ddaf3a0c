//! Persists what a run came to, and only then lets its answer go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use semel_core::engine::{Persisted, Reply, Settling, Step};
use semel_core::observe::Event;
use semel_core::record::StoredBody;
use semel_core::store::{LeaseRef, ReleaseBy, Settled, StoreError};

use crate::idempotency::Idempotency;
use crate::runtime::within;

/// How long a completion that the store would not take is offered again after its client was told that the
/// outcome is unknown.
const OFFER_FOR: Duration = Duration::from_mins(10);

impl Idempotency {
    /// Asks the store until it has taken the step, or a lesser one; then says what the client gets.
    pub(crate) async fn persist(&self, mut settling: Settling, attempt: u32, late: bool) -> Reply {
        let mut refused: Option<Step> = None;
        loop {
            let step = settling.step();
            let persisted = match self.send(&step).await {
                Ok(settled) => {
                    self.tell(&step, &settled, attempt, late);
                    if settled == Settled::Applied {
                        refused = None;
                    }
                    settling.answer(settled)
                }
                Err(error) => {
                    let lease = step.lease();
                    tracing::error!(record = %lease.id, fence = %lease.fence, error = %error, "a run could not be settled");
                    // The whole answer is the one to offer again, not the lesser one tried after it.
                    refused.get_or_insert(step);
                    settling.failed()
                }
            };
            match persisted {
                Persisted::Reply(reply) => {
                    if let Some(step) = refused {
                        self.offer_again(step, attempt);
                    }
                    return *reply;
                }
                Persisted::Instead(less) => settling = *less,
                Persisted::Overtaken(overtaken) => {
                    let record = match overtaken.wants() {
                        Some(id) => self
                            .asking("read", self.claim_tries(), || self.store().read(id))
                            .await
                            .ok()
                            .flatten(),
                        None => None,
                    };
                    return overtaken.answer(record.as_ref());
                }
            }
        }
    }

    async fn send(&self, step: &Step) -> Result<Settled, StoreError> {
        let tries = self.settle_tries();
        match step {
            Step::Complete(lease, completion, keep) => {
                self.asking("complete", tries, || self.store().complete(*lease, completion, keep)).await
            }
            Step::Release(lease, how, keep) => {
                let by = ReleaseBy::Lease(*lease);
                self.asking("release", tries, || self.store().release(by, *how, keep)).await
            }
            Step::Abandon(lease) => self.asking("abandon", tries, || self.store().abandon(*lease)).await,
        }
    }

    /// The late truth still counts: once the store is back, the step is taken unless somebody else was faster.
    fn offer_again(&self, step: Step, attempt: u32) {
        let Some(place) = self.parked() else {
            return;
        };
        let this = self.clone();
        let task = async move {
            let _place = place;
            let until = this.runtime().now().saturating_add(OFFER_FOR);
            let mut pause = Duration::from_secs(1);
            while this.runtime().now() < until {
                this.runtime().sleep(this.jitter(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(30));
                let sent =
                    within(this.runtime(), this.call_within().saturating_mul(4), this.send(&step)).await;
                if let Ok(Ok(settled)) = sent {
                    this.tell(&step, &settled, attempt, true);
                    return;
                }
            }
        };
        self.runtime().spawn(Box::pin(task));
    }

    fn tell(&self, step: &Step, settled: &Settled, attempt: u32, late: bool) {
        let LeaseRef { id, fence, .. } = step.lease();
        let event = match (settled, step) {
            (Settled::Superseded(view), _) => {
                tracing::warn!(record = %id, %fence, by = %view.fence, "superseded: the answer of this run is dropped");
                Event::Superseded { id: &id, fence, by: view.fence, state: view.state }
            }
            (Settled::Absent, _) => return,
            (Settled::Applied, Step::Complete(_, completion, _)) => {
                if late {
                    self.observe(&Event::LateCompletion { id: &id, fence });
                }
                let Some(response) = &completion.response else { return };
                let (body_bytes, not_kept) = match &response.body {
                    StoredBody::Kept(body) => (body.len() as u64, None),
                    StoredBody::NotKept(why) => (0, Some(*why)),
                };
                Event::Completed { id: &id, attempt, fence, status: response.status, body_bytes, not_kept }
            }
            (Settled::Applied, Step::Release(_, how, _)) => {
                Event::Released { id: &id, fence: Some(fence), how: *how }
            }
            (Settled::Applied, Step::Abandon(_)) => {
                tracing::warn!(record = %id, %fence, "a run ended without an answer: its outcome is unknown");
                Event::Abandoned { id: &id, attempt, fence }
            }
        };
        self.observe(&event);
    }
}

/// A step that waits for the store to come back, counted.
#[derive(Debug)]
pub(crate) struct Parked(Arc<AtomicUsize>);

impl Parked {
    /// `None` if `most` wait already.
    pub(crate) fn enter(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let parked = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(parked)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
