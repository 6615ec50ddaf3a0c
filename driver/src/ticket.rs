//! A claimed request on its way: what a host holds while the handler runs.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Body as HttpBody;
use semel_core::engine::{
    Dispatch, End, Failure, FailureKind, Head, Next, Rederiving, Reply, Running, Settling,
};
use semel_core::key::Key;
use semel_core::observe::Event;
use semel_core::record::{Fence, Retention};
use semel_core::store::{LeaseRef, Undertaking};
use tracing::Instrument as _;

use crate::body::{Body, Whole};
use crate::budget::{Detached, Place};
use crate::capture::capture;
use crate::client::Client;
use crate::idempotency::Idempotency;
use crate::persist::Came;
use crate::steps::{self, Slot};
use crate::trace::Trace;

/// A request extension for the handler: which run this is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Idempotent {
    /// The caller's key.
    pub key: Key,
    /// 1 for the first run, one more for each takeover or rerun.
    pub attempt: u32,
    /// The store's number for this claim. Hand it to whatever can refuse an older one.
    pub fence: Fence,
}

/// The right and the duty to settle one run.
///
/// Dropped unsettled it settles by policy: a run that was never dispatched is released, any other abandoned.
#[must_use = "the run has to be settled"]
pub struct Ticket {
    idempotency: Idempotency,
    running: Option<Running>,
    place: Option<Place>,
    lease: LeaseRef,
    beat: usize,
    attempt: u32,
    started: Duration,
    dispatched: bool,
    overran: bool,
    settled: bool,
    transacts: Option<Transacts>,
    /// The request's head, in case its answer has to be made again.
    head: Option<Box<Parts>>,
    steps: Option<Arc<Slot>>,
    trace: Trace,
}

/// A run in a transaction.
struct Transacts {
    /// `None` before it is lent, and once it is being ended.
    undertaking: Option<Box<dyn Undertaking>>,
    /// Whoever runs it can call the handler again.
    again: bool,
    keep: Retention,
}

impl Ticket {
    pub(crate) fn new(
        idempotency: Idempotency,
        running: Running,
        place: Option<Place>,
        asked_at: Duration,
        trace: Trace,
    ) -> Self {
        let lease = running.lease();
        let started = idempotency.runtime().now();
        let policy = running.policy();
        let renewed = idempotency.transactions().is_none_or(|those| those.tolerates_renewals());
        let beat = idempotency.heart().enter(lease, policy.lease, policy.max_run, asked_at, renewed);
        let keep = policy.retention;
        let transacts =
            idempotency.transactions().map(|_| Transacts { undertaking: None, again: false, keep });
        let attempt = running.attempt();
        idempotency.observe_in(&trace, &Event::Claimed { id: &lease.id, attempt, fence: lease.fence });
        tracing::debug!(record = %lease.id, fence = %lease.fence, attempt, "claimed");
        Self {
            idempotency,
            running: Some(running),
            place,
            lease,
            beat,
            attempt,
            started,
            dispatched: false,
            overran: false,
            settled: false,
            transacts,
            head: None,
            steps: None,
            trace,
        }
    }

    /// Somebody else may settle the record meanwhile, with an answer that is to be made again.
    pub(crate) fn remember(&mut self, parts: &Parts) {
        self.head = Some(Box::new(parts.clone()));
    }

    /// Prepares the request for the handler: key, attempt and fence as fields and as an [`Idempotent`]
    /// extension. From here on the handler counts as having seen it.
    ///
    /// Where the route is transactional the handler finds its transaction among the extensions. After
    /// [`Responded::Again`] it is called once more, with the same request.
    pub fn dispatch(&mut self, parts: &mut Parts) {
        if let (Some(transactions), Some(own)) = (self.idempotency.transactions(), &mut self.transacts) {
            own.undertaking = Some(transactions.lend(self.lease, &mut parts.extensions));
            if let (Some(running), false) = (&mut self.running, self.dispatched) {
                running.transact(own.again);
            }
        }
        if let Some(running) = &self.running {
            running.prepare(&mut parts.headers);
            let (key, attempt, fence) = (running.key().clone(), running.attempt(), running.fence());
            parts.extensions.insert(Idempotent { key, attempt, fence });
            if let Some(walk) = running.walk() {
                let slot = Slot::new(self.idempotency.clone(), self.lease, walk);
                parts.extensions.insert(steps::Place(Arc::clone(&slot)));
                self.steps = Some(slot);
            }
        }
        self.dispatched = true;
    }

