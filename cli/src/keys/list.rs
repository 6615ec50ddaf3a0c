//! `semel keys list`.

use semel_core::record::RecordId;
use semel_core::store::Query;
use serde::Serialize;

use super::describe::{Document, table};
use crate::args::ListArgs;
use crate::exit::{Exit, Fault};
use crate::out;

#[derive(Debug, Serialize)]
struct Listing {
    records: Vec<Document>,
    /// For `--after`; null at the end.
    next: Option<String>,
}

pub(super) async fn run(args: ListArgs) -> Result<Exit, Fault> {
    let after = args.after.as_deref().map(cursor).transpose()?;
    let store = super::open(&args.store)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let page = store.list(&Query { state: args.state, after, limit }).await?;
    if args.store.json {
        let records = page.records.iter().map(Document::from).collect();
        out::json(&Listing { records, next: page.next.map(|id| id.to_string()) })?;
        return Ok(Exit::Ok);
    }
    if page.records.is_empty() {
        let state = args.state.map(|state| format!(" {}", state.as_str())).unwrap_or_default();
        out::print(format!("no{state} records\n"))?;
        return Ok(Exit::Ok);
    }
    out::print(table(&page.records))?;
    if let Some(next) = page.next {
        out::print(format!("\nthere are more: add --after {next}\n"))?;
    }
    Ok(Exit::Ok)
}

fn cursor(text: &str) -> Result<RecordId, Fault> {
    RecordId::from_hex(text).ok_or_else(|| {
        Fault::usage("--after: write the 64 hexadecimal digits that the page before ended with")
    })
}
