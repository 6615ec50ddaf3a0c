//! An axum application that charges and mails once, however often it crashes between the two.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Router, routing::post};
use semel::{Idempotency, IdempotencyLayer, SqliteStore, StepError, Steps, StepsError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.db")?;
    let idempotency = Idempotency::builder(store).require_key().steps().build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app(idempotency, Payments::default())).await?)
}

fn app(idempotency: Idempotency, payments: Payments) -> Router {
    Router::new().route("/orders", post(order)).layer(IdempotencyLayer::new(idempotency)).with_state(payments)
}

async fn order(
    State(payments): State<Payments>,
    mut steps: Steps,
) -> Result<(StatusCode, String), StepsError> {
    let charge = steps.run("charge", async |key| {
        // `key` is the same at every attempt: the provider charges once for it.
        match payments.charge(500, key.as_str()).await? {
            Charged::Yes(id) => Ok(id),
            Charged::Declined => Err(StepError::final_("card declined")),
        }
    });
    let charge = match charge.await {
        Err(error) if error.final_text() == Some("card declined") => {
            return Ok((StatusCode::PAYMENT_REQUIRED, "the card was declined\n".to_owned()));
        }
        // A time-out, for one: 503, and the retry with the same key goes on from here.
        charge => charge?,
    };
    steps.run("mail", async |key| Ok(payments.mail(&charge, key.as_str()).await?)).await?;
    Ok((StatusCode::CREATED, format!("charged as {charge}\n")))
}

/// Stands for a payment provider, which knows its own idempotency keys.
#[derive(Clone, Debug, Default)]
struct Payments(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

enum Charged {
    Yes(String),
    Declined,
}

impl Payments {
    async fn charge(&self, cents: u64, key: &str) -> Result<Charged, std::io::Error> {
        if cents > 100_000 {
            return Ok(Charged::Declined);
        }
        self.once(&format!("charge {key}")).await?;
        Ok(Charged::Yes(format!("ch_{}", &key[..8])))
    }

    async fn mail(&self, charge: &str, key: &str) -> Result<(), std::io::Error> {
        self.once(&format!("mail {charge} {key}")).await
    }

    async fn once(&self, what: &str) -> Result<(), std::io::Error> {
        // The network.
        tokio::task::yield_now().await;
        let mut done = self.0.lock().map_err(|_| std::io::Error::other("the provider is gone"))?;
        if !done.iter().any(|before| before == what) {
            done.push(what.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
