//! A client whose orders are made once, however often it has to send them.

use std::io::Write as _;

use reqwest_middleware::ClientWithMiddleware;
use semel_client::reqwest::{client, outcome};
use semel_client::{Outcome, Retries};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = client(reqwest::Client::builder(), Retries::default())?;
    let said = order(&client, "http://127.0.0.1:8080/orders").await?;
    Ok(std::io::stdout().write_all(said.as_bytes())?)
}

async fn order(client: &ClientWithMiddleware, url: &str) -> reqwest::Result<String> {
    let sent = client.post(url).header("content-type", "application/json").body(r#"{"item":7}"#).send().await;
    Ok(match outcome(sent) {
        Outcome::Done(answer) => format!("made: {}", answer.text().await?),
        Outcome::Replayed(answer) => format!("was made before: {}", answer.text().await?),
        Outcome::Rejected(answer) => format!("refused with {}", answer.status()),
        Outcome::NotSent(error) => format!("nothing was sent: {error}"),
        // Keep the key: the same request with it can be sent tomorrow, and still makes one order at most.
        Outcome::Unknown(unknown) => {
            format!(
                "unknown; ask again with the key {}",
                unknown.key.as_ref().and_then(|key| key.as_str()).unwrap_or("that was yours")
            )
        }
    })
}

#[cfg(test)]
mod tests;
