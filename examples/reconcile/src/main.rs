//! Settles what a crash left unknown, by the application's own data.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{Request, StatusCode};
use axum::{Router, routing::post};
use semel::record::{Completion, State};
use semel::store::{StoreError, Verdict};
use semel::{Address, Idempotency, IdempotencyLayer, MemoryStore, Run};
use tower::ServiceExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orders = Orders::default();
    let idempotency = Idempotency::builder(MemoryStore::new()).require_key().build()?;
    let app = app(idempotency.clone(), orders.clone());
    for key in ["made", "lost"] {
        println!("{key}: first try {}", send(&app, key).await?);
        println!("{key}: retry {}", send(&app, key).await?);
        reconcile(&idempotency, &orders, key).await?;
        println!("{key}: retry after reconciling {}", send(&app, key).await?);
    }
    Ok(())
}

/// Settles the record of one key, if its outcome is unknown, by what the application knows.
async fn reconcile(idempotency: &Idempotency, orders: &Orders, key: &str) -> Result<(), StoreError> {
    let address = Address::key(key);
    let Some(record) = idempotency.inspect(&address).await? else { return Ok(()) };
    if record.state != State::Unknown {
        return Ok(());
    }
    let verdict = match orders.by_key(key) {
        Some(_) => Verdict::Applied(Arc::new(Completion::default())),
        None => Verdict::NotApplied,
    };
    // Refused if somebody else was faster: then there is nothing left to do.
    let _resolved = idempotency.resolve(&address, verdict).await?;
    Ok(())
}

/// The application's own table. It keeps the key with each order, so that it can be asked.
#[derive(Clone, Default)]
struct Orders(Arc<Mutex<Vec<String>>>);

impl Orders {
    fn add(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(key.to_owned());
    }

    fn by_key(&self, key: &str) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().position(|made| made == key)
    }
}

fn app(idempotency: Idempotency, orders: Orders) -> Router {
    Router::new().route("/orders", post(order)).layer(IdempotencyLayer::new(idempotency)).with_state(orders)
}

/// Loses its own upstream on the first try: after the order with the key `made`, before it with any other.
async fn order(Shared(orders): Shared<Orders>, run: Run) -> StatusCode {
    if run.attempt == 1 && run.key.as_str() != "made" {
        return StatusCode::GATEWAY_TIMEOUT;
    }
    orders.add(run.key.as_str());
    if run.attempt == 1 { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::CREATED }
}

async fn send(app: &Router, key: &str) -> Result<StatusCode, axum::http::Error> {
    let request = Request::post("/orders").header("idempotency-key", key).body(Body::empty())?;
    let Ok(response) = app.clone().oneshot(request).await;
    Ok(response.status())
}

#[cfg(test)]
mod tests;
