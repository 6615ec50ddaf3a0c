//! `semel keys`: operators look at records and settle what nobody knows the outcome of.

mod delete;
mod describe;
mod find;
mod list;
mod resolve;
mod show;

use crate::args::{KeysArgs, KeysCommand, StoreArgs};
use crate::exit::{Exit, Fault};
use semel_core::store::AnyStore;

pub(crate) fn run(args: KeysArgs) -> Result<Exit, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Fault::system("cannot start", &error))?;
    runtime.block_on(async {
        match args.command {
            KeysCommand::List(args) => list::run(args).await,
            KeysCommand::Show(args) => show::run(args).await,
            KeysCommand::Resolve(args) => resolve::run(args).await,
            KeysCommand::Delete(args) => delete::run(args).await,
        }
    })
}

fn open(args: &StoreArgs) -> Result<AnyStore, Fault> {
    let place = crate::store::Place::of(&args.store, args.schema.as_deref())?;
    let store = place.open_existing()?;
    #[cfg(feature = "layers")]
    let store = crate::layers::sealed(&args.seal, store)?;
    Ok(store)
}
