//! Moves money through services that are killed, paused and cut off, and balances the books.

mod bank;
mod books;
mod clients;
mod nemesis;
mod run;
mod service;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Why it could not be run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    about,
    version,
    after_help = "Exit codes: 0 the books balance, 1 they do not, 2 it could not be run."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Transfers in the transaction that completes their record.
    Transactional(Torture),
    /// One of the services, as a process to be killed.
    #[command(hide = true)]
    Serve(service::Serve),
}

/// What to do, and for how long.
#[derive(Args, Clone)]
struct Torture {
    /// How long things break. Afterwards every client gets its answer.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// What happens, and in which order; when it happens depends on the machine too.
    #[arg(long)]
    seed: Option<u64>,
    /// Where records and money are.
    #[arg(long, value_enum, default_value_t = Databases::All)]
    db: Databases,
    /// Has the service make a mistake, which is to be found.
    #[cfg(feature = "planted")]
    #[arg(long, value_enum)]
    planted: Option<service::Mistake>,
    /// Print JSON in place of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Databases {
    #[value(name = "mysql")]
    MySql,
    Postgres,
    Sqlite,
    All,
}

impl Databases {
    fn each(self) -> &'static [bank::Database] {
        match self {
            Self::MySql => &[bank::Database::MySql],
            Self::Postgres => &[bank::Database::Postgres],
            Self::Sqlite => &[bank::Database::Sqlite],
            Self::All => &[bank::Database::Postgres, bank::Database::MySql, bank::Database::Sqlite],
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Transactional(torture) => transactional(&torture).await,
        Command::Serve(serve) => service::serve(serve).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            say(&format!("semel-torture: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether the books balance, everywhere.
async fn transactional(torture: &Torture) -> Result<bool, Failure> {
    let mut fine = true;
    for &database in torture.db.each() {
        #[cfg(feature = "planted")]
        if let Some(why) = torture.planted.and_then(|mistake| service::cannot(database, mistake)) {
            if torture.db != Databases::All {
                return Err(why.into());
            }
            say(why);
            continue;
        }
        let plan = run::Plan {
            database,
            seconds: torture.seconds,
            seed: torture.seed.unwrap_or_else(|| fastrand::u64(..)),
            #[cfg(feature = "planted")]
            mistake: torture.planted,
            #[cfg(not(feature = "planted"))]
            mistake: None,
        };
        say(&format!("{}: {} s, seed {}", database.name(), plan.seconds, plan.seed));
        let report = run::run(&plan).await?;
        fine &= report.is_fine();
        let mut out = std::io::stdout().lock();
        if torture.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{report}")?;
        }
    }
    Ok(fine)
}

/// To whoever watches.
pub(crate) fn say(text: &str) {
    // Nobody may be listening, which is no reason to stop.
    let _unheard = writeln!(std::io::stderr().lock(), "{text}");
}
