//! Requests, answers, servers on sockets, and a count of what was done.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServerHandle, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, read_body};
use actix_web::{App, HttpServer, web};
use semel_driver::Idempotency;
use semel_store_memory::MemoryStore;

pub(crate) fn memory() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).build().unwrap()
}

/// A POST to `/orders` of `{}` under this key.
pub(crate) fn order(key: &str) -> TestRequest {
    TestRequest::post()
        .uri("/orders")
        .insert_header(("host", "shop.test"))
        .insert_header(("idempotency-key", format!("\"{key}\"")))
        .insert_header(("content-type", "application/json"))
        .set_payload("{}")
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) async fn of<B: MessageBody>(response: ServiceResponse<B>) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read_body(response).await;
        Self { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(crate) fn replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
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

/// A server with one worker, on a thread of its own, which ends with this.
pub(crate) struct Server {
    pub(crate) base: SocketAddr,
    pub(crate) handle: ServerHandle,
}

impl Server {
    pub(crate) fn start(routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || App::new().configure(routes.clone()))
                    .workers(1)
                    .disable_signals()
                    .listen(listener)
                    .unwrap()
                    .run();
                tell.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { base, handle: told.recv_timeout(Duration::from_secs(20)).unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is sent at once; nobody waits for the end.
        drop(self.handle.stop(false));
    }
}

/// A test that waits for what never comes fails.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen in time")
}
