//! Actix-web with two workers, so that what one has recorded the other replays.

use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use semel_actix::IdempotencyMiddleware;
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::Idempotency;

use crate::app::{Answer, App};
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
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
