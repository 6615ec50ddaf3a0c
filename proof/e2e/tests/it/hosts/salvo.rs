//! Salvo's own server, with the guard of `examples/salvo-hello` as a hoop of each route.

#[path = "../../../../../examples/salvo-hello/src/guard.rs"]
mod guard;

use http::Method;
use salvo::conn::{Listener as _, TcpListener};
use salvo::{Request, Response, Router, Server, handler};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::Idempotency;

use self::guard::Guard;
use crate::app::App;
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let route =
        |path: &str, rules: Idempotency| Router::with_path(path).hoop(Guard(rules)).goal(Shop(app.clone()));
    let routes = Router::new()
        .push(route("orders", requires))
        .push(route("notes", accepts.clone()))
        .push(route("orders/{id}", accepts));
    let acceptor = TcpListener::new("127.0.0.1:0").bind().await;
    let base = acceptor.inner().local_addr().unwrap();
    tokio::spawn(Server::new(acceptor).serve(routes));
    Host::new(base, app)
}

struct Shop(App);

#[handler]
impl Shop {
    async fn handle(&self, request: &mut Request, response: &mut Response) {
        let method = request.method().clone();
        let (status, headers, text) = match (&method, request.param::<usize>("id")) {
            (&Method::POST | &Method::PUT, _) => {
                let body = request.payload_with_max_size(usize::MAX).await.unwrap().len();
                self.0.make(request.headers(), body).await
            }
            (&Method::PATCH, _) => self.0.change(request.headers()),
            (_, id) => App::read(id.unwrap()),
        };
        response.status_code(status).body(text);
        response.set_headers(headers);
    }
}
