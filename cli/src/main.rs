//! Semel's command line.

mod args;
mod demo;
mod doctor;
mod exit;
mod keys;
#[cfg(feature = "layers")]
mod layers;
mod logs;
mod migrate;
mod out;
mod proxy;
mod signals;
mod store;
mod units;
mod upstream;

use std::process::ExitCode;

use args::{Cli, Command};
use exit::Fault;

fn main() -> ExitCode {
    // Clap answers `--help`, `--version` and what does not parse by itself, the latter with `Exit::Usage`.
    match run(args::parse()) {
        Ok(exit) => exit.into(),
        Err(fault) => {
            out::complain(&fault);
            fault.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<exit::Exit, Fault> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Keys(args) => keys::run(*args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Migrate(args) => migrate::run(&args),
    }
}
