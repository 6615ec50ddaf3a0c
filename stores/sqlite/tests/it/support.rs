//! Claims and answers with numbers for names, and this very binary as a child process.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use semel_testkit::records::{answer, ask, body, claimed, id};

/// Which part a child plays, and on which file.
const PART: &str = "SEMEL_SQLITE_TEST_PART";
const FILE: &str = "SEMEL_SQLITE_TEST_FILE";

/// This binary again, running one test only, which sees that it is a child by [`part`].
pub(crate) fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(PART, test).env(FILE, file).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// The file to work on, if this process is a child made for `test`.
pub(crate) fn part(test: &str) -> Option<std::path::PathBuf> {
    (std::env::var(PART).ok()? == test).then(|| std::env::var_os(FILE).unwrap().into())
}

/// A line to the parent, whole or not at all. The harness writes to the same pipe, so ours are marked, and begin
/// on a line of their own.
pub(crate) fn tell(words: impl std::fmt::Display) {
    let line = format!("\n@ {words}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn told(line: &str) -> Option<Vec<&str>> {
    line.strip_prefix("@ ").map(|words| words.split(' ').collect())
}
