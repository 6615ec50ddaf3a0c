//! `semel keys delete`.

use semel_core::store::{Delete, Deleted};
use serde::Serialize;

use super::describe::{Document, short};
use super::find::find;
use crate::args::DeleteArgs;
use crate::exit::{Exit, Fault};
use crate::out;

#[derive(Debug, Serialize)]
struct Outcome {
    deleted: bool,
    /// As it was before.
    record: Document,
}

pub(super) async fn run(args: DeleteArgs) -> Result<Exit, Fault> {
    let store = super::open(&args.store)?;
    let view = find(&store, &args.which).await?;
    let which = if args.force { Delete::Any } else { Delete::Settled };
    let deleted = store.delete(&view.id, which).await?;
    let gone = matches!(deleted, Deleted::Gone);
    if args.store.json {
        out::json(&Outcome { deleted: gone, record: Document::from(&view) })?;
    }
    match deleted {
        Deleted::Gone if args.store.json => Ok(Exit::Ok),
        Deleted::Gone => {
            out::print(format!("deleted: {}, which was {}\n", short(&view), view.state.as_str()))?;
            Ok(Exit::Ok)
        }
        Deleted::Absent => Err(Fault::new(Exit::Negative, format!("record {} is gone already", view.id))),
        Deleted::Refused(view) => Err(Fault::new(
            Exit::Negative,
            format!(
                "not deleted: record {} is {}, so its request may have taken effect or still do; settle it with \
                 `semel keys resolve`, or add --force, after which the request may run a second time",
                short(&view),
                view.state.as_str(),
            ),
        )),
    }
}
