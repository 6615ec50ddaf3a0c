//! The tower layer around an endpoint of poem.
//!
//! Poem's own adapters for tower take its own `Request`, or drop what has no place in one of `http`: path parameters,
//! the addresses of the connection, the target before a nested route cut it. Here all that waits beside the run.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use poem::http::StatusCode;
use poem::{Endpoint, IntoResponse as _, Middleware, Request, Response, ResponseParts};
use semel::{Idempotency, IdempotencyLayer};
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = BoxBody<Bytes, io::Error>;

/// `.with(Guard(idempotency))` guards an endpoint, a route, or a whole application.
pub(crate) struct Guard(pub(crate) Idempotency);

impl<E: Endpoint + 'static> Middleware<E> for Guard {
    type Output = Guarded<E>;

    fn transform(&self, endpoint: E) -> Guarded<E> {
        Guarded { layer: IdempotencyLayer::new(self.0.clone()), endpoint: Arc::new(endpoint) }
    }
}

pub(crate) struct Guarded<E> {
    layer: IdempotencyLayer,
    endpoint: Arc<E>,
}

impl<E: Endpoint + 'static> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let target = request.original_uri().clone();
        let (mut own, body) = request.into_parts();
        let mut request = http::Request::new(Body::from(body));
        *request.method_mut() = own.method.clone();
        *request.uri_mut() = target;
        *request.version_mut() = own.version;
        *request.headers_mut() = std::mem::take(&mut own.headers);
        *request.extensions_mut() = std::mem::take(&mut own.extensions);
        let (own, endpoint) = (Arc::new(Mutex::new(Some(own))), self.endpoint.clone());
        let run = service_fn(move |request: http::Request<Body>| {
            let (own, endpoint) =
                (own.lock().unwrap_or_else(PoisonError::into_inner).take(), endpoint.clone());
            async move {
                let (head, body) = request.into_parts();
                // It is gone only if a route with a transaction lets a run be called again.
                let Some(mut own) = own else {
                    return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response().into());
                };
                (own.headers, own.extensions) = (head.headers, head.extensions);
                let answer = endpoint.get_response(Request::from_parts(own, body.into())).await;
                Ok::<http::Response<Body>, Infallible>(answer.into())
            }
        });
        let Ok(answer) = self.layer.layer(run).oneshot(request).await;
        let (http::response::Parts { status, version, headers, extensions, .. }, body) = answer.into_parts();
        // Poem's own conversion forgets the length of the body.
        Ok(Response::from_parts(ResponseParts { status, version, headers, extensions }, body.boxed().into()))
    }
}
