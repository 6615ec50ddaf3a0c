//! Runs other programs.

use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Exit;

/// The cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Whether a program starts and says that all is well.
pub(crate) fn answers(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Shows the command, runs it, and says whether it succeeded.
pub(crate) fn step(command: &mut Command) -> bool {
    announce(command);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().display());
            false
        }
    }
}

/// Shows the command, runs it, and ends as it did. One that a signal ended has failed.
pub(crate) fn code(command: &mut Command) -> Exit {
    announce(command);
    match command.status() {
        Ok(status) if status.success() => Exit::Fine,
        Ok(status) => {
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(Exit::Failed, Exit::AsTheProgram)
        }
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().display());
            Exit::Failed
        }
    }
}

/// As [`step`], and hands over what it wrote, which goes to the terminal as well.
pub(crate) fn step_read(command: &mut Command) -> (bool, String) {
    announce(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("cannot run {}: {error}", command.get_program().display());
            return (false, String::new());
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let text = std::thread::scope(|scope| {
        let out = scope.spawn(|| out.map(|out| tee(out, io::stdout())).unwrap_or_default());
        let err = err.map(|err| tee(err, io::stderr())).unwrap_or_default();
        out.join().unwrap_or_default() + &err
    });
    let success = child.wait().is_ok_and(|status| status.success());
    (success, plain(&text))
}

/// `always` where a person looks, since our pipe hides the terminal from the programs we run.
pub(crate) fn color() -> &'static str {
    if io::stderr().is_terminal() { "always" } else { "never" }
}

fn announce(command: &Command) {
    let args: Vec<_> = command.get_args().map(std::ffi::OsStr::to_string_lossy).collect();
    // The cargo that runs us is a path of this machine.
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    eprintln!("\n$ {} {}", program.display(), args.join(" "));
}

fn tee(from: impl Read, mut to: impl Write) -> String {
    let mut all = String::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A terminal that is gone must not end the tests.
        let _shown = to.write_all(&line).and_then(|()| to.flush());
        all.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    all
}

/// The text without the sequences that colour it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == '\x1b' {
            let _sequence = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    // A torture that could not run once looked like one whose books did not balance.
    #[test]
    fn the_code_of_a_program_is_passed_on() {
        let ended = |how: &str| code(Command::new("sh").args(["-c", how]));
        assert_eq!(ended("exit 0"), Exit::Fine);
        assert_eq!(ended("exit 1"), Exit::AsTheProgram(1));
        assert_eq!(ended("exit 2"), Exit::AsTheProgram(2));
        assert_eq!(ended("kill -9 $$"), Exit::Failed);
        assert_eq!(code(&mut Command::new("no-such-program")), Exit::Failed);
    }

    #[test]
    fn colours_do_not_hide_the_counts() {
        assert_eq!(plain("\x1b[32;1m 12\x1b[0m passed"), " 12 passed");
    }
}
