//! An actix-web application whose orders are made once, however often they are sent.

use actix_web::{App, HttpServer, web};
use semel_actix::{Idempotency, IdempotencyMiddleware, Run};
use semel_store_sqlite::SqliteStore;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    let server = HttpServer::new(move || App::new().configure(routes(&idempotency)));
    Ok(server.bind(("127.0.0.1", 3000))?.run().await?)
}

fn routes(idempotency: &Idempotency) -> impl FnOnce(&mut web::ServiceConfig) + use<> {
    let guard = IdempotencyMiddleware::new(idempotency.clone());
    |app| {
        app.service(web::resource("/orders").wrap(guard).route(web::post().to(order)));
    }
}

async fn order(run: Run) -> String {
    format!("made by attempt {}\n", run.attempt)
}

#[cfg(test)]
mod tests;
