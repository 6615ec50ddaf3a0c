//! Poem's own server, with the guard of `examples/poem-hello` around a route.

#[path = "../../../../../examples/poem-hello/src/guard.rs"]
mod guard;

use bytes::Bytes;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::{Data, Path};
use poem::{EndpointExt as _, Request, Response, Route, Server, handler, post};
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::Idempotency;

use self::guard::Guard;
use crate::app::{Answer, App};
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let order = poem::get(read).head(read).put(make).patch(change);
    let routes = Route::new()
        .at("/orders", post(make).with(Guard(requires)))
        .at("/notes", post(make).with(Guard(accepts.clone())))
        .at("/orders/:id", order.with(Guard(accepts)))
        .data(app.clone());
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    let base = *acceptor.local_addr()[0].as_socket_addr().unwrap();
    tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
    Host::new(base, app)
}

#[handler]
async fn make(Data(app): Data<&App>, request: &Request, body: Bytes) -> Response {
    respond(app.make(request.headers(), body.len()).await)
}

#[handler]
fn change(Data(app): Data<&App>, request: &Request) -> Response {
    respond(app.change(request.headers()))
}

#[handler]
fn read(Path(id): Path<usize>) -> Response {
    respond(App::read(id))
}

fn respond((status, headers, text): Answer) -> Response {
    let mut response = Response::builder().status(status).body(text);
    *response.headers_mut() = headers;
    response
}
