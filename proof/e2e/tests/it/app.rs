//! The application under guard: orders and notes. It knows nothing of keys.
//!
//! A test steers one request by fields: `x-status` is the status to answer, `x-add: name: value` a field to add,
//! `x-hold` waits for [`App::let_go`] after the effect, `x-panic` panics there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, patch, post};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

struct Inner {
    effects: AtomicUsize,
    version: AtomicUsize,
    held: Semaphore,
}

impl App {
    pub(crate) fn new() -> Self {
        let (effects, version) = (AtomicUsize::new(0), AtomicUsize::new(1));
        Self(Arc::new(Inner { effects, version, held: Semaphore::new(0) }))
    }

    /// How often something was really done.
    pub(crate) fn effects(&self) -> usize {
        self.0.effects.load(Ordering::SeqCst)
    }

    /// Lets this many held requests go on.
    pub(crate) fn let_go(&self, count: usize) {
        self.0.held.add_permits(count);
    }

    /// `/orders`, without layers.
    pub(crate) fn orders(&self) -> Router {
        Router::new().route("/orders", post(make)).with_state(self.clone())
    }

    /// `/notes`, without layers.
    pub(crate) fn notes(&self) -> Router {
        Router::new().route("/notes", post(make)).with_state(self.clone())
    }

    /// `/orders/{id}`, without layers.
    pub(crate) fn order(&self) -> Router {
        Router::new().route("/orders/{id}", get(read).put(make).merge(patch(change))).with_state(self.clone())
    }
}

/// What a handler answers, of whatever framework.
pub(crate) type Answer = (StatusCode, HeaderMap, String);

async fn make(State(app): State<App>, request: HeaderMap, body: axum::body::Bytes) -> Answer {
    app.make(&request, body.len()).await
}

async fn read(Path(id): Path<usize>) -> Answer {
    App::read(id)
}

async fn change(State(app): State<App>, request: HeaderMap) -> Answer {
    app.change(&request)
}

impl App {
    /// `POST`: makes an order or a note.
    pub(crate) async fn make(&self, request: &HeaderMap, body: usize) -> Answer {
        let Self(app) = self;
        let effect = app.effects.fetch_add(1, Ordering::SeqCst) + 1;
        if request.contains_key("x-hold") {
            app.held.acquire().await.unwrap().forget();
        }
        assert!(!request.contains_key("x-panic"), "as the request asks");
        let status = request
            .get("x-status")
            .map_or(StatusCode::CREATED, |status| status.as_bytes().try_into().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::LOCATION, HeaderValue::try_from(format!("/orders/{effect}")).unwrap());
        for line in request.get_all("x-add") {
            let (name, value) = line.to_str().unwrap().split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        }
        let told = |name: &str| request.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        // The nonce shows a second run, whatever the counter says.
        let answer = serde_json::json!({
            "order": effect,
            "nonce": fastrand::u64(..).to_string(),
            "bytes": body,
            "attempt": told("idempotency-attempt"),
            "outcome": told("idempotency-outcome"),
            "accept-encoding": told("accept-encoding"),
        });
        let empty = matches!(status.as_u16(), 204 | 303 | 307);
        (status, headers, if empty { String::new() } else { answer.to_string() })
    }

    /// `GET`.
    pub(crate) fn read(id: usize) -> Answer {
        (StatusCode::OK, HeaderMap::new(), format!("{{\"order\":{id}}}"))
    }

    /// `PATCH`: changes an order if its version is still the client's (RFC 9110, section 13.1.1).
    pub(crate) fn change(&self, request: &HeaderMap) -> Answer {
        let version = self.0.version.load(Ordering::SeqCst);
        if request
            .get(header::IF_MATCH)
            .is_none_or(|tag| tag.as_bytes() != format!("\"{version}\"").as_bytes())
        {
            return (StatusCode::PRECONDITION_FAILED, HeaderMap::new(), String::new());
        }
        self.0.effects.fetch_add(1, Ordering::SeqCst);
        let version = self.0.version.fetch_add(1, Ordering::SeqCst) + 1;
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::try_from(format!("\"{version}\"")).unwrap());
        (StatusCode::OK, headers, format!("{{\"version\":{version}}}"))
    }
}
