//! A Rocket whose orders are made once, however often they are sent.

use rocket::{Build, Rocket, post, routes};
use semel_rocket::{Idempotency, IdempotencyFairing, Run};
use semel_store_sqlite::SqliteStore;

#[rocket::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().build()?;
    shop(idempotency).launch().await?;
    Ok(())
}

fn shop(idempotency: Idempotency) -> Rocket<Build> {
    rocket::build().attach(IdempotencyFairing::new(idempotency).mount("/orders", routes![order]))
}

#[post("/")]
fn order(run: &Run) -> String {
    format!("made by attempt {}\n", run.attempt)
}

#[cfg(test)]
mod tests;
