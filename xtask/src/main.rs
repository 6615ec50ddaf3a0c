//! Tests, checks and benches of the workspace: `cargo xtask`, without an argument, says what there is.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]

mod bench;
mod book;
mod ci;
mod laws;
mod run;
mod test;
mod tidy;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Semel's own chores. Usage: cargo xtask <COMMAND>

  test [-p CRATE]...   runs every test and every example in the docs, and ends with the counts
                       and with what was skipped and why; with CI=true a skip is a failure
  tidy                 checks what no compiler does: core stays free of I/O and clocks, crates depend
                       downwards only, hosts decide nothing, no stubs, no paths of one machine, ...
  docs                 builds the book in target/book, and looks for links that lead nowhere; installs mdbook
                       where it is missing
  bench [PART] [...]   measures layer, sqlite, stores, transactional, gateway, or all: takes minutes, builds in release;
                       what follows goes to the program: --quick, --json, --write FILE
  torture transactional [...]
                       moves money through services that are killed, paused and cut off, and balances the
                       books: --seconds N, --seed S, --db postgres|mysql|sqlite|all, --json
  ci                   what .ci/run does after format and clippy: rustdoc, tidy, docs, test
  help                 this

Exit codes: 0 all is well, 1 something failed, 2 the command line is wrong; torture: that of its program.
Examples:
  cargo xtask test                    everything
  cargo xtask test -p semel-core      one crate, while you work on it
";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine,
    Failed,
    Usage,
    /// With the code of a program that was run.
    AsTheProgram(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
            Exit::AsTheProgram(code) => Self::from(code),
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    command(&args).into()
}

fn command(args: &[&str]) -> Exit {
    let Some((&name, rest)) = args.split_first() else {
        print!("{HELP}");
        return Exit::Fine;
    };
    match name {
        "test" => test::run(&root(), rest),
        "tidy" if rest.is_empty() => tidy::run(&root()),
        "docs" if rest.is_empty() => book::run(&root()),
        "bench" => bench::run(&root(), rest),
        "torture" => torture::run(&root(), rest),
        "ci" if rest.is_empty() => ci::run(&root()),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Exit::Fine
        }
        "tidy" | "docs" | "ci" => usage(&format!("`{name}` takes no arguments")),
        other => usage(&format!("there is no `{other}`")),
    }
}

fn usage(what: &str) -> Exit {
    eprintln!("xtask: {what}\n\n{HELP}");
    Exit::Usage
}

/// The workspace's folder: the one above this crate's.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A typing error that exits 0 makes a CI step that checks nothing.
    #[test]
    fn what_is_not_a_command_is_a_usage_error() {
        for wrong in [
            &["tset"][..],
            &["tidy", "--fix"],
            &["ci", "x"],
            &["docs", "x"],
            &["test", "--bogus"],
            &["bench", "disk"],
        ] {
            assert_eq!(command(wrong), Exit::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn no_argument_teaches() {
        assert_eq!(command(&[]), Exit::Fine);
        for name in ["test", "tidy", "docs", "bench", "ci"] {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
    }
}
