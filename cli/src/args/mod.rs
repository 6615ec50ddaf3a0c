//! The command line as data: every flag is defined once, with its help, its default and its variable.

mod address;
mod demo;
mod doctor;
mod keys;
#[cfg(feature = "layers")]
mod layers;
mod migrate;
mod proxy;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::exit::Exit;

pub(crate) use address::AdminAddress;
pub(crate) use demo::DemoArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use keys::{DeleteArgs, KeysArgs, KeysCommand, ListArgs, ResolveArgs, ShowArgs, StoreArgs, Which};
#[cfg(feature = "layers")]
pub(crate) use layers::{GuardArg, LayerArgs, SealArgs};
pub(crate) use migrate::MigrateArgs;
pub(crate) use proxy::{
    AnswersArg, FingerprintArg, ForwardedArg, HostArg, KeyFormatArg, LogFormat, ProxyArgs, ScopeArg,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// A retried HTTP request runs once.
///
/// Semel guards requests that carry an `Idempotency-Key`: the first one runs, and every retry with the same key
/// gets the answer of the first instead of a second run.
#[derive(Debug, Parser)]
#[command(name = "semel", version, max_term_width = 100, styles = STYLES, after_long_help = after_help())]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Proxy(Box<ProxyArgs>),
    Keys(Box<KeysArgs>),
    Doctor(DoctorArgs),
    Migrate(MigrateArgs),
}

/// Reads the command line; ends the program on `--help` and on what does not parse.
pub(crate) fn parse() -> Cli {
    let matches = quiet(Cli::command()).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// One sentence on the variables reads better than one remark a flag.
fn quiet(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env(true)).mut_subcommands(quiet)
}

fn after_help() -> String {
    let lines = Exit::TABLE.map(|(exit, meaning)| format!("  {:>3}  {meaning}", exit as u8));
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    // A flag that a container cannot set by a variable is one that somebody has to wrap in a script.
    #[test]
    fn every_setting_has_a_variable_of_its_name() {
        let root = Cli::command();
        let proxy = root.find_subcommand("proxy");
        for arg in proxy.into_iter().flat_map(clap::Command::get_arguments) {
            let Some(long) = arg.get_long().filter(|long| *long != "help") else { continue };
            let variable = format!("SEMEL_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{long}");
        }
    }

    #[test]
    fn every_flag_has_help() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
