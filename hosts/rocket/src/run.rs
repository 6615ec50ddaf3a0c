//! From a claim to the answer.

use std::io;
use std::mem;

use bytes::Bytes;
use futures_util::future::join;
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use rocket::Request;
use rocket::http::Status;
use rocket::route::Outcome;
use semel_core::engine::{Dispatch, Failure, FailureKind};
use semel_driver::{Body, BoxFuture, Claimed, Client, Guarded, Panicked, Responded, Ticket};
use tracing::Instrument as _;

use crate::app::App;
use crate::body::{self, Taken};
use crate::head::{self, Target};
use crate::lent::Lent;

/// Claims and runs, in the task that Rocket gives each request and does not end when its client goes.
pub(crate) async fn claim_and_run<'r>(
    app: App,
    mount: usize,
    request: &'r Request<'_>,
    target: Target,
    guarded: Box<Guarded>,
    parts: Parts,
    sent: impl HttpBody<Data = Bytes, Error = io::Error>,
) -> Outcome<'r> {
    match guarded.claim(&parts, sent).await {
        Claimed::Run(ticket, whole) => {
            let run = |client| run(app, mount, ticket, target, parts, whole.bytes, client).in_current_span();
            match Client::attended(run, detach).await {
                Ok(answer) => Outcome::Success(head::answer(answer)),
                Err(panicked) => panicked.resume(),
            }
        }
        Claimed::Answer(answer) => Outcome::Success(head::answer(answer.map(Body::whole))),
        Claimed::Unguarded(whole) => {
            dispatch(app, mount, request, &target, &parts.headers, &whole.bytes).await
        }
    }
}

/// A run that was answered before its end goes on: it is over its time, or its answer is still under way.
fn detach(run: BoxFuture<'static, ()>) {
    // Outside of a runtime nothing goes on: the run is dropped, and settles by policy.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(run);
    }
}

async fn run(
    app: App,
    mount: usize,
    mut ticket: Box<Ticket>,
    target: Target,
    mut parts: Parts,
    whole: Bytes,
    mut client: Client<Result<Response<Body<Taken>>, Panicked>>,
) {
    client.begins();
    let failure = Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler };
    loop {
        let copy = ticket.may_rerun().then(|| parts.clone());
        ticket.dispatch(&mut parts);
        let lent = Lent::by(mount, mem::take(&mut parts.extensions));
        let told = lent.told.clone();
        let call = app.dispatch(&target, &parts.headers, &whole, lent);
        let answer = match ticket.supervise(call, &mut client, |told| Ok(told.map(Body::whole))).await {
            Ok(answer) => answer,
            Err(panicked) => {
                let _own = ticket.fail(failure).await;
                return client.answer(Err(panicked));
            }
        };
        let (Ok(mut head), Ok(word)) = (head::of_answer(&answer), told.word()) else {
            return client.answer(Ok(ticket.fail(failure).await.map(Body::whole)));
        };
        if let Some(word) = word {
            head.extensions.insert(word);
        }
        let (into, taken) = body::line(&answer);
        let settle = async {
            match ticket.respond_or_again(Response::from_parts(head, taken)).await {
                Responded::Answer(answer) => {
                    client.answer(Ok(answer));
                    None
                }
                Responded::Again(ticket) => Some(ticket),
            }
        };
        // What is sent while it is made comes out of the request for as long as its client listens.
        let (again, ()) = join(settle, body::pump(answer, into)).await;
        (ticket, parts) = match (again, copy) {
            (None, _) => return,
            (Some(again), Some(copy)) => (again, copy),
            // Not without a copy: see `may_rerun`.
            (Some(again), None) => return client.answer(Ok(again.fail(failure).await.map(Body::whole))),
        };
    }
}

/// Runs what is not guarded. The application is given bodies that are all here, so it is read up to the route's limit.
pub(crate) async fn pass<'r>(
    app: App,
    mount: usize,
    request: &'r Request<'_>,
    target: &Target,
    fields: &HeaderMap,
    sent: impl HttpBody<Data = Bytes, Error = io::Error>,
    limit: usize,
) -> Outcome<'r> {
    match Limited::new(sent, limit).collect().await {
        Ok(whole) => dispatch(app, mount, request, target, fields, &whole.to_bytes()).await,
        Err(error) if error.is::<LengthLimitError>() => Outcome::Error(Status::PayloadTooLarge),
        Err(_) => Outcome::Error(Status::BadRequest),
    }
}

async fn dispatch<'r>(
    app: App,
    mount: usize,
    request: &'r Request<'_>,
    target: &Target,
    fields: &HeaderMap,
    body: &[u8],
) -> Outcome<'r> {
    // It lives as long as the request, so that its answer may stream.
    let app: &'r App = request.local_cache(|| app);
    let lent = Lent::by(mount, http::Extensions::new());
    Outcome::Success(head::passed(app.dispatch(target, fields, body, lent).await))
}
