//! From a claim to the answer: the handler runs in a task of its own on its worker's thread.

use std::rc::Rc;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, Service, ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage as _, rt};
use http::Response;
use http::request::Parts;
use semel_core::engine::{Dispatch, Failure, FailureKind};
use semel_driver::{Body, Claimed, Client, Guarded, Idempotency, Panicked, Ticket};
use tracing::Instrument as _;

use crate::body::{Answer, Sent, Taken};
use crate::extract::Lent;
use crate::head;

/// What a guarded service answers: an answer that goes with its request, or one without, which actix-web calls an error.
type Answered<B> = Result<ServiceResponse<EitherBody<B, Answer<B>>>, Error>;

/// Until the handler begins, a client that goes takes its claim with it.
pub(crate) async fn claim_and_run<S, B>(
    service: Rc<S>,
    idempotency: Idempotency,
    guarded: Box<Guarded>,
    mut request: ServiceRequest,
    mut parts: Parts,
) -> Answered<B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let body = Sent::new(request.take_payload());
    let (mut ticket, whole) = match guarded.claim(&parts, body).await {
        Claimed::Run(ticket, whole) => (ticket, whole),
        Claimed::Answer(answer) => return Ok(head::answer(request, answer)),
        Claimed::Unguarded(whole) => {
            head::set_fields(&mut request, &parts.headers);
            request.set_payload(Payload::from(whole.bytes));
            return Ok(service.call(request).await?.map_into_left_body());
        }
    };
    ticket.dispatch(&mut parts);
    head::set_fields(&mut request, &parts.headers);
    request.set_payload(Payload::from(whole.bytes));
    request.extensions_mut().insert(Lent(parts.extensions));
    let (client, answer) = Client::line();
    rt::spawn(run(service, ticket, request, client).in_current_span());
    match answer.await {
        Some(Ok(answered)) => answered,
        Some(Err(panicked)) => panicked.resume(),
        // The worker ended.
        None => Err(head::error("the run was torn down", head::whole(idempotency.torn_down()))),
    }
}

async fn run<S, B>(
    service: Rc<S>,
    mut ticket: Box<Ticket>,
    request: ServiceRequest,
    mut client: Client<Result<Answered<B>, Panicked>>,
) where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    // In a block, so that a panic of `call` itself is caught like one of its future.
    let call = async { service.call(request).await };
    // The handler has the request, and actix-web's answers need one: all but its errors.
    let overrun = |told| Ok(Err(head::error("the run takes too long", head::whole(told))));
    let answered = match ticket.supervise(call, &mut client, overrun).await {
        Ok(Ok(response)) => {
            let (request, response) = response.into_parts();
            let (shell, parts, body) = head::split(response);
            let answer = ticket.respond(Response::from_parts(parts, Taken::new(body))).await;
            let answer = head::join(shell, answer).map_into_right_body();
            Ok(Ok(ServiceResponse::new(request, answer)))
        }
        // A middleware inside gave an error in place of an answer: what its client would see is the answer.
        Ok(Err(error)) => {
            let (shell, parts, body) = head::split(error.error_response());
            let answer: Response<Body<Taken<_>>> =
                ticket.respond(Response::from_parts(parts, Taken::new(body))).await;
            Ok(Err(head::error(error, head::join(shell, answer))))
        }
        Err(panicked) => {
            let _own = ticket.fail(Failure { dispatch: Dispatch::Maybe, kind: FailureKind::Handler }).await;
            Err(panicked)
        }
    };
    client.answer(answered);
}