    /// Whether the handler may have to be called again, after its transaction met others. Whoever asks before
    /// [`dispatch`](Self::dispatch) keeps a copy of the request and uses [`respond_or_again`](Self::respond_or_again).
    pub fn may_rerun(&mut self) -> bool {
        let Some(own) = &mut self.transacts else { return false };
        own.again = true;
        self.running.as_ref().is_some_and(|running| running.policy().reruns > 0)
    }

    /// Runs the handler to its end, whatever its client does. A client that hangs up is counted; one that
    /// waits past `max_run` is told that the outcome is unknown, while the run goes on.
    ///
    /// # Errors
    ///
    /// The handler panicked.
    pub async fn supervise<F: Future, T>(
        &mut self,
        call: F,
        client: &mut Client<T>,
        overrun: impl Fn(Response<Whole>) -> T,
    ) -> Result<F::Output, Panicked> {
        let span = self.trace.clone_span();
        let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
        let mut detached: Option<Detached> = None;
        let supervised = std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = call.as_mut().poll(cx) {
                return Poll::Ready(output.map_err(Panicked));
            }
            if !self.overran && self.idempotency.heart().poll_over(self.beat, cx).is_ready() {
                self.overran = true;
                if let Some(running) = &self.running {
                    let told = self.idempotency.reject(&self.trace, running.overran(), Some(&self.lease.id));
                    client.answer(overrun(told));
                }
            }
            // A client that was told meanwhile waits no more, either.
            if detached.is_none() && (self.overran || client.poll_gone(cx).is_ready()) {
                let budget = self.idempotency.budget();
                detached = Some(Detached::count(budget));
                let running = budget.detached();
                self.idempotency.observe_in(&self.trace, &Event::DetachedRun { id: &self.lease.id, running });
            }
            Poll::Pending
        });
        supervised.instrument(span).await
    }

    /// Settles the run by the handler's answer, and gives the answer that may go out now.
    pub async fn respond<B: HttpBody>(self: Box<Self>, response: Response<B>) -> Response<Body<B>> {
        match self.respond_or_again(response).await {
            Responded::Answer(answer) => answer,
            // Not asked for: see `may_rerun`. Settled as a run without an answer.
            Responded::Again(ticket) => {
                let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
                ticket.fail(failure).await.map(Body::whole)
            }
        }
    }

    /// As [`respond`](Self::respond), for who can call the handler again.
    pub async fn respond_or_again<B: HttpBody>(self: Box<Self>, response: Response<B>) -> Responded<B> {
        let span = self.trace.clone_span();
        self.answer_or_again(response).instrument(span).await
    }

    async fn answer_or_again<B: HttpBody>(mut self: Box<Self>, response: Response<B>) -> Responded<B> {
        let (mut parts, body) = response.into_parts();
        self.end_steps().await;
        let Some(running) = self.running.take() else {
            return Responded::Answer(Response::from_parts(parts, Body::passed(body)));
        };
        self.idempotency.ran_for(self.idempotency.runtime().now().saturating_sub(self.started));
        let at_least = body.size_hint().lower();
        let (settling, body) = match running.respond(Head { parts: &mut parts, at_least }) {
            Next::Settle(settling) => (settling, Some(Body::passed(body))),
            Next::Capture(capturing) => {
                let (limit, length) = (capturing.limit(), capturing.within());
                let captured = capture(self.idempotency.runtime(), limit, length, body);
                // A body that panics has broken off.
                let (end, body) = match AssertUnwindSafe(captured).catch_unwind().await {
                    Ok(captured) => (captured.end, captured.body),
                    Err(_) => (End::Cut, None),
                };
                (Box::new(capturing.end(end)), body)
            }
        };
        let told = match self.settle(*settling).await {
            Came::To(reply) => reply,
            Came::Again(running) => {
                self.running = Some(running);
                return Responded::Again(self);
            }
        };
        Responded::Answer(match told {
            Reply::Live(live) => {
                live.mark(&mut parts.headers);
                self.trace.fresh(parts.status);
                let body = body.unwrap_or_else(|| Body::whole(Whole::default()));
                Response::from_parts(parts, body)
            }
            Reply::Replay(replay) => {
                self.idempotency.replay(&self.trace, replay, &self.lease.id).map(Body::whole)
            }
            Reply::Rederive(rederiving) => self.rederive(*rederiving).await.map(Body::whole),
            Reply::Reject(rejection) => {
                self.idempotency.reject(&self.trace, rejection, Some(&self.lease.id)).map(Body::whole)
            }
        })
    }

    /// Settles a run that ended without an answer, and gives the answer for its client.
    pub async fn fail(self: Box<Self>, failure: Failure) -> Response<Whole> {
        let span = self.trace.clone_span();
        self.end_without(failure).instrument(span).await
    }

    async fn end_without(mut self: Box<Self>, failure: Failure) -> Response<Whole> {
        self.end_steps().await;
        let Some(running) = self.running.take() else {
            return Response::new(Whole::default());
        };
        let id = self.lease.id;
        let told = match self.settle(running.fail(failure)).await {
            Came::To(reply) => reply,
            // A failure names no conflict.
            Came::Again(running) => Reply::Reject(running.overran()),
        };
        match told {
            Reply::Reject(rejection) => self.idempotency.reject(&self.trace, rejection, Some(&id)),
            Reply::Replay(replay) => self.idempotency.replay(&self.trace, replay, &id),
            Reply::Rederive(rederiving) => self.rederive(*rederiving).await,
            Reply::Live(live) => {
                let mut headers = HeaderMap::new();
                live.mark(&mut headers);
                self.trace.fresh(failure.kind.status());
                let mut response = Response::new(Whole::new(Bytes::new()));
                *response.status_mut() = failure.kind.status();
                *response.headers_mut() = headers;
                response
            }
        }
    }

    /// Tells the engine what the run's steps came to, and whoever looks at the record why they could not go on.
    async fn end_steps(&mut self) {
        let Some(running) = &mut self.running else { return };
        if let Some(steps) = self.steps.take() {
            running.walked(steps.close());
        }
        let Some(trouble) = running.trouble() else { return };
        let (id, attempt) = (self.lease.id, self.attempt);
        tracing::error!(record = %id, attempt, %trouble, "the steps of this program are not those of the record");
        if let Some(note) = running.trouble_note() {
            let tries = self.idempotency.claim_tries();
            let store = self.idempotency.store();
            // The trouble is in the log, and the next attempt meets it again.
            drop(self.idempotency.asking("note", tries, || store.note(self.lease, &note)).await);
        }
    }

    async fn rederive(&mut self, rederiving: Rederiving) -> Response<Whole> {
        let head = self.head.take().map(|head| *head);
        self.idempotency.rederive(&self.trace, rederiving, head, &self.lease.id).await
    }

    async fn settle(&mut self, settling: Settling) -> Came {
        let undertaking = self.transacts.as_mut().and_then(|own| own.undertaking.take());
        let came =
            self.idempotency.persist(&self.trace, settling, undertaking, self.attempt, self.overran).await;
        self.settled = matches!(came, Came::To(_));
        came
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.idempotency.heart().leave(self.beat);
        if self.settled {
            return;
        }
        let dispatch = if self.dispatched { Dispatch::Maybe } else { Dispatch::Never };
        let failure = Failure { dispatch, kind: FailureKind::Handler };
        let (this, place) = (self.idempotency.clone(), self.place.take());
        let (running, lease, attempt, late) = (self.running.take(), self.lease, self.attempt, self.overran);
        let (undertaking, keep) =
            self.transacts.take().map_or((None, Retention::default()), |own| (own.undertaking, own.keep));
        let trace = std::mem::replace(&mut self.trace, Trace::none());
        let span = trace.clone_span();
        let task = async move {
            let _place = place;
            match running {
                Some(running) => {
                    drop(this.persist(&trace, running.fail(failure), undertaking, attempt, late).await);
                }
                // It was lost while its answer was being read.
                None => this.leave(lease, undertaking, keep).await,
            }
        };
        self.idempotency.runtime().spawn(Box::pin(task.instrument(span)));
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("lease", &self.lease)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What came of a handler's answer.
#[derive(Debug)]
#[must_use]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and lives for one match")]
#[expect(clippy::exhaustive_enums, reason = "a host has to do each of them")]
pub enum Responded<B> {
    /// It may go out.
    Answer(Response<Body<B>>),
    /// The run's transaction met others: [`Ticket::dispatch`] the same request, and run the handler again.
    Again(Box<Ticket>),
}

/// The handler panicked. Its run is settled like any that ended without an answer.
pub struct Panicked(Box<dyn Any + Send>);

impl Panicked {
    /// Goes on panicking, in whoever waits for the answer.
    pub fn resume(self) -> ! {
        std::panic::resume_unwind(self.0)
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Panicked(..)")
    }
}
