//! A poem application whose orders are made once, however often they are sent.

mod guard;

use poem::listener::TcpListener;
use poem::web::Data;
use poem::{EndpointExt as _, IntoEndpoint, Route, Server, handler, post};
use semel::{Idempotency, Idempotent, SqliteStore};

use guard::Guard;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    Ok(Server::new(TcpListener::bind("127.0.0.1:3000")).run(app(idempotency)).await?)
}

fn app(idempotency: Idempotency) -> impl IntoEndpoint<Endpoint: 'static> {
    Route::new().at("/orders", post(order).with(Guard(idempotency)))
}

#[handler]
fn order(Data(run): Data<&Idempotent>) -> String {
    format!("made by attempt {}\n", run.attempt)
}

#[cfg(test)]
mod tests;
