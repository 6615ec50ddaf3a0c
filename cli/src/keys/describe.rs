//! Records as people and programs read them.

use std::fmt::Write as _;
use std::time::Duration;

use semel_core::record::{RecordView, Recovery, State, Timestamp, codec};
use semel_core::steps::{Progress, StepRecord};
use serde::Serialize;

use crate::units::{show_duration, show_instant, show_size};

/// A record as a JSON object. Times are RFC 3339 by the store's clock.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    id: String,
    state: &'static str,
    /// Unknown for more than 30 days.
    stale: bool,
    attempt: u32,
    fence: u64,
    recovery: &'static str,
    /// Whether it belongs to somebody.
    bound: bool,
    /// Of the kept answer.
    status: Option<u16>,
    body_bytes: u64,
    created: String,
    changed: String,
    age_seconds: u64,
    lease_until: Option<String>,
    expires: Option<String>,
    fingerprint_settings: String,
    /// Of an unfinished run, in their order; results are not shown.
    steps: Vec<StepDocument>,
    /// Why the last attempt could not go on with them.
    steps_trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct StepDocument {
    name: String,
    state: &'static str,
    attempt: u32,
    result_bytes: usize,
}

/// What its steps recorded. Sealed ones, and those of a newer version, are not read: that is said instead.
fn progress(view: &RecordView) -> Progress {
    let Some(recorded) = &view.progress else { return Progress::default() };
    codec::decode_progress(recorded).unwrap_or_else(|error| {
        let mut unread = Progress::default();
        unread.trouble = Some(format!("{} bytes that cannot be read here: {error}", recorded.len()));
        unread
    })
}

impl From<&RecordView> for Document {
    fn from(view: &RecordView) -> Self {
        let progress = progress(view);
        let document = |step: &StepRecord| StepDocument {
            name: step.name.to_string(),
            state: step.state.as_str(),
            attempt: step.attempt,
            result_bytes: step.result.len(),
        };
        Self {
            steps: progress.steps.iter().map(document).collect(),
            steps_trouble: progress.trouble,
            id: view.id.to_string(),
            state: view.state.as_str(),
            stale: view.is_stale(),
            attempt: view.attempt,
            fence: view.fence.get(),
            recovery: view.recovery.as_str(),
            bound: view.principal.is_some(),
            status: view.status.map(|status| status.as_u16()),
            body_bytes: view.body_bytes,
            created: show_instant(view.created),
            changed: show_instant(view.changed),
            age_seconds: view.now.since(view.changed).as_secs(),
            lease_until: view.lease_until.map(show_instant),
            expires: view.expires.map(show_instant),
            fingerprint_settings: view.settings.to_string(),
        }
    }
}

/// Rows under their headings, each column as wide as its widest cell.
pub(super) fn table(views: &[RecordView]) -> String {
    let headings = ["ID", "STATE", "SINCE", "TRY", "ANSWER", "NOTE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(headings).chain(views.iter().map(row)).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(view: &RecordView) -> [String; 6] {
    [
        short(view),
        view.state.as_str().to_owned(),
        format!("{} ago", show_duration(to_the_second(view.now.since(view.changed)))),
        view.attempt.to_string(),
        answer(view),
        note(view),
    ]
}

/// Enough of an id to find it by.
pub(super) fn short(view: &RecordView) -> String {
    view.id.to_string().chars().take(16).collect()
}

fn answer(view: &RecordView) -> String {
    match view.status {
        Some(status) => format!("{} {}", status.as_u16(), show_size(view.body_bytes)),
        None => "-".to_owned(),
    }
}

fn note(view: &RecordView) -> String {
    match (view.state, view.expires) {
        (State::InFlight, _) => format!("lease {}", show_duration(to_the_second(view.lease_remaining()))),
        (State::Unknown, _) if view.is_stale() => "stale: resolve it".to_owned(),
        (State::Unknown, _) => "resolve it".to_owned(),
        (_, Some(end)) => format!("ends in {}", show_duration(to_the_second(end.since(view.now)))),
        (_, None) => String::new(),
    }
}

/// What is the use of milliseconds in an age?
fn to_the_second(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().max(1))
}

/// What `unknown` does and does not say.
const NO_ANSWER: &str = "no answer is known: the run broke off, or is still going on past --max-run";

/// One record in full.
pub(super) fn page(view: &RecordView) -> String {
    let ago = |instant: Timestamp| {
        let age = show_duration(to_the_second(view.now.since(instant)));
        format!("{} ({age} ago)", show_instant(instant))
    };
    let ahead = |instant: Timestamp| {
        if instant > view.now {
            let left = show_duration(to_the_second(instant.since(view.now)));
            format!("{} (in {left})", show_instant(instant))
        } else {
            ago(instant)
        }
    };
    let mut lines = vec![
        ("record", view.id.to_string()),
        ("state", format!("{}{}", view.state.as_str(), if view.is_stale() { " (stale)" } else { "" })),
        ("a retry gets", retry_gets(view)),
        ("answer", answer(view)),
    ];
    if view.state == State::Unknown {
        lines.push(("why", NO_ANSWER.to_owned()));
    }
    lines.extend([
        (
            "belongs to",
            if view.principal.is_some() { "one caller" } else { "nobody in particular" }.to_owned(),
        ),
        ("runs", view.attempt.to_string()),
        ("fence", view.fence.to_string()),
        ("recovery", view.recovery.as_str().to_owned()),
        ("fingerprint", view.settings.to_string()),
        ("created", ago(view.created)),
        ("changed", ago(view.changed)),
    ]);
    if let Some(until) = view.lease_until {
        lines.push(("lease until", ahead(until)));
    }
    let progress = progress(view);
    for (nth, step) in progress.steps.iter().enumerate() {
        let heading = if nth == 0 { "steps" } else { "" };
        let attempt = step.attempt;
        lines.push((heading, format!("{} {} (run {attempt}): {}", nth + 1, step.state.as_str(), step.name)));
    }
    if let Some(trouble) = progress.trouble {
        lines.push(("step trouble", trouble));
    }
    lines.push(("ends", view.expires.map_or_else(|| "never by time".to_owned(), ahead)));
    let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect();
    lines.concat()
}

/// What the engine answers an equal request, in words.
pub(super) fn retry_gets(view: &RecordView) -> String {
    match (view.state, view.recovery) {
        (State::InFlight, Recovery::Takeover) if view.lease_remaining().is_zero() => {
            "a run of its own: the lease is over, and recovery is takeover".to_owned()
        }
        (State::InFlight, _) => "409 in-flight while the first run goes on".to_owned(),
        (State::Completed, _) => match view.status {
            Some(status) if view.body_bytes > 0 => format!("the kept answer: {status}"),
            Some(status) => {
                format!("the kept answer: {status}; 409 replay-unavailable if its body is not kept")
            }
            None => "409 replay-unavailable: it was done, and there is no answer to send".to_owned(),
        },
        (State::Released, _) if view.progress.is_some() => {
            "a run of its own, which goes on after the last step that is done".to_owned()
        }
        (State::Released, _) => "a run of its own: nothing was done".to_owned(),
        (State::Unknown, _) => "409 outcome-unknown until it is settled: `semel keys resolve`".to_owned(),
    }
}
