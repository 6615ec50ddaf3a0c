//! The transactional run: what its answer means for its writes, and what came of the commit.
//!
//! ```text
//! Settling::opened(opened)       → Settling        Commit of nothing is Complete; a Tx still lent is never committed
//! Settling::undoes()             → roll back first; Settling::undone(rolled back) → Persisted
//! Step::Commit                   → Settling::committed(committed) → Persisted
//! Persisted::Look                → Looking::found(record) → Found: run again, or release
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::asker::{Asker, Rejection};
use super::run::Running;
use super::settle::{Kind, Persisted, Reply, Settling, Step, Then};
use crate::key::Key;
use crate::problem::{Code, Problem, Retry};
use crate::record::{Completion, RecordId, RecordView, Recovery, Retention, State};
use crate::store::{Committed, Ending, LeaseRef, Opened, ReleaseAs, RolledBack, Writes};

/// Why the client of a rolled back run is told so.
const LENT: &str = "The handler returned while its transaction was still in use, by a task of its own or by the body of \
                    its answer. Everything it wrote was rolled back. The service is at fault, not the request.";
const UNBOUNDED: &str = "This operation has to answer with a body that is short and has an end, since its answer is \
                         recorded in the transaction of its work. It did not, and everything it wrote was rolled back. \
                         The service is at fault, not the request.";
const CUT: &str =
    "The answer broke off before it was complete. Everything the operation wrote was rolled back.";
const REJECTED: &str = "The database refused the commit. Everything the operation wrote was rolled back.";
const CONFLICT: &str = "Other transactions were in the way, and everything the operation wrote was rolled back. The \
                        same request may succeed now.";
const NEVER: &str =
    "The connection to the database failed, and everything the operation wrote was rolled back.";
const NOT_COMMITTED: &str = "The database's answer to the commit was lost. It is certain by now that nothing was \
                             committed.";

/// What a run in a transaction is, beside a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transacting {
    /// How often it may still be run again in place.
    pub(super) reruns: u32,
}

/// What a settling run needs to run again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) key: Key,
    pub(super) attempt: u32,
    pub(super) progress: Option<Bytes>,
    pub(super) transacting: Transacting,
    /// The transaction is open, and its writes are to be undone before the record is settled.
    open: bool,
    /// The handler says that it met others.
    pub(super) conflict: bool,
}

impl Again {
    pub(super) fn new(key: Key, attempt: u32, progress: Option<Bytes>, transacting: Transacting) -> Self {
        Self { key, attempt, progress, transacting, open: false, conflict: false }
    }
}

impl Running {
    /// It runs in a transaction, which its handler can take. `again`: whoever runs it can call the handler a second
    /// time.
    pub fn transact(&mut self, again: bool) {
        let reruns = if again { self.policy().reruns } else { 0 };
        self.transacting = Some(Transacting { reruns });
    }

    /// Whether the handler may have to be called a second time.
    pub fn may_rerun(&self) -> bool {
        self.transacting.is_some_and(|transacting| transacting.reruns > 0)
    }
}

impl Asker {
    fn rolled_back(&self, detail: &'static str) -> Rejection {
        self.reject(Problem::new(Code::RolledBack).with_detail(detail))
    }

    /// The same request would fail the same way.
    fn faulty(&self, detail: &'static str) -> Rejection {
        self.reject(Problem::new(Code::RolledBack).with_detail(detail).with_retry(Retry::Stop))
    }

    fn busy(&self, detail: &'static str) -> Rejection {
        let problem = Problem::new(Code::RolledBack).with_detail(detail);
        self.reject(problem.with_status(StatusCode::SERVICE_UNAVAILABLE)).retry_after(Duration::from_secs(1))
    }
}

impl Settling {
    /// A run that ended without an answer, or with half of one: rolled back, it did nothing.
    pub(super) fn broken(running: Running, status: StatusCode) -> Self {
        let problem = Problem::new(Code::RolledBack).with_status(status);
        let rejection = running.asker.reject(problem);
        Self::release(running, Then::Reject(rejection))
    }

    /// The handler says that its transaction met others. If it may not run again after all, its own answer goes out.
    pub(super) fn conflict(running: Running, then: Then) -> Self {
        let mut settling = Self::release(running, then);
        if let Some(again) = &mut settling.again {
            again.conflict = true;
        }
        settling
    }

    /// Its answer broke off.
    pub(super) fn cut(running: Running) -> Self {
        let rejection = running.asker.rolled_back(CUT);
        Self::release(running, Then::Reject(rejection))
    }

    /// Its answer cannot be recorded in a transaction.
    pub(super) fn unbounded(running: Running) -> Self {
        let rejection = running.asker.faulty(UNBOUNDED);
        Self::release(running, Then::Reject(rejection))
    }

    /// What the handler did with its transaction. Asked once, before anything else.
    pub fn opened(mut self, opened: Opened) -> Self {
        match opened {
            Opened::Never => {
                if let Kind::Commit(completion, retention, _) = self.step {
                    self.step = Kind::Complete(completion, retention);
                }
                self
            }
            Opened::Back => {
                let open = !matches!(self.step, Kind::Commit(..));
                if let Some(again) = &mut self.again {
                    again.open = open;
                }
                self
            }
            // It cannot be rolled back from here, nor committed from there. What its holder ends by itself is not seen.
            Opened::Lent => {
                let rejection = self.asker.faulty(LENT);
                self.released(Then::Reject(rejection))
            }
        }
    }

