//! Hyper alone: a function a request, and the layer called by hand.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::{Body, Idempotency, IdempotencyLayer};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::app::App;
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let handler = {
        let app = app.clone();
        service_fn(move |request: Request<Body<Incoming>>| answer(app.clone(), request))
    };
    let requires = IdempotencyLayer::new(requires).layer(handler.clone());
    let accepts = IdempotencyLayer::new(accepts).layer(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (requires, accepts) = (requires.clone(), accepts.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let guard = if request.uri().path() == "/orders" { &requires } else { &accepts };
                guard.clone().oneshot(request.map(Body::passed))
            });
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A client that hangs up is an error here.
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Host::new(base, app)
}

async fn answer(app: App, request: Request<Body<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let read = async || body.collect().await.unwrap().to_bytes().len();
    let path = parts.uri.path();
    let id = path.strip_prefix("/orders/").and_then(|id| id.parse().ok());
    let (status, headers, text) = match (&parts.method, path, id) {
        (&Method::POST, "/orders" | "/notes", _) | (&Method::PUT, _, Some(_)) => {
            app.make(&parts.headers, read().await).await
        }
        (&Method::PATCH, _, Some(_)) => app.change(&parts.headers),
        (&Method::GET | &Method::HEAD, _, Some(id)) => App::read(id),
        _ => (StatusCode::NOT_FOUND, HeaderMap::new(), String::new()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
