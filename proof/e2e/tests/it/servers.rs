//! The same application in servers that know nothing of axum.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use semel_actix::IdempotencyMiddleware;
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::{Body, Idempotency, IdempotencyLayer};
use tokio::net::TcpListener;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::app::{Answer, App};
use crate::fixture::{Host, Kind, Rules};

/// Hyper alone: a function a request, and the layer called by hand.
pub(crate) const HYPER: Kind = Kind::new(|store, rules| Box::pin(hyper_host(store, rules)));

async fn hyper_host(store: AnyStore, rules: Rules) -> Host {
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

/// Actix-web with two workers, so that what one has recorded the other replays.
pub(crate) const ACTIX: Kind = Kind::new(|store, rules| Box::pin(actix_host(store, rules)));

async fn actix_host(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let orders = app.clone();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                actix_web::App::new().configure(routes(&orders, &accepts, &requires))
            });
            let server = server.workers(2).disable_signals().client_disconnect_timeout(Duration::ZERO);
            let server = server.listen_auto_h2c(listener).unwrap().run();
            // Nobody waits for it any more: the test has ended.
            let _gone = tell.send(server.handle());
            server.await.unwrap();
        });
    });
    let handle = told.await.unwrap();
    Host::new(base, app).ending(Stop(handle))
}

fn routes(
    app: &App,
    accepts: &Idempotency,
    requires: &Idempotency,
) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let app = web::Data::new(app.clone());
    let guard = |rules: &Idempotency| IdempotencyMiddleware::new(rules.clone());
    let (orders, notes, order) = (guard(requires), guard(accepts), guard(accepts));
    move |config| {
        config
            .app_data(app)
            .service(web::resource("/orders").wrap(orders).route(web::post().to(make)))
            .service(web::resource("/notes").wrap(notes).route(web::post().to(make)))
            .service(
                web::resource("/orders/{id}")
                    .wrap(order)
                    .route(web::put().to(make))
                    .route(web::patch().to(change))
                    .route(web::route().to(read)),
            );
    }
}

async fn make(app: web::Data<App>, request: HttpRequest, body: Bytes) -> HttpResponse {
    respond(app.make(&fields(&request), body.len()).await)
}

async fn change(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    respond(app.change(&fields(&request)))
}

async fn read(id: web::Path<usize>) -> HttpResponse {
    respond(App::read(*id))
}

fn fields(request: &HttpRequest) -> HeaderMap {
    let line =
        |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
    let mut fields = HeaderMap::new();
    for (name, value) in request.headers().iter().map(line) {
        fields.append(name, value);
    }
    fields
}

fn respond((status, headers, text): Answer) -> HttpResponse {
    let mut answer = HttpResponse::build(actix_web::http::StatusCode::from_u16(status.as_u16()).unwrap());
    for (name, value) in &headers {
        answer.append_header((name.as_str(), value.as_bytes()));
    }
    answer.body(text)
}

struct Stop(ServerHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        // The command is sent at once; nobody waits for the end.
        drop(self.0.stop(false));
    }
}
