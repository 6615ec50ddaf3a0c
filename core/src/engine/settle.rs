//! Settling: what to ask the store, and what the client is told once the store has answered.
//!
//! The bytes of a kept answer leave only by [`Reply::Live`], which only an applied completion gives.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::asker::{Asker, Rejection, Replay};
use super::rederive::{Rederiving, Shown};
use super::run::Running;
use super::transact::{Again, Looking};
use crate::policy::headers::IDEMPOTENCY_OUTCOME;
use crate::problem::{Code, Problem};
use crate::record::{
    Completion, Fingerprint, NotKept, PrincipalTag, Record, RecordId, RecordView, Recovery, Retention, State,
    StoredBody,
};
use crate::store::{Committed, Lease, LeaseRef, ReleaseAs, Settled, Writes};

/// A run that has ended, and what its record is to become.
#[derive(Debug)]
#[must_use = "the record is settled, and its client answered, only by going on"]
pub struct Settling {
    pub(super) asker: Asker,
    pub(super) lease: Lease,
    pub(super) fingerprint: Fingerprint,
    pub(super) principal: Option<PrincipalTag>,
    pub(super) recovery: Recovery,
    pub(super) step: Kind,
    pub(super) then: Then,
    /// Of a run in a transaction.
    pub(super) again: Option<Box<Again>>,
    /// What they did must not be forgotten before a retry can go on from it.
    pub(super) has_steps: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Complete(Arc<Completion>, Retention),
    Commit(Arc<Completion>, Retention, Writes),
    Release(ReleaseAs),
    Abandon,
}

/// What the client gets if the store takes the step.
#[derive(Debug)]
pub(super) enum Then {
    Live {
        unknown: bool,
    },
    Reject(Rejection),
    /// A commit that nobody heard of is settled by the release: if that takes effect, it was not committed.
    InDoubt,
}

/// One step to ask of the store. Sending it again is safe.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to send each of them")]
pub enum Step {
    /// [`Store::complete`](crate::store::Store::complete).
    Complete(LeaseRef, Arc<Completion>, Retention),
    /// [`Undertaking::commit`](crate::store::Undertaking::commit): not a step of the store, and not safe to repeat.
    Commit(LeaseRef, Arc<Completion>, Retention, Writes),
    /// [`Store::release`](crate::store::Store::release), by this lease.
    Release(LeaseRef, ReleaseAs, Retention),
    /// [`Store::abandon`](crate::store::Store::abandon).
    Abandon(LeaseRef),
}

impl Step {
    /// The lease it settles.
    pub const fn lease(&self) -> LeaseRef {
        match self {
            Self::Complete(lease, ..)
            | Self::Commit(lease, ..)
            | Self::Release(lease, ..)
            | Self::Abandon(lease) => *lease,
        }
    }
}

/// What came of asking the store.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Persisted {
    /// The client's answer.
    Reply(Box<Reply>),
    /// Somebody else settled the record: read it, to answer from it.
    Overtaken(Box<Overtaken>),
    /// Try this lesser step instead.
    Instead(Box<Settling>),
    /// The transaction met others: inspect the record, to see whether the run may run again.
    Look(Box<Looking>),
}

/// What the run's own client gets.
#[derive(Debug)]
#[must_use = "the client has to be told"]
#[expect(clippy::large_enum_variant, reason = "it is sent boxed, and lives for one match")]
#[expect(clippy::exhaustive_enums, reason = "a host has to send each of them")]
pub enum Reply {
    /// The handler's own answer. [`Live::mark`] its fields first.
    Live(Live),
    /// The answer of whoever settled the record.
    Replay(Replay),
    /// The application makes that answer again.
    Rederive(Box<Rederiving>),
    /// A refusal.
    Reject(Rejection),
}

/// The handler's own answer may go out.
#[derive(Debug)]
pub struct Live {
    asker: Asker,
    unknown: bool,
}

impl Live {
    /// Marks the answer's fields: an outcome that nobody knows is passed on with `Idempotency-Outcome: unknown`.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if self.unknown {
            headers.insert(IDEMPOTENCY_OUTCOME, HeaderValue::from_static("unknown"));
        }
        self.asker.decorate(headers);
    }
}

impl Settling {
    pub(super) fn complete(running: Running, completion: Arc<Completion>, retention: Retention) -> Self {
        Self::new(running, Kind::Complete(completion, retention), Then::Live { unknown: false })
    }

    pub(super) fn commit(
        running: Running,
        completion: Arc<Completion>,
        retention: Retention,
        writes: Writes,
    ) -> Self {
        Self::new(running, Kind::Commit(completion, retention, writes), Then::Live { unknown: false })
    }

    pub(super) fn release(running: Running, then: Then) -> Self {
        Self::new(running, Kind::Release(ReleaseAs::Retry), then)
    }

    pub(super) fn forget(running: Running) -> Self {
        // "Nothing ran here" is not true of a run whose steps did.
        let how = if running.has_steps() { ReleaseAs::Retry } else { ReleaseAs::Forgotten };
        Self::new(running, Kind::Release(how), Then::Live { unknown: false })
    }

    pub(super) fn abandon(running: Running, then: Then) -> Self {
        Self::new(running, Kind::Abandon, then)
    }

