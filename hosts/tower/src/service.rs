//! The service: passes through what is not guarded, and runs what is to its end, whatever its client does.

use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response, Uri};
use http_body::Body as HttpBody;
use semel_core::engine::{Dispatch, Failure, FailureKind};
use semel_driver::{Admitted, Body, BoxFuture, Claimed, Client, Guarded, Idempotency, Panicked, Responded};
use tower_service::Service;
use tracing::Instrument as _;

use crate::future::ResponseFuture;
use crate::rebuild::Rebuild;
use crate::target;

/// A guarded service. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
#[derive(Clone, Debug)]
pub struct IdempotencyService<S> {
    idempotency: Idempotency,
    inner: S,
}

impl<S> IdempotencyService<S> {
    /// Guards a service.
    pub fn new(idempotency: Idempotency, inner: S) -> Self {
        Self { idempotency, inner }
    }

    /// The inner service that was polled ready: the one to call. A clone, not ready yet, takes its place.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let fresh = self.inner.clone();
        std::mem::replace(&mut self.inner, fresh)
    }
}

impl<S, B, R> Service<Request<B>> for IdempotencyService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send + 'static,
    B: Rebuild + Send + 'static,
    B::Data: Send,
    R: HttpBody + Send + 'static,
{
    type Response = Response<Body<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let local = target::widen(&mut parts);
        match self.idempotency.admit(&mut parts) {
            Admitted::Bypass => {
                target::narrow(&mut parts, local);
                ResponseFuture::bypass(self.inner.call(Request::from_parts(parts, body)))
            }
            Admitted::Answer(answer) => {
                // What readiness reserved (a place in a buffer, a permit) is given back: nothing is called.
                drop(self.take_ready());
                ResponseFuture::answer(answer.map(Body::whole))
            }
            Admitted::Guarded(guarded) => {
                guarded.routed(|| target::route(&parts));
                let ready = self.take_ready();
                let run =
                    |client| claim_and_run(ready, guarded, (parts, local), body, client).in_current_span();
                ResponseFuture::guarded(Client::attended(run, detach))
            }
        }
    }
}

/// A client that hangs up must not cancel what it started.
fn detach(run: BoxFuture<'static, ()>) {
    // Outside of a runtime nothing goes on: the run is dropped, and settles by policy.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(run);
    }
}

/// What the client gets: an answer, the inner service's error, or its panic.
pub(crate) type Outcome<R, E> = Result<Result<Response<Body<R>>, E>, Panicked>;

async fn claim_and_run<S, B, R>(
    mut inner: S,
    guarded: Box<Guarded>,
    (mut parts, local): (Parts, Option<Uri>),
    body: B,
    mut client: Client<Outcome<R, S::Error>>,
) where
    S: Service<Request<B>, Response = Response<R>>,
    B: Rebuild,
    R: HttpBody,
{
    let claimed = guarded.claim(&parts, body).await;
    target::narrow(&mut parts, local);
    let (mut ticket, whole) = match claimed {
        Claimed::Run(ticket, whole) => (ticket, whole),
        Claimed::Answer(answer) => return client.answer(Ok(Ok(answer.map(Body::whole)))),
        Claimed::Unguarded(whole) => {
            let answer = inner.call(Request::from_parts(parts, B::rebuild(whole))).await;
            return client.answer(Ok(answer.map(|answer| answer.map(Body::passed))));
        }
    };
    client.begins();
    let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
    let (mut request, mut reran) = ((parts, whole), false);
    let answer = loop {
        let copy = ticket.may_rerun().then(|| request.clone());
        let (mut parts, whole) = request;
        ticket.dispatch(&mut parts);
        // In a block, so that a panic of `call` itself is caught like one of its future.
        let call = async {
            // Readiness was for one call.
            if reran {
                std::future::poll_fn(|cx| inner.poll_ready(cx)).await?;
            }
            inner.call(Request::from_parts(parts, B::rebuild(whole))).await
        };
        let outcome = ticket.supervise(call, &mut client, |answer| Ok(Ok(answer.map(Body::whole)))).await;
        match outcome {
            Ok(Ok(response)) => match (ticket.respond_or_again(response).await, copy) {
                (Responded::Answer(answer), _) => break Ok(Ok(answer)),
                (Responded::Again(again), Some(copy)) => {
                    (ticket, request, reran) = (again, copy, true);
                }
                // Not without a copy: see `may_rerun`.
                (Responded::Again(again), None) => break Ok(Ok(again.fail(failure).await.map(Body::whole))),
            },
            Ok(Err(error)) => {
                let _own = ticket.fail(failure).await;
                break Ok(Err(error));
            }
            Err(panicked) => {
                let _own = ticket.fail(failure).await;
                break Err(panicked);
            }
        }
    };
    client.answer(answer);
}
