//! The tower layer as a hoop of salvo.
//!
//! Salvo's own adapter of layers runs what is inside in the request's task, so a client that hangs up would cancel its
//! run. Here the run owns the rest of the flow, and goes on; a request whose client stays gets everything back.

use std::convert::Infallible;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt as _;
use salvo::catcher::write_error_default;
use salvo::http::body::{Body as _, ReqBody, ResBody};
use salvo::http::{StatusCode, StatusError, Version};
use salvo::{Depot, FlowCtrl, Handler, Request, Response, async_trait};
use semel::{Body, Idempotency, IdempotencyLayer};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// `.hoop(Guard(idempotency))` guards a router and all below it.
pub(crate) struct Guard(pub(crate) Idempotency);

#[async_trait]
impl Handler for Guard {
    async fn handle(
        &self,
        request: &mut Request,
        depot: &mut Depot,
        response: &mut Response,
        flow: &mut FlowCtrl,
    ) {
        let had_one = may_have_had_a_body(request);
        let body = if request.body().is_none() {
            // A hoop outside has read it, and left it to be read again, if it could.
            request.payload().await.cloned().ok().map(ReqBody::from)
        } else {
            Some(request.take_body())
        };
        let Some(body) = body.filter(|body| !(had_one && body.is_end_stream())) else {
            // Without its body another request would look the same, and get its answer.
            response.render(StatusError::internal_server_error().brief("the body was read before the guard"));
            return flow.skip_rest();
        };
        let mut guarded = http::Request::new(Body::passed(body));
        *guarded.method_mut() = request.method().clone();
        *guarded.uri_mut() = request.uri().clone();
        *guarded.version_mut() = request.version();
        *guarded.headers_mut() = request.headers().clone();
        *guarded.extensions_mut() = request.extensions().clone();
        let rest = Arc::new(Mutex::new(Some((take(request), take(depot), take(flow)))));
        let run = {
            let rest = rest.clone();
            service_fn(move |request| run(rest.clone(), request))
        };
        let Ok(answer) = IdempotencyLayer::new(self.0.clone()).layer(run).oneshot(guarded).await;
        if let Some(back) = rest.lock().unwrap_or_else(PoisonError::into_inner).take() {
            (*request, *depot, *flow) = back;
        }
        flow.skip_rest();
        let (head, body) = answer.into_parts();
        response.status_code = Some(head.status);
        response.headers.extend(head.headers);
        response.extensions.extend(head.extensions);
        let boxed = |body: Body<ResBody>| ResBody::Boxed(Box::pin(body.map_err(Into::into)));
        response.body = if body.is_end_stream() { ResBody::None } else { boxed(body) };
    }
}

/// Whether a body that looks empty may be one that somebody took.
fn may_have_had_a_body(request: &Request) -> bool {
    let headers = request.headers();
    if let Some(length) = headers.get("content-length") {
        return length != "0";
    }
    // From HTTP/2 on a body needs neither field. Salvo leaves one that nobody took, also where it is empty.
    let unsaid = request.version() >= Version::HTTP_2 && !request.method().is_safe();
    headers.contains_key("transfer-encoding") || (unsaid && request.body().is_none())
}

type Rest = Arc<Mutex<Option<(Request, Depot, FlowCtrl)>>>;

async fn run(
    rest: Rest,
    request: http::Request<Body<ReqBody>>,
) -> Result<http::Response<ResBody>, Infallible> {
    let mut response = Response::new();
    let taken = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((mut own, mut depot, mut flow)) = taken {
        let (head, body) = request.into_parts();
        (*own.headers_mut(), *own.extensions_mut()) = (head.headers, head.extensions);
        own.replace_body(ReqBody::Boxed { inner: Box::pin(body.map_err(Into::into)), fuse_config: None });
        flow.call_next(&mut own, &mut depot, &mut response).await;
        // Outside nobody could make the same page for a retry.
        if response.body.is_error() {
            write_error_default(&own, &mut response, None);
        }
        *rest.lock().unwrap_or_else(PoisonError::into_inner) = Some((own, depot, flow));
    } else {
        // Only a route with a transaction calls a run again.
        response.status_code(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(response.into_hyper())
}
