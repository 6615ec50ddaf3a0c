//! What scenarios are given: a host with its application, and how it is started.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_testkit::wire::Message;

use crate::app::App;
use crate::client::{Connection, PATIENCE, Try};
use crate::records::Records;

/// Changes the rules of both routes from their defaults.
pub(crate) type Rules = fn(PolicyBuilder) -> PolicyBuilder;

/// A server with the application behind Semel: `POST /orders` requires a key, `POST /notes` and
/// `PATCH /orders/{id}` accept one.
pub(crate) struct Host {
    pub(crate) base: SocketAddr,
    pub(crate) app: App,
    /// Ends what does not end with the test's runtime.
    _server: Option<Box<dyn Send>>,
    /// What its records lie in, which goes with it.
    _records: Option<Box<dyn Send>>,
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

/// How a host is started, and where its records lie.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    start: fn(AnyStore, Rules) -> Starting,
    pub(crate) records: Records,
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
        let (store, lie_in) = self.records.open().await;
        let host = self.start_on(store, rules).await;
        Host { _records: Some(lie_in), ..host }
    }

    pub(crate) async fn start_on(self, store: AnyStore, rules: Rules) -> Host {
        (self.start)(store, rules).await
    }
}

/// Runs scenarios over one kind of host, with its records in memory, in a file, and on a server.
macro_rules! on_host {
    ($host:ident, $($scenario:ident),*) => {
        $crate::fixture::on_host!(hosts: $host, $($scenario),*);
    };
    ($($hosts:ident)::*: $host:ident, $($scenario:ident),*) => {
        mod $host {
            use $crate::$($hosts::)*$host::HOST;

            $crate::fixture::over!(memory, Memory, $($scenario),*);
            $crate::fixture::over!(sqlite, Sqlite, $($scenario),*);
            $crate::fixture::over!(postgres, Postgres, $($scenario),*);
        }
    };
}
pub(crate) use on_host;

macro_rules! over {
    ($name:ident, $records:ident, $($scenario:ident),*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let kind = super::HOST.over($crate::records::Records::$records);
                    let told = $crate::table::Told::new(module_path!(), stringify!($scenario));
                    told.judge(kind.records, super::super::$scenario(kind)).await;
                }
            )*
        }
    };
}
pub(crate) use over;
