//! What Semel costs, side by side with what a user would use instead.
//!
//! Everything is a ratio between things that were measured in one run and in turns, since absolute times of a
//! shared machine say little.

mod gateway;
mod layer;
mod measure;
mod pairs;
mod report;
mod sqlite;
mod stores;
mod transactional;
mod valgrind;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use report::Report;

/// Why a measurement could not be made.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures one report; `true`: a short run.
type Measure = fn(bool) -> Result<Report, Failure>;

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Args, Clone)]
struct Options {
    /// Print JSON in place of tables.
    #[arg(long, global = true)]
    json: bool,
    /// A short run: shows that it works, its numbers mean nothing.
    #[arg(long, global = true)]
    quick: bool,
    /// Rewrite this report's tables in a Markdown file, between its markers.
    #[arg(long, global = true, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// What the layer adds to a request, in CPU time, instructions and allocations.
    Layer,
    /// Claims and completions a second on SQLite, and the syncs they take.
    Sqlite,
    /// Claims and completions a second on servers, and the CPU time that they take there.
    Stores,
    /// The transactional level beside the same handler without Semel.
    Transactional,
    /// CPU time a request of the gateway, beside nginx.
    Gateway,
    /// All of them.
    All,
    /// Sends requests through one subject, for an instrument that watches from outside.
    #[command(hide = true)]
    Subject {
        /// Its name.
        name: String,
        /// How many.
        requests: usize,
        /// Make the requests and do not send them.
        #[arg(long)]
        unsent: bool,
    },
    /// Claims and completes on a SQLite file, for an instrument that watches from outside.
    #[command(hide = true)]
    Pairs(sqlite::Pairs),
    /// Answers every request with 300 bytes, as the upstream of the gateway's measurement.
    #[command(hide = true)]
    Upstream,
}

fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    match run(&command, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::notice(&format!("semel-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, options: &Options) -> Result<(), Failure> {
    let reports: &[Measure] = match command {
        Command::Layer => &[layer::measure],
        Command::Sqlite => &[sqlite::measure],
        Command::Stores => &[stores::measure],
        Command::Transactional => &[transactional::measure],
        Command::Gateway => &[gateway::measure],
        Command::All => {
            &[layer::measure, sqlite::measure, stores::measure, transactional::measure, gateway::measure]
        }
        Command::Subject { name, requests, unsent } => return layer::subject(name, *requests, *unsent),
        Command::Pairs(pairs) => return sqlite::pairs(pairs),
        Command::Upstream => return gateway::upstream(),
    };
    for measure in reports {
        let report = measure(options.quick)?;
        report.print(options.json)?;
        if let Some(file) = &options.write {
            report.write_into(file)?;
        }
    }
    Ok(())
}
