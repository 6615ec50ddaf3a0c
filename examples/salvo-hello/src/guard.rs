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
        let rest: Rest = Arc::new(Mutex::new(Some((take(request), take(depot), take(flow)))));
        let back = Rest::default();
        let run = {
            let (rest, back) = (rest.clone(), back.clone());
            service_fn(move |request| run(rest.clone(), back.clone(), request))
        };
        let Ok(answer) = IdempotencyLayer::new(self.0.clone()).layer(run).oneshot(guarded).await;
        // From the run, or as it was where nothing ran.
        if let Some(own) = take_of(&back).or_else(|| take_of(&rest)) {
            (*request, *depot, *flow) = own;
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

type Own = (Request, Depot, FlowCtrl);
type Rest = Arc<Mutex<Option<Own>>>;

fn take_of(rest: &Rest) -> Option<Own> {
    rest.lock().unwrap_or_else(PoisonError::into_inner).take()
}

async fn run(
    rest: Rest,
    back: Rest,
    request: http::Request<Body<ReqBody>>,
) -> Result<http::Response<ResBody>, Infallible> {
    let mut response = Response::new();
    if let Some((mut own, mut depot, mut flow)) = take_of(&rest) {
        let (head, body) = request.into_parts();
        (*own.headers_mut(), *own.extensions_mut()) = (head.headers, head.extensions);
        own.replace_body(ReqBody::Boxed { inner: Box::pin(body.map_err(Into::into)), fuse_config: None });
        flow.call_next(&mut own, &mut depot, &mut response).await;
        // Outside nobody could make the same page for a retry.
        if response.body.is_error() {
            write_error_default(&own, &mut response, None);
        }
        *back.lock().unwrap_or_else(PoisonError::into_inner) = Some((own, depot, flow));
    } else {
        // Only a route with a transaction calls a run again, whose flow has been gone through.
        response.status_code(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(response.into_hyper())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The flow of the first call has nothing left: a second would make a 404 of it, which is kept.
    #[tokio::test]
    async fn a_run_that_is_called_again_is_not_done_and_says_so() {
        let (rest, back) = (Rest::default(), Rest::default());
        let flow = FlowCtrl::new(vec![Arc::new(Made)]);
        *rest.lock().unwrap() = Some((Request::default(), Depot::new(), flow));
        for status in [200, 500] {
            let request = http::Request::new(Body::passed(ReqBody::None));
            let Ok(answer) = run(rest.clone(), back.clone(), request).await;
            assert_eq!(answer.status(), status);
            assert!(back.lock().unwrap().is_some(), "the hoops outside get theirs back");
        }
    }

    struct Made;

    #[async_trait]
    impl Handler for Made {
        async fn handle(&self, _: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
            response.render("made");
        }
    }
}
