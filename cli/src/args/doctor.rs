//! `semel doctor`.

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  Before a database takes payments:
    semel doctor postgres://semel@db.example/app

  In a deployment's script, which goes on only if all is well:
    semel doctor redis://cache.example:6379/0 --json

Exit codes: 0 healthy, 1 something should be looked at, 5 nothing can be claimed. Each finding has its fix.";

/// Examine a store: is it reachable, durable, up to date, and does a replay work?
///
/// It connects as the proxy does, asks the store for its settings, measures claims and completions on records that it
/// removes again, compares the clocks, and proves that a replay gives the same bytes and that a mismatch is refused. It
/// changes no schema, and no record of anybody else. A store that nobody has used yet gets its secret.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// The store, as in `semel proxy --store`
    #[arg(env = "SEMEL_STORE", value_name = "STORE_URL")]
    pub(crate) store: String,

    /// The schema in PostgreSQL, or the prefix of tables in MariaDB [default: semel_] and of keys in Redis [default: semel]
    #[arg(long, env = "SEMEL_SCHEMA", value_name = "NAME")]
    pub(crate) schema: Option<String>,

    /// How many claims and completions are measured
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,

    /// Write one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}
