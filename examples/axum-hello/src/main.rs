//! An axum application whose orders are made once, however often they are sent.

use axum::{Router, routing::post};
use semel::{Idempotency, IdempotencyLayer, Run, SqliteStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(idempotency)).await?)
}

fn app(idempotency: Idempotency) -> Router {
    Router::new().route("/orders", post(order)).layer(IdempotencyLayer::new(idempotency))
}

async fn order(run: Run) -> String {
    format!("made by attempt {}\n", run.attempt)
}

#[cfg(test)]
mod tests;
