//! How the program ends: one code a kind of outcome, and one line that says why.

use std::fmt;
use std::process::ExitCode;

use semel_core::store::StoreError;

/// The exit codes. The table in `--help` is written from [`Exit::TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// The answer is no: nothing was found, a step was refused, the doctor found something, the demo saw what must not be.
    Negative = 1,
    /// The command line does not parse. Clap's own code.
    Usage = 2,
    /// A setting cannot be used, or two contradict each other.
    Config = 3,
    /// Somebody else listens on the address.
    AddressInUse = 4,
    /// The store cannot be opened or asked.
    Store = 5,
    /// The system refused something: a thread, a file, a child process.
    System = 6,
    /// A second signal ended the program before running requests had ended.
    Interrupted = 130,
}

impl Exit {
    /// All codes with their meaning.
    pub(crate) const TABLE: [(Self, &'static str); 8] = [
        (Self::Ok, "done"),
        (
            Self::Negative,
            "the answer is no: nothing found, a step refused, the doctor has findings, the demo saw what must not be",
        ),
        (Self::Usage, "the command line does not parse"),
        (Self::Config, "a setting cannot be used"),
        (Self::AddressInUse, "an address is in use"),
        (Self::Store, "the store cannot be opened or asked"),
        (Self::System, "the system refused something: a thread, a file, a process"),
        (Self::Interrupted, "a second signal cut a shutdown short"),
    ];

    /// The outcome of another run of this program.
    pub(crate) fn from_code(code: i32) -> Option<Self> {
        Self::TABLE.into_iter().map(|(exit, _)| exit).find(|exit| *exit as i32 == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program ends early: one line that names the thing and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    exit: Exit,
    text: String,
}

impl Fault {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self::new(Exit::Config, text)
    }

    pub(crate) fn system(what: &str, error: &dyn std::error::Error) -> Self {
        Self::new(Exit::System, format!("{what}: {}", chain(error)))
    }

    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Store, chain(&error))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error with everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text} ({cause_text})");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scripts branch on these numbers: a change of one breaks somebody's.
    #[test]
    fn codes_do_not_change() {
        let codes = Exit::TABLE.map(|(exit, _)| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 130]);
    }
}
