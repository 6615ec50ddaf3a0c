//! Requests whose claim, writes and answer are one commit of the store itself.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use semel_core::engine::{
    Claiming, Decision, Dispatch, End, Failure, FailureKind, Head, Next, Reply, Settling,
};
use semel_core::observe::Event;
use semel_core::policy::{OnStoreFailure, Requirement};
use semel_core::record::{RecordId, Recovery};
use semel_core::store::{Acquired, AnyStore, Ended, Settled, Transact, Transacted};
use tracing::Instrument as _;

use crate::again::BoxError;
use crate::body::Whole;
use crate::claim::{Admitted, Guarded, Read};
use crate::idempotency::{BuildError, Builder, Idempotency};
use crate::ticket::Idempotent;
use crate::trace::Trace;
use crate::wait::Waited;

/// Runs requests inside the transaction of a store that can do so: claim, writes and answer are one commit.
///
/// There is no moment at which a request was claimed and not answered, so nothing is ever unknown and nothing is
/// taken over: a crash leaves all of it or nothing.
///
/// A run takes place on the store's own thread and holds up everybody else's: it has to be short, and to do nothing but
/// read and write through what it is given. It is called again, with its writes undone, where its transaction could not
/// be committed.
pub struct OneCommit<S> {
    idempotency: Idempotency,
    store: Arc<S>,
}

impl<S: Transact> OneCommit<S> {
    /// Runs over this store, by rules that start from [`Builder`]'s and require a key.
    ///
    /// # Errors
    ///
    /// The rules contradict each other or the store. They may not make the key optional again: there is no way to run a
    /// request without one. Nor may they run requests while the store fails, which is where they run.
    pub fn build(store: Arc<S>, rules: impl FnOnce(Builder) -> Builder) -> Result<Self, BuildError> {
        let builder = Idempotency::builder_any(AnyStore::shared(Arc::clone(&store)))
            .require_key()
            .recovery(Recovery::Takeover);
        let idempotency = rules(builder).build()?;
        let policy = idempotency.policy();
        if policy.requirement == Requirement::Optional {
            return Err(BuildError::OneCommit(
                "`requirement` is optional, but there is no run without a claim: require the key",
            ));
        }
        if policy.on_store_failure == OnStoreFailure::FailOpen {
            return Err(BuildError::OneCommit(
                "`fail_open` runs requests while the store fails, but they run inside the store: leave it out",
            ));
        }
        if policy.steps {
            return Err(BuildError::OneCommit(
                "`steps` are calls over a network, but a run in one commit holds up the store: leave `steps` out",
            ));
        }
        Ok(Self { idempotency, store })
    }

    /// The same, with what makes an answer again that was kept by a reference: see [`Idempotency::on_replay`].
    #[must_use]
    pub fn on_replay<F, Fut, B, E>(self, make: F) -> Self
    where
        F: Fn(Bytes, Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: HttpBody + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        Self { idempotency: self.idempotency.on_replay(make), store: self.store }
    }