    /// Whether the transaction has to be rolled back before the next step.
    pub fn undoes(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.open)
    }

    /// The transaction was rolled back.
    pub fn undone(mut self, rolled_back: RolledBack) -> Persisted {
        let met_others = self.again.as_mut().is_some_and(|again| {
            again.open = false;
            again.conflict && again.transacting.reruns > 0
        });
        match rolled_back {
            RolledBack::Torn => Persisted::Instead(Box::new(self.torn())),
            RolledBack::Undone if met_others => Persisted::Look(Box::new(Looking(self))),
            RolledBack::Undone => Persisted::Instead(Box::new(self)),
        }
    }

    /// The transaction was asked to commit.
    pub fn committed(self, committed: Committed) -> Persisted {
        let asker = self.asker.clone();
        let less = match committed {
            Committed::Applied => return self.reply(),
            Committed::Conflict => {
                let rejection = asker.busy(CONFLICT);
                let reruns = self.again.as_ref().is_some_and(|again| again.transacting.reruns > 0);
                let released = self.released(Then::Reject(rejection));
                if reruns {
                    return Persisted::Look(Box::new(Looking(released)));
                }
                released
            }
            // The release says by whom it was overtaken, and finds it free if it was not.
            Committed::Lost => self.released(Then::Reject(asker.busy(CONFLICT))),
            Committed::Rejected => self.released(Then::Reject(asker.rolled_back(REJECTED))),
            Committed::Never => self.released(Then::Reject(asker.busy(NEVER))),
            Committed::Unheard => self.released(Then::InDoubt),
            Committed::Torn => self.torn(),
        };
        Persisted::Instead(Box::new(less))
    }

    /// The answer once the release has settled a commit that nobody had heard of: it took effect, so the commit never
    /// will.
    pub(super) fn not_committed(self) -> Persisted {
        let problem = Problem::new(Code::StoreUnavailable).with_detail(NOT_COMMITTED);
        let rejection = self.asker.reject(problem).retry_after(Duration::from_secs(1));
        Persisted::Reply(Box::new(Reply::Reject(rejection)))
    }

    /// Whether the release found the run's own commit in its way.
    pub(super) fn is_own_commit(&self, view: &RecordView) -> bool {
        matches!(self.then, Then::InDoubt)
            && view.state == State::Completed
            && view.fence == self.lease.fence()
            && view.claim == self.lease.claim()
    }

    /// What becomes of the record where the store claims, runs and settles in one transaction of its own.
    pub fn ending(&self) -> Ending {
        match &self.step {
            Kind::Commit(completion, keep, writes) => {
                Ending::Complete(Arc::clone(completion), *keep, *writes)
            }
            // Nothing of it is committed.
            Kind::Complete(completion, keep) => {
                Ending::Complete(Arc::clone(completion), *keep, Writes::RollBack)
            }
            Kind::Release(how) => Ending::Release(*how, self.asker.policy.retention),
            Kind::Abandon => Ending::Abandon,
        }
    }

    /// The store committed what [`ending`](Self::ending) says.
    pub fn ended(self) -> Reply {
        self.into_reply()
    }

    fn released(mut self, then: Then) -> Self {
        self.step = Kind::Release(ReleaseAs::Retry);
        self.then = then;
        self
    }

    /// What was committed by the handler itself stays, so nothing may run again, and nobody knows how much it was: done,
    /// without an answer to show.
    fn torn(mut self) -> Self {
        let rejection = self.asker.outcome_unknown(self.asker.policy.broken_status, Recovery::Hold);
        let completion = Completion { response: None, reference: None };
        self.step = Kind::Complete(Arc::new(completion), self.asker.policy.retention);
        self.then = Then::Reject(rejection);
        self
    }
}

impl Step {
    /// The step for a run whose answer was lost while it was being read, after its transaction was rolled back.
    pub fn left(lease: LeaseRef, rolled_back: RolledBack, keep: Retention) -> Self {
        match rolled_back {
            RolledBack::Undone => Self::Release(lease, ReleaseAs::Retry, keep),
            RolledBack::Torn => {
                Self::Complete(lease, Arc::new(Completion { response: None, reference: None }), keep)
            }
        }
    }
}

/// A run that met others, to be run again if its claim still holds: at REPEATABLE READ and above a lost claim looks
/// like a conflict.
#[derive(Debug)]
#[must_use]
pub struct Looking(Settling);

impl Looking {
    /// The record to inspect.
    pub fn wants(&self) -> &RecordId {
        self.0.lease.id()
    }

    /// What it is now; `None` if there is none, or the store could not be asked.
    pub fn found(self, view: Option<&RecordView>) -> Found {
        let Self(mut settling) = self;
        let ours = view.is_some_and(|view| {
            view.state == State::InFlight
                && view.fence == settling.lease.fence()
                && view.claim == settling.lease.claim()
        });
        match settling.again.take() {
            Some(again) if ours => Found::Again(Box::new(Running::again(settling, *again))),
            // The release finds out what else it is.
            _ => Found::Instead(Box::new(settling)),
        }
    }
}

/// What becomes of a run that met others.
#[derive(Debug)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a driver has to do each of them")]
pub enum Found {
    /// Run the handler again, in a new transaction, under the same claim.
    Again(Box<Running>),
    /// Settle it so.
    Instead(Box<Settling>),
}

/// What a kept answer means for the writes of its run.
pub(super) const fn writes(failed: bool, says_applied: bool) -> Writes {
    if failed && !says_applied { Writes::RollBack } else { Writes::Commit }
}
