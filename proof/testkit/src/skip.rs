//! What a test does that cannot run on this machine.

use std::io::{self, Write as _};

/// Notes that a test is skipped, and why. Where everything has to be there (`CI=true`) it is an error instead.
///
/// # Errors
///
/// Under `CI=true`, or if the note cannot be written.
pub fn skip(test: &str, why: &str) -> io::Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(io::Error::other(format!("{test} may not be skipped under CI: {why}")));
    }
    writeln!(io::stderr(), "skipped: {test}: {why}")?;
    let Some(notes) = std::env::var_os("SEMEL_SKIPS") else { return Ok(()) };
    let mut notes = std::fs::OpenOptions::new().append(true).create(true).open(notes)?;
    writeln!(notes, "{test}: {why}")
}
