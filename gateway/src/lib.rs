//! Semel as a reverse proxy before an application in any language.
//!
//! [`Gateway`] binds, runs and shuts down. [`Forward`] is the service that sends a request on to the application;
//! when that fails, its [`UpstreamError`] says whether the application may have seen the request
//! ([`Dispatch`]). A request of which one byte was written is never sent a second time.
//!
//! ```no_run
//! use semel_gateway::{Gateway, GatewayConfig};
//!
//! # async fn example(store: semel_store_memory::MemoryStore) -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = GatewayConfig::new("http://127.0.0.1:3000".parse()?);
//! config.listen = ([127, 0, 0, 1], 8080).into();
//! let gateway = Gateway::bind(config)?;
//! let idempotency = semel_driver::Idempotency::builder(store).build()?;
//! gateway.run_guarded(idempotency, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A store that is down at start
//!
//! [`Gateway::run_opening`] serves while the store is still being opened: `/readyz` says why it is not ready, guarded
//! requests get 503 `store-unavailable`, all others pass. A [`NotOpen`] stands in for the store.
//!
//! # What it refuses
//!
//! Requests that two parsers could read in two ways get 400, and their connection ends, before anything of them
//! goes on: `Content-Length` with `Transfer-Encoding`, either of them twice or malformed, a transfer coding other
//! than `chunked`, bare CR or LF, NUL, folded lines, a space before a colon, more or fewer than one `Host`, bytes
//! behind a request for an upgrade. A malformed chunk is found when it arrives; what was sent on by then is cut off.
//!
//! # Limits
//!
//! [`Limits`] and [`Timeouts`]: every count, size and duration, with its default.
//!
//! # Errors
//!
//! [`ConfigError`] and [`GatewayError`] at the start, each with the setting and what to do. A request is never failed by an
//! error: it gets an answer, of which [`UpstreamError`] decides what it says.

mod admin;
mod answer;
mod config;
mod forward;
mod gateway;
mod guarded;
mod hooks;
mod listener;
mod opening;
mod upstream;

pub use answer::{Answering, AnsweringFuture};
pub use config::{ConfigError, ForwardedPolicy, GatewayConfig, HostPolicy, Limits, Timeouts, UpstreamUrl};
pub use forward::{Forward, Peer};
pub use gateway::{Gateway, GatewayError, Stopped};
pub use guarded::GuardedForward;
pub use hooks::Hooks;
pub use opening::NotOpen;
pub use upstream::{BoxError, Dispatch, RequestBody, ResponseBody, UpstreamError, UpstreamErrorKind};
