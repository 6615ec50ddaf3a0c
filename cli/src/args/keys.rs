//! `semel keys`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use semel_core::record::State;

use crate::units::duration;

const EXAMPLES: &str = "\
Examples:
  What nobody knows the outcome of, after a crash:
    semel keys list --state unknown

  One record, by the beginning of its id or by its key:
    semel keys show 4be1c09a
    semel keys show --key order-1 --upstream http://127.0.0.1:3000

  It was done: a retry gets this answer.
    semel keys resolve 4be1c09a --applied --status 201 --header 'Location: /orders/7' --body-file answer.json

  It was not done and is not being done any more: the next retry runs.
    semel keys resolve 4be1c09a --not-applied

The proxy may be running on the same file meanwhile.";

/// Look at the records of a store, and settle what nobody knows the outcome of
///
/// Keys, credentials and bodies are not shown. A record is named by its id, of which a beginning that is unique is
/// enough, or by the key itself.
///
/// With --json each command writes one JSON document.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    List(ListArgs),
    Show(ShowArgs),
    Resolve(ResolveArgs),
    Delete(DeleteArgs),
}

/// Which store, and how to write.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store that the proxy uses
    #[arg(long, env = "SEMEL_STORE", default_value = "sqlite:semel.db", value_name = "URL")]
    pub(crate) store: String,

    /// The schema in PostgreSQL, or the prefix of tables in MariaDB and of keys in Redis: as the proxy has it
    #[arg(long, env = "SEMEL_SCHEMA", value_name = "NAME")]
    pub(crate) schema: Option<String>,

    // Without the proxy's keys, an answer that is given here would be one that the proxy refuses.
    #[cfg(feature = "layers")]
    #[command(flatten)]
    pub(crate) seal: super::SealArgs,

    /// Write one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// List records in the order of their ids
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Only records in this state: in-flight, completed, released or unknown
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<State>,

    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,

    /// Go on behind this record: the last page says what to write here
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}

/// Show one record: its state, what a retry gets, and its times
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) which: Which,
}

/// Settle a record whose outcome is unknown, by the word of somebody who knows it
///
/// Find out first whether the operation took effect: look at the application's own data.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("verdict").required(true).args(["applied", "not_applied"]))]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) which: Which,

    /// It was done: it will never run again
    ///
    /// A retry gets the answer that --status, --header and --body-file say; without --status it is told that the
    /// answer is not available. The answer is kept for --keep-bodies, the record for --keep-records.
    #[arg(long)]
    pub(crate) applied: bool,

    /// It was not done: the next equal request runs
    ///
    /// A run that took longer than the proxy's --max-run is unknown too, and may STILL be going on in a live proxy: the
    /// next retry then runs beside it. Make sure that the application is not at work on it any more.
    #[arg(long)]
    pub(crate) not_applied: bool,

    /// Status of the answer that a retry gets, 200 to 599
    #[arg(long, value_name = "CODE", requires = "applied", value_parser = status)]
    pub(crate) status: Option<http::StatusCode>,

    /// A field of that answer; may be repeated
    #[arg(long, value_name = "'NAME: VALUE'", requires = "status")]
    pub(crate) header: Vec<String>,

    /// A file with the body of that answer
    #[arg(long, value_name = "PATH", requires = "status")]
    pub(crate) body_file: Option<PathBuf>,

    /// How long that body can be replayed: as the proxy has it
    #[arg(long, env = "SEMEL_KEEP_BODIES", default_value = "24h", value_name = "TIME", value_parser = duration)]
    pub(crate) keep_bodies: Duration,

    /// How long the key stays used: as the proxy has it
    #[arg(long, env = "SEMEL_KEEP_RECORDS", default_value = "7d", value_name = "TIME", value_parser = duration)]
    pub(crate) keep_records: Duration,

    /// Only if the record still has this fence, as `keys show` said
    #[arg(long, value_name = "N")]
    pub(crate) expect_fence: Option<std::num::NonZeroU64>,
}

/// Remove a record, so that its key is as if it had never been used
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) which: Which,

    /// Also one that is in flight or unknown: its request may then run a second time
    #[arg(long)]
    pub(crate) force: bool,
}

/// One record, by its id or by its key.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["id", "key"]))]
pub(crate) struct Which {
    /// The record's id: 64 hexadecimal digits, or a beginning of at least 6 that no other has
    #[arg(value_name = "ID")]
    pub(crate) id: Option<String>,

    /// The key, as the client sent it
    #[arg(long, value_name = "KEY", help_heading = "By key")]
    pub(crate) key: Option<String>,

    /// The proxy's --upstream, which names the namespace where --namespace was not given to it
    #[arg(long, value_name = "URL", env = "SEMEL_UPSTREAM", help_heading = "By key")]
    pub(crate) upstream: Option<String>,

    /// The namespace; wins over --upstream. That of the library is `default` unless it was set
    #[arg(long, value_name = "NAME", env = "SEMEL_NAMESPACE", help_heading = "By key")]
    pub(crate) namespace: Option<String>,

    /// The value of the scope's header or cookie, where the proxy has one as --scope
    #[arg(long, value_name = "VALUE", requires = "key", help_heading = "By key")]
    pub(crate) principal: Option<String>,

    /// Method and path, where the proxy runs with --endpoint-scope
    #[arg(long, value_name = "'POST /PATH'", requires = "key", help_heading = "By key")]
    pub(crate) endpoint: Option<String>,
}

/// Informational answers end nothing, and numbers from 600 on mean nothing (RFC 9110, section 15): a proxy could not
/// send them, and the record is settled for good.
fn status(text: &str) -> Result<http::StatusCode, String> {
    let number = text.parse().ok().filter(|number| (200..600).contains(number));
    number
        .and_then(|number| http::StatusCode::from_u16(number).ok())
        .ok_or_else(|| "write the status of a final answer, a number from 200 to 599".to_owned())
}

fn state(text: &str) -> Result<State, String> {
    text.parse().map_err(|_| "write in-flight, completed, released or unknown".to_owned())
}
