//! `semel migrate`.

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  As a user who may create a schema, before the proxy runs as one who may not:
    semel migrate postgres://owner@db.example/app

  For those who run their own SQL; nothing is connected to:
    semel migrate postgres://db.example/app --schema semel --print > semel.sql";

/// Make a store's schema, or bring it up to date
///
/// `semel proxy` does the same at its start. Several may do it at once: one does the work, the others wait.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    /// The store, as in `semel proxy --store`
    #[arg(env = "SEMEL_STORE", value_name = "STORE_URL")]
    pub(crate) store: String,

    /// The schema in PostgreSQL [default: semel], or the prefix of tables in MariaDB [default: semel_]
    #[arg(long, env = "SEMEL_SCHEMA", value_name = "NAME")]
    pub(crate) schema: Option<String>,

    /// Print the statements, exactly as they would be run, and connect to nothing
    #[arg(long)]
    pub(crate) print: bool,
}