    /// The handle, to make layers for other routes over the same store.
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    /// Answers a request: a replay, a refusal, or what `run` answered in a transaction that is committed by now.
    ///
    /// `run` gets the request with its key, attempt and fence as fields and as an [`Idempotent`] extension. What its
    /// answer means for its writes is the rule of every transaction: below 400 they are committed with the answer; from
    /// 400 on they are undone and the answer is kept, or the key is free again, by the route's
    /// [`Keep`](semel_core::policy::Keep); [`Override::commit`](semel_core::engine::Override::commit) commits them
    /// all the same. An error undoes them, frees the key, and is logged: the client gets 500 `rolled-back`. A panic
    /// does the same and goes on in the caller.
    ///
    /// Once the request is read, the run goes on whatever its client does.
    pub async fn call<B, H, E>(&self, mut parts: Parts, body: B, run: &Arc<H>) -> Response<Whole>
    where
        B: HttpBody,
        H: for<'t> Fn(&S::Effects<'t>, &Request<Bytes>) -> Result<Response<Bytes>, E> + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.idempotency.admit(&mut parts) {
            Admitted::Bypass => self.not_allowed(),
            Admitted::Answer(answer) => answer,
            Admitted::Guarded(guarded) => {
                let span = guarded.span();
                self.guarded(guarded, parts, body, run).instrument(span).await
            }
        }
    }

    /// There is no run without a claim.
    fn not_allowed(&self) -> Response<Whole> {
        let mut response = Response::new(Whole::default());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let methods: Vec<_> = self.idempotency.policy().methods.iter().map(http::Method::as_str).collect();
        if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }

    async fn guarded<B, H, E>(
        &self,
        guarded: Box<Guarded>,
        parts: Parts,
        body: B,
        run: &Arc<H>,
    ) -> Response<Whole>
    where
        B: HttpBody,
        H: for<'t> Fn(&S::Effects<'t>, &Request<Bytes>) -> Result<Response<Bytes>, E> + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let Read { mut claiming, place: _place, body, trace } = match guarded.read(&parts, body).await {
            Ok(read) => read,
            Err(refused) => return refused,
        };
        let request = Arc::new((parts, body.bytes));
        let this = &self.idempotency;
        let id = claiming.ask().id;
        let mut waited = Waited::default();
        loop {
            let asked = &claiming;
            let transact = || {
                let (claiming, request, run) = (asked.clone(), Arc::clone(&request), Arc::clone(run));
                // On the store's own thread.
                let span = trace.clone_span();
                self.store.transact(asked.ask(), move |effects, acquired| {
                    span.in_scope(|| run_once(effects, acquired, &claiming, &request, &*run))
                })
            };
            let transacted = this.asking("transact", this.claim_tries(), transact).await;
            let begun = match transacted {
                Ok(Transacted::Ran(done)) => return self.answer(&trace, *done, &id),
                Ok(Transacted::Answered(begun)) => begun,
                Err(error) => {
                    tracing::error!(record = %id, error = %error, "a request could not be run");
                    return this.reject(&trace, claiming.uncommitted(&error), Some(&id));
                }
            };
            let (parts, body) = &*request;
            match claiming.answer(begun, this.store().secret(), parts, body, this.typical()) {
                Decision::Replay(replay) => return this.replay(&trace, *replay, &id),
                Decision::Rederive(rederiving) => {
                    return this.rederive(&trace, *rederiving, Some(parts.clone()), &id).await;
                }
                Decision::Reject(rejection) => return this.reject(&trace, rejection, Some(&id)),
                Decision::AskAgain(again) => claiming = again,
                Decision::Wait(waiting) => match waited.wait(this, *waiting).await {
                    Ok(again) => *claiming = again,
                    Err(rejection) => return this.reject(&trace, rejection, Some(&id)),
                },
                // The store answers so only in the transaction that runs it.
                Decision::Run(running) => return this.reject(&trace, running.overran(), Some(&id)),
            }
        }
    }

    /// Committed: tells who watches, and gives the answer.
    fn answer(&self, trace: &Trace, done: Done, id: &RecordId) -> Response<Whole> {
        let Done { settling, answer, attempt } = done;
        let step = settling.step();
        let fence = step.lease().fence;
        self.idempotency.observe_in(trace, &Event::Claimed { id, attempt, fence });
        self.idempotency.tell(trace, &step, &Settled::Applied, attempt, false);
        match settling.ended() {
            Reply::Live(live) => {
                let mut response = answer.unwrap_or_default();
                live.mark(response.headers_mut());
                trace.fresh(response.status());
                response.map(Whole::new)
            }
            Reply::Replay(replay) => self.idempotency.replay(trace, replay, id),
            // Only whoever was overtaken is answered so, and nobody is in one commit.
            Reply::Rederive(rederiving) => {
                self.idempotency.reject(trace, rederiving.unregistered(), Some(id))
            }
            Reply::Reject(rejection) => self.idempotency.reject(trace, rejection, Some(id)),
        }
    }
}

impl<S> fmt::Debug for OneCommit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneCommit").field("idempotency", &self.idempotency).finish_non_exhaustive()
    }
}

/// A run whose transaction is about to be committed.
struct Done {
    settling: Settling,
    /// `None` where it ended without one.
    answer: Option<Response<Bytes>>,
    attempt: u32,
}

fn run_once<X, H, E>(
    effects: &X,
    acquired: Acquired,
    claiming: &Claiming,
    request: &(Parts, Bytes),
    run: &H,
) -> Ended<Box<Done>>
where
    H: Fn(&X, &Request<Bytes>) -> Result<Response<Bytes>, E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut running = claiming.clone().acquired(acquired);
    running.transact(false);
    let (mut parts, body) = request.clone();
    running.prepare(&mut parts.headers);
    let (key, attempt, fence) = (running.key().clone(), running.attempt(), running.fence());
    let id = running.lease().id;
    parts.extensions.insert(Idempotent { key, attempt, fence });
    let (settling, answer) = match run(effects, &Request::from_parts(parts, body)) {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            let settling = match running.respond(Head { parts: &mut parts, at_least: body.len() as u64 }) {
                Next::Settle(settling) => settling,
                Next::Capture(capturing) => {
                    Box::new(capturing.end(End::Whole { body: body.clone(), trailers: None }))
                }
            };
            (settling, Some(Response::from_parts(parts, body)))
        }
        Err(error) => {
            let error: Box<dyn Error + Send + Sync> = error.into();
            tracing::error!(record = %id, %fence, error = %error, "a run failed, and its writes are undone");
            let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
            (Box::new(running.fail(failure)), None)
        }
    };
    Ended { record: settling.ending(), with: Box::new(Done { settling: *settling, answer, attempt }) }
}
