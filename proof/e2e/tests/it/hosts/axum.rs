//! `axum::serve` on a loopback socket, with a layer a route.

use axum::Router;
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_tower::{Idempotency, IdempotencyLayer};
use tokio::net::TcpListener;

use crate::app::App;
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let guard = |routes: Router, rules: Idempotency| routes.layer(IdempotencyLayer::new(rules));
    let router = guard(app.orders(), requires)
        .merge(guard(app.notes(), accepts.clone()))
        .merge(guard(app.order(), accepts));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Host::new(base, app)
}
