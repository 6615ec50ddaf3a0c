//! Requests, answers, servers on sockets, and a count of what was done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket::fairing::AdHoc;
use rocket::http::{Header, HeaderMap};
use rocket::local::asynchronous::{Client, LocalRequest, LocalResponse};
use rocket::{Build, Config, Ignite, Rocket, Shutdown, State};
use semel_driver::Idempotency;
use semel_rocket::IdempotencyFairing;
use semel_store_memory::MemoryStore;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub(crate) fn memory() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).build().unwrap()
}

/// A Rocket that listens on a free port and says nothing.
pub(crate) fn quiet() -> Rocket<Build> {
    let config = Config::figment()
        .merge(("address", "127.0.0.1"))
        .merge(("port", 0))
        .merge(("log_level", "off"))
        .merge(("shutdown.ctrlc", false));
    rocket::custom(config)
}

/// Guarded routes whose handlers count what they do.
pub(crate) fn counted(idempotency: &Idempotency, effects: &Effects) -> IdempotencyFairing {
    IdempotencyFairing::new(idempotency.clone()).around(quiet().manage(effects.clone()))
}

/// In process.
pub(crate) async fn client(guarded: IdempotencyFairing) -> Client {
    Client::untracked(quiet().attach(guarded)).await.unwrap()
}

/// A POST to `/orders` of `{}` under this key.
pub(crate) fn order<'c>(client: &'c Client, key: &str) -> LocalRequest<'c> {
    client
        .post("/orders")
        .header(Header::new("host", "shop.test"))
        .header(Header::new("idempotency-key", format!("\"{key}\"")))
        .header(Header::new("content-type", "application/json"))
        .body("{}")
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap<'static>,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) async fn of(request: LocalRequest<'_>) -> Self {
        Self::read(request.dispatch().await).await
    }

    pub(crate) async fn read(response: LocalResponse<'_>) -> Self {
        let mut headers = HeaderMap::new();
        for header in response.headers().iter() {
            headers.add_raw(header.name().to_string(), header.value().to_owned());
        }
        let status = response.status().code;
        Self { status, headers, text: response.into_string().await.unwrap_or_default() }
    }

    pub(crate) fn replayed(&self) -> bool {
        self.headers.get_one("idempotency-replayed") == Some("true")
    }

    /// The code of a problem document.
    pub(crate) fn code(&self) -> &str {
        let start = self.text.find("\"code\":\"").map(|at| at + 8);
        start
            .and_then(|start| self.text[start..].split('"').next())
            .unwrap_or_else(|| panic!("no problem: {self:?}"))
    }
}

/// Counts effects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects(Arc<AtomicUsize>);

impl Effects {
    /// One more; gives how many there are now.
    pub(crate) fn take(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until there is one.
    pub(crate) async fn begun(&self) {
        let begun = async {
            while self.count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        bounded(begun).await;
    }
}

/// Where [`held`] waits.
pub(crate) type Gate = Arc<Semaphore>;

/// Waits at the gate after its effect.
#[rocket::post("/", data = "<_body>")]
pub(crate) async fn held(_body: Vec<u8>, effects: &State<Effects>, gate: &State<Gate>) -> String {
    let n = effects.take();
    gate.acquire().await.unwrap().forget();
    n.to_string()
}

/// Answers which effect it was.
#[rocket::post("/")]
pub(crate) fn made(effects: &State<Effects>) -> String {
    effects.take().to_string()
}

/// On a socket, in the test's runtime.
pub(crate) struct Server {
    pub(crate) base: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: JoinHandle<Result<Rocket<Ignite>, rocket::Error>>,
}

impl Server {
    pub(crate) async fn start(rocket: Rocket<Build>) -> Self {
        let (tell, told) = oneshot::channel();
        let listening = AdHoc::on_liftoff("listening", |rocket| {
            Box::pin(async move {
                let base = (rocket.config().address, rocket.config().port).into();
                assert!(tell.send((base, rocket.shutdown())).is_ok());
            })
        });
        let ended = tokio::spawn(rocket.attach(listening).launch());
        let (base, shutdown) = bounded(told).await.unwrap();
        Self { base, shutdown, ended }
    }
}

/// A test that waits for what never comes fails.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen in time")
}
