//! Hosts that scenarios run over. A new kind of host is one more constructor here and one more line in
//! `on_every_host!`.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_gateway::{Gateway, GatewayConfig, GuardedForward, Hooks};
use semel_store_memory::MemoryStore;
use semel_store_sqlite::SqliteStore;
use semel_testkit::wire::Message;
use semel_tower::{Idempotency, IdempotencyLayer};
use tokio::net::TcpListener;
use tower_service::Service;

use crate::app::App;
use crate::client::{Connection, PATIENCE, Try};

/// Changes the rules of both routes from their defaults.
pub(crate) type Rules = fn(PolicyBuilder) -> PolicyBuilder;

/// A server with the application behind Semel: `POST /orders` requires a key, `POST /notes` and
/// `PATCH /orders/{id}` accept one.
pub(crate) struct Host {
    pub(crate) base: SocketAddr,
    pub(crate) app: App,
    /// Ends what does not end with the test's runtime.
    _server: Option<Box<dyn Send>>,
    _records: Option<tempfile::TempDir>,
}

impl Host {
    pub(crate) fn new(base: SocketAddr, app: App) -> Self {
        Self { base, app, _server: None, _records: None }
    }

    pub(crate) fn ending(self, server: impl Send + 'static) -> Self {
        Self { _server: Some(Box::new(server)), ..self }
    }

    /// How often the application really did something.
    pub(crate) fn effects(&self) -> usize {
        self.app.effects()
    }

    /// Sends a request over a connection of its own.
    pub(crate) async fn send(&self, request: &Try) -> Message {
        self.open().await.ask(request).await
    }

    pub(crate) async fn open(&self) -> Connection {
        Connection::open(self.base).await
    }

    /// Sends in the background.
    pub(crate) fn start(&self, request: &Try) -> tokio::task::JoinHandle<Message> {
        let (base, request) = (self.base, request.clone());
        tokio::spawn(async move { Connection::open(base).await.ask(&request).await })
    }

    /// Waits until the application has done this much.
    pub(crate) async fn reaches(&self, effects: usize) {
        let reached = async {
            while self.effects() < effects {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the application was not reached in time");
    }
}

/// How a host is started, and where its records are unless a scenario brings a store.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    start: fn(AnyStore, Rules) -> Starting,
    records: Records,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Records {
    Memory,
    Sqlite,
}

type Starting = Pin<Box<dyn Future<Output = Host> + Send>>;

impl Kind {
    pub(crate) const fn new(start: fn(AnyStore, Rules) -> Starting) -> Self {
        Self { start, records: Records::Memory }
    }

    pub(crate) const fn over(self, records: Records) -> Self {
        Self { records, ..self }
    }

    pub(crate) async fn start(self) -> Host {
        self.start_with(|rules| rules).await
    }

    pub(crate) async fn start_with(self, rules: Rules) -> Host {
        match self.records {
            Records::Memory => self.start_on(AnyStore::new(MemoryStore::new()), rules).await,
            Records::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let store = SqliteStore::open(folder.path().join("records.db")).unwrap();
                let host = self.start_on(AnyStore::new(store), rules).await;
                Host { _records: Some(folder), ..host }
            }
        }
    }

    pub(crate) async fn start_on(self, store: AnyStore, rules: Rules) -> Host {
        (self.start)(store, rules).await
    }
}

/// `axum::serve` on a loopback socket, with a layer a route.
pub(crate) const AXUM: Kind = Kind::new(|store, rules| Box::pin(axum_host(store, rules)));

async fn axum_host(store: AnyStore, rules: Rules) -> Host {
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

/// The gateway before the same application, which listens on a socket of its own and has no layers.
pub(crate) const GATEWAY: Kind = Kind::new(|store, rules| Box::pin(gateway_host(store, rules)));

async fn gateway_host(store: AnyStore, rules: Rules) -> Host {
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

/// Runs scenarios over every kind of host, with its records in memory and in a file. A host that is not listed is dead
/// code, and the compiler says so.
macro_rules! on_every_host {
    ($($scenario:ident),* $(,)?) => {
        crate::fixture::on_host!(axum, crate::fixture::AXUM, $($scenario),*);
        crate::fixture::on_host!(hyper, crate::servers::HYPER, $($scenario),*);
        crate::fixture::on_host!(actix, crate::servers::ACTIX, $($scenario),*);
        crate::fixture::on_host!(gateway, crate::fixture::GATEWAY, $($scenario),*);
    };
}
pub(crate) use on_every_host;

macro_rules! on_host {
    ($host:ident, $kind:expr, $($scenario:ident),*) => {
        mod $host {
            mod memory {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $scenario() {
                        let kind = $kind.over($crate::fixture::Records::Memory);
                        let told = $crate::table::Told::new(module_path!(), stringify!($scenario));
                        told.judge(super::super::$scenario(kind)).await;
                    }
                )*
            }

            mod sqlite {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $scenario() {
                        let kind = $kind.over($crate::fixture::Records::Sqlite);
                        let told = $crate::table::Told::new(module_path!(), stringify!($scenario));
                        told.judge(super::super::$scenario(kind)).await;
                    }
                )*
            }
        }
    };
}
pub(crate) use on_host;
