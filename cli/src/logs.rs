//! Where the log goes: standard error, filtered by `SEMEL_LOG`, else `RUST_LOG`.

use std::io::{self, IsTerminal as _};

use semel_core::observe::Event;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::exit::Fault;

/// Without a span for each guarded request: nobody collects them here unless told to, and they cost something.
const DEFAULT: &str = "info,semel::request=off";

/// Starts the log.
pub(crate) fn start(format: LogFormat) -> Result<(), Fault> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter()?).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}

fn filter() -> Result<EnvFilter, Fault> {
    let set =
        |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty()).map(|text| (name, text));
    let Some((name, text)) = set("SEMEL_LOG").or_else(|| set("RUST_LOG")) else {
        return Ok(EnvFilter::new(DEFAULT));
    };
    EnvFilter::try_new(text)
        .map_err(|error| Fault::config(format!("{name}: {error}; write for example info or semel=debug")))
}

/// Writes down what an operator has to know. Events carry neither keys nor credentials nor bodies.
pub(crate) fn event(event: &Event<'_>) {
    match event {
        Event::Abandoned { id, attempt, fence } => {
            tracing::warn!(record = %id, attempt, %fence, "a run ended without an answer: its outcome is unknown");
        }
        Event::Superseded { id, fence, by, .. } => {
            tracing::warn!(record = %id, %fence, %by, "a late answer was dropped: somebody else settled its record");
        }
        Event::RunTooLong { id, fence } => {
            tracing::warn!(record = %id, %fence, "a run is longer than --max-run: its lease is no longer renewed");
        }
        Event::LateCompletion { id, fence } => {
            tracing::info!(record = %id, %fence, "a run ended after its lease: its answer counts");
        }
        Event::FailedOpen => tracing::warn!("the store failed: a request ran unguarded"),
        Event::StoreFailed { step, kind, will_retry } => {
            tracing::warn!(step, ?kind, will_retry, "the store failed");
        }
        Event::Swept { swept } if swept.unknown > 0 => {
            tracing::warn!(
                unknown = swept.unknown,
                "runs ended without an answer: `semel keys list --state unknown`"
            );
        }
        other => tracing::debug!(record = other.id().map(tracing::field::display), "{}", other.name()),
    }
}
