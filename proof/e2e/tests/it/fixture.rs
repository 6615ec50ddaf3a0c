//! What scenarios are given: a host with its application, and how it is started.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use semel_core::policy::PolicyBuilder;
use semel_core::store::AnyStore;
use semel_store_memory::MemoryStore;
use semel_store_sqlite::SqliteStore;
use semel_testkit::wire::Message;

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

/// Runs scenarios over one kind of host, with its records in memory and in a file.
macro_rules! on_host {
    ($host:ident, $($scenario:ident),*) => {
        mod $host {
            mod memory {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $scenario() {
                        let kind = $crate::hosts::$host::HOST.over($crate::fixture::Records::Memory);
                        let told = $crate::table::Told::new(module_path!(), stringify!($scenario));
                        told.judge(super::super::$scenario(kind)).await;
                    }
                )*
            }

            mod sqlite {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $scenario() {
                        let kind = $crate::hosts::$host::HOST.over($crate::fixture::Records::Sqlite);
                        let told = $crate::table::Told::new(module_path!(), stringify!($scenario));
                        told.judge(super::super::$scenario(kind)).await;
                    }
                )*
            }
        }
    };
}
pub(crate) use on_host;
