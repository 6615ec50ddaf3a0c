//! `semel keys show`.

use super::describe::{Document, page};
use super::find::find;
use crate::args::ShowArgs;
use crate::exit::{Exit, Fault};
use crate::out;

pub(super) async fn run(args: ShowArgs) -> Result<Exit, Fault> {
    let store = super::open(&args.store)?;
    let view = find(&store, &args.which).await?;
    if args.store.json { out::json(&Document::from(&view)) } else { out::print(page(&view)) }?;
    Ok(Exit::Ok)
}
