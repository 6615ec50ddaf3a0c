//! Filters of warp as services, each behind its layer, in hyper's server: as in `examples/warp-hello`.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::{Body, Idempotency, IdempotencyLayer};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _};
use warp::filters::BoxedFilter;
use warp::{Filter as _, body, header, path};

use crate::app::{Answer, App};
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let requires = IdempotencyLayer::new(requires).layer(warp::service(orders(&app)));
    let accepts = IdempotencyLayer::new(accepts).layer(warp::service(others(&app)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (requires, accepts) = (requires.clone(), accepts.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (path, request) = (request.uri().path() == "/orders", request.map(Body::passed));
                let (requires, accepts) = (requires.clone(), accepts.clone());
                async move { if path { requires.oneshot(request).await } else { accepts.oneshot(request).await } }
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

fn orders(app: &App) -> BoxedFilter<(Response<String>,)> {
    path!("orders").and(warp::post()).and(make(app)).boxed()
}

fn others(app: &App) -> BoxedFilter<(Response<String>,)> {
    let notes = path!("notes").and(warp::post()).and(make(app));
    let put = path!("orders" / usize).and(warp::put()).and(make(app)).map(|_, response| response);
    let app = app.clone();
    let change = path!("orders" / usize).and(warp::patch()).and(header::headers_cloned());
    let change = change.map(move |_, headers: HeaderMap| respond(app.change(&headers)));
    let read = path!("orders" / usize).and(warp::get().or(warp::head()).unify());
    let read = read.map(|id| respond(App::read(id)));
    notes.or(put).unify().or(change).unify().or(read).unify().boxed()
}

fn make(app: &App) -> BoxedFilter<(Response<String>,)> {
    let app = app.clone();
    let make = move |headers: HeaderMap, body: Bytes| {
        let app = app.clone();
        async move { respond(app.make(&headers, body.len()).await) }
    };
    header::headers_cloned().and(body::bytes()).then(make).boxed()
}

fn respond((status, headers, text): Answer) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
