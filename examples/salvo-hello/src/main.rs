//! A salvo application whose orders are made once, however often they are sent.

mod guard;

use salvo::conn::{Listener as _, TcpListener};
use salvo::{Request, Router, Server, handler};
use semel::{Idempotency, Idempotent, SqliteStore};

use guard::Guard;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    let acceptor = TcpListener::new("127.0.0.1:3000").try_bind().await?;
    Server::new(acceptor).serve(app(idempotency)).await;
    Ok(())
}

fn app(idempotency: Idempotency) -> Router {
    Router::with_path("orders").hoop(Guard(idempotency)).post(order)
}

#[handler]
async fn order(request: &Request) -> String {
    let run = request.extensions().get::<Idempotent>();
    format!("made by attempt {}\n", run.map_or(0, |run| run.attempt))
}

#[cfg(test)]
mod tests;
