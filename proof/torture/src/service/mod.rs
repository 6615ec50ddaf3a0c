//! The service: transfers over HTTP, each one commit with its record.

mod mysql;
#[cfg(feature = "planted")]
mod planted;
mod postgres;
mod sqlite;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use clap::{Args, ValueEnum};

use crate::Failure;
#[cfg(feature = "planted")]
pub(crate) use planted::cannot;

/// Short, so that pauses outlast it.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// What a service is started with.
#[derive(Args)]
pub(crate) struct Serve {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    url: String,
    #[arg(long, value_enum)]
    mistake: Option<Mistake>,
}

/// A mistake that a service makes on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mistake {
    /// The completion does not look whether the record is still the run's.
    NoFence,
    /// The answer leaves before the commit.
    AnswerFirst,
    /// No Semel: the key is written in the transaction of its effect, and nobody looks whether it was there.
    ClaimUnfenced,
}

impl Mistake {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoFence => "no-fence",
            Self::AnswerFirst => "answer-first",
            Self::ClaimUnfenced => "claim-unfenced",
        }
    }
}

/// Makes the bank's tables.
pub(crate) async fn found(url: &str) -> Result<(), Failure> {
    match url.split_once(':') {
        Some(("sqlite", path)) => sqlite::found(path).await,
        Some(("mysql", _)) => mysql::found(url).await,
        _ => postgres::found(url).await,
    }
}

pub(crate) async fn serve(serve: Serve) -> Result<(), Failure> {
    let app = app(&serve.url, serve.mistake).await?;
    let listener = tokio::net::TcpListener::bind(serve.listen).await?;
    Ok(axum::serve(listener, app).await?)
}

async fn app(url: &str, mistake: Option<Mistake>) -> Result<Router, Failure> {
    match (url.split_once(':'), mistake) {
        (Some(("sqlite", path)), None) => sqlite::app(path),
        (Some(("mysql", _)), None) => mysql::app(url).await,
        (_, None) => postgres::app(url).await,
        #[cfg(feature = "planted")]
        (_, Some(mistake)) => planted::app(url, mistake).await,
        #[cfg(not(feature = "planted"))]
        (_, Some(mistake)) => Err(format!("this build makes no mistake {}", mistake.name()).into()),
    }
}
