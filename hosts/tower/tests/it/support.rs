//! Requests, answers, and a service that counts what it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use semel_store_memory::MemoryStore;
use semel_tower::Idempotency;

pub(crate) fn memory() -> Idempotency {
    Idempotency::builder(MemoryStore::new()).build().unwrap()
}

/// A POST to `/orders` under this key.
pub(crate) fn keyed(key: &str) -> http::request::Builder {
    Request::post("/orders").header("host", "shop.test").header("idempotency-key", format!("\"{key}\""))
}

pub(crate) fn order(key: &str) -> Request<Full<Bytes>> {
    keyed(key).body(Full::from("{}")).unwrap()
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Seen {
    pub(crate) async fn of<B>(response: Response<B>) -> Self
    where
        B: http_body::Body,
        B::Error: std::fmt::Debug,
    {
        let (parts, body) = response.into_parts();
        let whole = body.collect().await.unwrap();
        let trailers = whole.trailers().cloned();
        Self { status: parts.status, headers: parts.headers, body: whole.to_bytes(), trailers }
    }

    pub(crate) fn replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// The code of a problem document.
    pub(crate) fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let start = text.find("\"code\":\"").map(|at| at + 8);
        start
            .and_then(|start| text[start..].split('"').next())
            .unwrap_or_else(|| panic!("no problem: {text}"))
            .to_owned()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
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

/// A test that waits for what never comes fails.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen in time")
}
