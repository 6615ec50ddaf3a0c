//! Persists what a run came to, and only then lets its answer go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use semel_core::engine::{Found, Persisted, Reply, Running, Settling, Step};
use semel_core::observe::Event;
use semel_core::record::{Completion, Retention, State, StoredBody};
use semel_core::store::{
    Committed, LeaseRef, Opened, ReleaseBy, RolledBack, Settled, StoreError, Undertaking, Writes,
};

use crate::idempotency::Idempotency;
use crate::runtime::within;
use crate::trace::Trace;

/// How long a completion that the store would not take is offered again after its client was told that the
/// outcome is unknown.
const OFFER_FOR: Duration = Duration::from_mins(10);

impl Idempotency {
    /// Ends the run's transaction and asks the store until it has taken the step, or a lesser one; then says what the
    /// client gets, or that the handler is to run again.
    pub(crate) async fn persist(
        &self,
        trace: &Trace,
        settling: Settling,
        undertaking: Option<Box<dyn Undertaking>>,
        attempt: u32,
        late: bool,
    ) -> Came {
        let mut refused: Option<Step> = None;
        let mut ending = Ending { idempotency: self, undertaking };
        let mut settling = ending.begin(settling);
        loop {
            let step = settling.step();
            let persisted = if settling.undoes() {
                settling.undone(ending.roll_back(step.lease()).await)
            } else if let Step::Commit(lease, completion, keep, writes) = &step {
                let committed = ending.commit(*lease, completion, keep, *writes).await;
                if committed == Committed::Applied {
                    self.tell(trace, &step, &Settled::Applied, attempt, late);
                }
                settling.committed(committed)
            } else {
                match self.send(&step).await {
                    Ok(settled) => {
                        self.tell(trace, &step, &settled, attempt, late);
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
                }
            };
            match persisted {
                Persisted::Look(looking) => {
                    let view = self
                        .asking("inspect", self.claim_tries(), || self.store().inspect(looking.wants()))
                        .await;
                    match looking.found(view.ok().flatten().as_ref()) {
                        Found::Instead(less) => settling = *less,
                        Found::Again(running) => {
                            let lease = running.lease();
                            tracing::debug!(record = %lease.id, fence = %lease.fence, "running again after a conflict");
                            self.observe(&Event::Rerun { id: &lease.id, fence: lease.fence });
                            return Came::Again(*running);
                        }
                    }
                }
                Persisted::Reply(reply) => {
                    if let Some(step) = refused {
                        self.offer_again(step, attempt);
                    }
                    return Came::To(*reply);
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
                    return Came::To(overtaken.answer(record.as_ref()));
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
            // A transaction commits itself, and nothing of it is sent twice.
            Step::Commit(..) => Err(self.not_a_step()),
        }
    }

    /// Settles what became of a run whose answer was lost while it was being read.
    pub(crate) async fn leave(
        &self,
        lease: LeaseRef,
        undertaking: Option<Box<dyn Undertaking>>,
        keep: Retention,
    ) {
        let step = match undertaking {
            Some(mut undertaking) => {
                let opened = undertaking.opened();
                let mut ending = Ending { idempotency: self, undertaking: Some(undertaking) };
                let rolled_back = match opened {
                    Opened::Back => ending.roll_back(lease).await,
                    Opened::Never | Opened::Lent => RolledBack::Undone,
                };
                Step::left(lease, rolled_back, keep)
            }
            None => Step::Abandon(lease),
        };
        // If this fails, its lease runs out.
        drop(self.send(&step).await);
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
                    this.tell(&Trace::none(), &step, &settled, attempt, true);
                    return;
                }
            }
        };
        self.runtime().spawn(Box::pin(task));
    }

    pub(crate) fn tell(&self, trace: &Trace, step: &Step, settled: &Settled, attempt: u32, late: bool) {
        let LeaseRef { id, fence, .. } = step.lease();
        let event = match (settled, step) {
            (Settled::Superseded(view), Step::Release(..))
                if view.fence == fence && view.state == State::Completed =>
            {
                tracing::info!(record = %id, %fence, "the commit whose acknowledgement was lost had taken effect");
                return;
            }
            (Settled::Superseded(view), _) => {
                tracing::warn!(record = %id, %fence, by = %view.fence, "superseded: the answer of this run is dropped");
                Event::Superseded { id: &id, fence, by: view.fence, state: view.state }
            }
            (Settled::Absent, _) => return,
            (Settled::Applied, Step::Complete(_, completion, _) | Step::Commit(_, completion, ..)) => {
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
        self.observe_in(trace, &event);
    }
}

/// What settling a run came to.
#[derive(Debug)]
pub(crate) enum Came {
    /// The answer for its client.
    To(Reply),
    /// It runs again, under the same claim.
    Again(Running),
}

/// The end of a run's transaction. It is ended once; where no answer comes in time it is dropped, which closes its
/// connection.
struct Ending<'a> {
    idempotency: &'a Idempotency,
    undertaking: Option<Box<dyn Undertaking>>,
}

impl Ending<'_> {
    fn begin(&mut self, settling: Settling) -> Settling {
        match &mut self.undertaking {
            Some(undertaking) => {
                let opened = undertaking.opened();
                if opened == Opened::Lent {
                    let LeaseRef { id, fence, .. } = settling.step().lease();
                    tracing::error!(
                        record = %id, %fence,
                        "a handler returned while its transaction was in use, by a task of its own or by the body of its \
                         answer: nothing is committed. Finish with the transaction before the handler returns"
                    );
                }
                settling.opened(opened)
            }
            None => settling.opened(Opened::Never),
        }
    }

    async fn commit(
        &mut self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
        writes: Writes,
    ) -> Committed {
        let LeaseRef { id, fence, .. } = lease;
        let Some(mut undertaking) = self.undertaking.take() else { return Committed::Never };
        let commit = undertaking.commit(completion, keep, writes);
        let limit = self.idempotency.settle_within();
        let committed = within(self.idempotency.runtime(), limit, commit).await.unwrap_or(Committed::Unheard);
        match committed {
            Committed::Applied => {}
            Committed::Torn => torn(lease),
            other => {
                tracing::warn!(record = %id, %fence, outcome = ?other, "a run's transaction was not committed");
            }
        }
        committed
    }

    async fn roll_back(&mut self, lease: LeaseRef) -> RolledBack {
        let Some(mut undertaking) = self.undertaking.take() else { return RolledBack::Undone };
        let limit = self.idempotency.call_within();
        // Without an answer its connection is closed: what was not committed never will be.
        let rolled_back = within(self.idempotency.runtime(), limit, undertaking.roll_back())
            .await
            .unwrap_or(RolledBack::Undone);
        if rolled_back == RolledBack::Torn {
            torn(lease);
        }
        rolled_back
    }
}

fn torn(lease: LeaseRef) {
    tracing::error!(
        record = %lease.id, fence = %lease.fence,
        "a handler ended its transaction itself (COMMIT or ROLLBACK as text): what it committed stays, its answer is \
         recorded nowhere, and the request is not run again. Look at what it wrote, and leave the end to Semel"
    );
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
