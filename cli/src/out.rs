//! The only place that writes to the terminal.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Fault;

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub(crate) fn print(text: impl AsRef<str>) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::system("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON document.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Fault> {
    let text =
        serde_json::to_string_pretty(document).map_err(|error| Fault::system("cannot write JSON", &error))?;
    print(text + "\n")
}

/// Says on standard error why the program ends.
pub(crate) fn complain(fault: &Fault) {
    // If even this cannot be written, the exit code has to do.
    let _unheard = writeln!(io::stderr(), "semel: {fault}");
}