    fn new(running: Running, step: Kind, then: Then) -> Self {
        let has_steps = running.has_steps();
        let (Running { asker, lease, fingerprint, principal, recovery, .. }, again) = running.split();
        Self { asker, lease, fingerprint, principal, recovery, step, then, again, has_steps }
    }

    /// What to ask the store.
    pub fn step(&self) -> Step {
        let lease = self.lease.as_ref();
        match &self.step {
            Kind::Complete(completion, retention) => {
                Step::Complete(lease, Arc::clone(completion), *retention)
            }
            Kind::Commit(completion, retention, writes) => {
                Step::Commit(lease, Arc::clone(completion), *retention, *writes)
            }
            Kind::Release(how) => {
                let mut keep = self.asker.policy.retention;
                if self.has_steps {
                    keep.released = keep.released.max(keep.record);
                }
                Step::Release(lease, *how, keep)
            }
            Kind::Abandon => Step::Abandon(lease),
        }
    }

    /// The store answered.
    pub fn answer(self, settled: Settled) -> Persisted {
        match (settled, &self.step) {
            (Settled::Applied, _) if matches!(self.then, Then::InDoubt) => self.not_committed(),
            (Settled::Superseded(view), _) if self.is_own_commit(&view) => {
                Persisted::Reply(Box::new(Reply::Live(Live { asker: self.asker, unknown: false })))
            }
            (Settled::Applied, _) | (Settled::Absent, Kind::Release(_) | Kind::Abandon) => self.reply(),
            // Deleted under the run: the answer is recorded nowhere, so it is no recorded success.
            (Settled::Absent, Kind::Complete(..) | Kind::Commit(..)) => {
                let rejection = self.asker.outcome_unknown(self.asker.policy.broken_status, self.recovery);
                Persisted::Reply(Box::new(Reply::Reject(rejection)))
            }
            (Settled::Superseded(view), _) => Persisted::Overtaken(Box::new(Overtaken {
                asker: self.asker,
                id: *self.lease.id(),
                fingerprint: self.fingerprint,
                principal: self.principal,
                view,
            })),
        }
    }

    /// The store did not take the step, however often it was asked.
    pub fn failed(mut self) -> Persisted {
        match &self.step {
            Kind::Complete(completion, retention) => {
                let without =
                    completion.response.as_ref().is_some_and(|r| matches!(r.body, StoredBody::Kept(_)));
                if without {
                    let less = without_body(completion, NotKept::NoRoom);
                    self.step = Kind::Complete(Arc::new(less), *retention);
                    return Persisted::Instead(Box::new(self));
                }
                let rejection = self.asker.outcome_unknown(self.asker.policy.broken_status, self.recovery);
                Persisted::Reply(Box::new(Reply::Reject(rejection)))
            }
            // Neither answer is a kept one. The record goes by its recovery rule when the lease is over.
            Kind::Release(_) | Kind::Abandon => self.reply(),
            // A transaction says how it failed.
            Kind::Commit(..) => self.committed(Committed::Unheard),
        }
    }

    pub(super) fn reply(self) -> Persisted {
        Persisted::Reply(Box::new(self.into_reply()))
    }

    pub(super) fn into_reply(self) -> Reply {
        match self.then {
            Then::Live { unknown } => Reply::Live(Live { asker: self.asker, unknown }),
            Then::Reject(rejection) => Reply::Reject(rejection),
            // The record is gone, or the store could not be asked.
            Then::InDoubt => {
                let status = self.asker.policy.broken_status;
                Reply::Reject(self.asker.outcome_unknown(status, self.recovery))
            }
        }
    }
}

/// A worker whose record was settled or taken by somebody else. Its own answer is dropped.
#[derive(Debug)]
#[must_use]
pub struct Overtaken {
    asker: Asker,
    id: RecordId,
    fingerprint: Fingerprint,
    principal: Option<PrincipalTag>,
    view: Box<RecordView>,
}

impl Overtaken {
    /// The record to read, if reading it can help; else [`answer`](Self::answer) with `None`.
    pub fn wants(&self) -> Option<&RecordId> {
        (self.view.state == State::Completed).then_some(&self.id)
    }

    /// Answers from the record: a replay if it is completed and ours to see, else 409.
    pub fn answer(self, record: Option<&Record>) -> Reply {
        // A released record binds nobody, so another principal may have claimed it since.
        if let Some(record) = record
            && record.view.fingerprint == Some(self.fingerprint)
            && record.view.principal == self.principal
        {
            return match self.asker.replay(record) {
                Shown::Replay(replay) => Reply::Replay(replay),
                Shown::Rederive(rederiving) => Reply::Rederive(Box::new(rederiving)),
                Shown::Reject(rejection) => Reply::Reject(rejection),
            };
        }
        Reply::Reject(match self.view.state {
            State::Unknown => self.asker.reject(Problem::outcome_unknown(self.view.recovery)),
            State::InFlight | State::Released | State::Completed => {
                let after =
                    self.view.lease_remaining().clamp(Duration::from_secs(1), Duration::from_secs(30));
                self.asker.reject_code(Code::InFlight).retry_after(after)
            }
        })
    }
}

fn without_body(completion: &Completion, why: NotKept) -> Completion {
    let mut less = completion.clone();
    if let Some(response) = &mut less.response {
        response.body = StoredBody::NotKept(why);
        response.trailers = None;
    }
    less
}
