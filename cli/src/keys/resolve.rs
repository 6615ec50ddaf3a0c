//! `semel keys resolve`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use semel_core::policy::HeaderRules;
use semel_core::record::{ClaimId, Completion, Fence, Retention, StoredBody, StoredResponse};
use semel_core::store::{Resolution, Resolved, Verdict};
use serde::Serialize;

use super::describe::{Document, retry_gets, short};
use super::find::find;
use crate::args::ResolveArgs;
use crate::exit::{Exit, Fault};
use crate::out;

#[derive(Debug, Serialize)]
struct Outcome {
    resolved: bool,
    record: Document,
}

/// To release a record stops nothing.
const STILL_RUNNING: &str = "\
note: a run that took longer than --max-run may STILL be going on in a live proxy; the next retry runs beside it
";

pub(super) async fn run(args: ResolveArgs) -> Result<Exit, Fault> {
    let verdict = verdict(&args)?;
    let retention = retention(&args)?;
    let store = super::open(&args.store)?;
    let before = find(&store, &args.which).await?;
    let resolution = Resolution {
        op: random_id()?,
        expect: args.expect_fence.and_then(|fence| Fence::new(fence.get())),
        verdict,
        retention,
    };
    let (resolved, view) = match store.resolve(&before.id, &resolution).await? {
        Resolved::Applied(view) => (true, view),
        Resolved::Refused(view) => (false, view),
        Resolved::Absent => {
            return Err(Fault::new(Exit::Negative, format!("record {} is gone", before.id)));
        }
    };
    if args.store.json {
        out::json(&Outcome { resolved, record: Document::from(&*view) })?;
    } else if resolved {
        let said = [short(&view), view.state.as_str().to_owned(), retry_gets(&view)];
        let [record, state, gets] = said;
        out::print(format!("resolved: {record} is {state} now\na retry gets {gets}\n"))?;
        if args.not_applied {
            out::print(STILL_RUNNING)?;
        }
    }
    if resolved {
        return Ok(Exit::Ok);
    }
    Err(Fault::new(
        Exit::Negative,
        format!(
            "not resolved: record {} is {} with fence {}; only an unknown record whose fence is the expected one \
             is settled by hand",
            short(&view),
            view.state.as_str(),
            view.fence,
        ),
    ))
}

/// As the proxy that made the record would have kept it.
fn retention(args: &ResolveArgs) -> Result<Retention, Fault> {
    let retention = Retention { body: args.keep_bodies, record: args.keep_records, ..Retention::default() };
    if retention.record < retention.body {
        return Err(Fault::usage(
            "--keep-records is shorter than --keep-bodies: a body cannot outlive its record",
        ));
    }
    Ok(retention)
}

fn verdict(args: &ResolveArgs) -> Result<Verdict, Fault> {
    if args.not_applied {
        return Ok(Verdict::NotApplied);
    }
    let Some(status) = args.status else { return Ok(Verdict::Applied(Arc::new(Completion::default()))) };
    let body = match &args.body_file {
        Some(path) => std::fs::read(path).map_err(|error| {
            Fault::config(format!("--body-file: cannot read {}: {error}", path.display()))
        })?,
        None => Vec::new(),
    };
    // RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5.
    if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
        return Err(Fault::usage(format!(
            "--body-file: an answer with status {} has no body",
            status.as_u16()
        )));
    }
    let mut headers = HeaderMap::new();
    for line in &args.header {
        let (name, value) = header(line)?;
        headers.append(name, value);
    }
    let response = StoredResponse {
        status,
        headers: HeaderRules::default().to_store(&headers),
        body: StoredBody::Kept(Bytes::from(body)),
        trailers: None,
        origin: None,
    };
    Ok(Verdict::Applied(Arc::new(Completion { response: Some(response), reference: None })))
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), Fault> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    parsed.ok_or_else(|| {
        Fault::usage("--header: write a field's name and value, such as 'Location: /orders/7'")
    })
}

/// This resolution's own number, so that the store knows it when it is sent twice.
fn random_id() -> Result<ClaimId, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(Exit::System, format!("the system gives no random numbers: {error}")))?;
    Ok(ClaimId::from_u128(u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("Location: /orders/7").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("location", "/orders/7"));
        for line in ["Location", "Lo cation: x", "A: b\nC: d"] {
            assert_eq!(header(line).unwrap_err().exit(), Exit::Usage, "{line}");
        }
    }
}
