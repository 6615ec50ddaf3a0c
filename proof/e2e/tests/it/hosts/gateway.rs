//! The gateway before the same application, which listens on a socket of its own and has no layers.

use std::num::NonZeroUsize;
use std::task::{Context, Poll};

use http::Request;
use hyper::body::Incoming;
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_gateway::{Gateway, GatewayConfig, GuardedForward, Hooks};
use semel_tower::Idempotency;
use tokio::net::TcpListener;
use tower_service::Service;

use crate::app::App;
use crate::fixture::{Host, Kind, Rules};

pub(crate) const HOST: Kind = Kind::new(|store, rules| Box::pin(start(store, rules)));

async fn start(store: AnyStore, rules: Rules) -> Host {
    let app = App::new();
    let accepts = Idempotency::builder_any(store).build().unwrap().route(rules).unwrap();
    let requires = accepts.route(PolicyBuilder::require_key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let routes = app.orders().merge(app.notes()).merge(app.order());
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let mut config = GatewayConfig::new(upstream.parse().unwrap());
    config.listen = ([127, 0, 0, 1], 0).into();
    config.workers = NonZeroUsize::MIN;
    let gateway = Gateway::bind(config).unwrap();
    let base = gateway.local_addr();
    let by_path = move |config: &GatewayConfig| ByPath {
        requires: GuardedForward::new(config, requires.clone()),
        accepts: GuardedForward::new(config, accepts.clone()),
    };
    tokio::spawn(gateway.run_service(by_path, Hooks::none(), std::future::pending()));
    Host::new(base, app)
}

/// A gateway with two routes.
#[derive(Clone)]
struct ByPath {
    requires: GuardedForward,
    accepts: GuardedForward,
}

impl Service<Request<Incoming>> for ByPath {
    type Response = <GuardedForward as Service<Request<Incoming>>>::Response;
    type Error = <GuardedForward as Service<Request<Incoming>>>::Error;
    type Future = <GuardedForward as Service<Request<Incoming>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        std::task::ready!(self.requires.poll_ready(cx))?;
        self.accepts.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path() == "/orders" {
            self.requires.call(request)
        } else {
            self.accepts.call(request)
        }
    }
}
