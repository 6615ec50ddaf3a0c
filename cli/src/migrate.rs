//! `semel migrate`.

use crate::args::MigrateArgs;
use crate::exit::{Exit, Fault};
use crate::out;
use crate::store::Place;

pub(crate) fn run(args: &MigrateArgs) -> Result<Exit, Fault> {
    let place = Place::positional(&args.store, args.schema.as_deref())?;
    let url = place.url();
    if args.print {
        let script = place.script()?;
        out::print(script.unwrap_or_else(|| format!("-- {url} has no schema: there is nothing to run\n")))?;
        return Ok(Exit::Ok);
    }
    let said = match place.migrate()? {
        None => format!("{url} has no schema: there is nothing to do\n"),
        Some(done) if done.from == done.to => {
            format!("{url} is up to date: its schema has version {}\n", done.to)
        }
        Some(done) if done.from == 0 => format!("{url}: made its schema, version {}\n", done.to),
        Some(done) => format!("{url}: brought its schema from version {} to {}\n", done.from, done.to),
    };
    out::print(said)?;
    Ok(Exit::Ok)
}
