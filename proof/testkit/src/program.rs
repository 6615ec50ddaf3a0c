//! The program `semel`, as a process that can be started, killed and started again.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::client::in_time;

/// The program of this build, with every store. It is built first, unless `cargo xtask test` has done so.
///
/// # Errors
///
/// It does not build.
pub fn semel() -> io::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| error.to_string()));
    built.as_deref().map_err(|error| io::Error::other(error.clone()))
}

/// Looks beside the test's own executable, `target/PROFILE/deps/NAME`.
fn build() -> io::Result<PathBuf> {
    let strange = || io::Error::other("the test does not run from a target folder");
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).ok_or_else(strange)?;
    let program = folder.join("semel").with_extension(std::env::consts::EXE_EXTENSION);
    if std::env::var_os("SEMEL_SKIPS").is_some() && program.exists() {
        return Ok(program);
    }
    let profile = match folder.file_name().and_then(OsStr::to_str).ok_or_else(strange)? {
        "debug" => "dev",
        other => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["build", "--quiet", "--package", "semel-cli", "--bin", "semel", "--all-features"])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(folder.parent().ok_or_else(strange)?)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if output.status.success() {
        return Ok(program);
    }
    Err(io::Error::other(format!("semel does not build:\n{}", String::from_utf8_lossy(&output.stderr))))
}

/// Runs `semel` with these arguments to its end.
///
/// # Errors
///
/// It does not start, or does not end in time.
pub async fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> io::Result<Output> {
    in_time(Command::new(semel()?).args(args).stdin(Stdio::null()).kill_on_drop(true).output()).await
}

/// A running `semel proxy`. It is killed when it is dropped, and its log is shown if the test has failed.
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Proxy {
    /// Starts one on a free port, without an admin address, and returns when it listens.
    ///
    /// # Errors
    ///
    /// It does not start; the text is what it said.
    pub async fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let mut command = Command::new(semel()?);
        command.args(["proxy", "--listen", "127.0.0.1:0", "--admin", "off"]).args(args);
        Self::spawn(command).await
    }

    /// As [`Proxy::start`], by another program, such as a shell, that becomes this one: it is run with the program
    /// and its arguments behind its own.
    ///
    /// # Errors
    ///
    /// It does not start; the text is what it said.
    pub async fn start_below<S: AsRef<OsStr>>(
        below: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let (program, own) = below.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(own).arg(semel()?);
        command.args(["proxy", "--listen", "127.0.0.1:0", "--admin", "off"]).args(args);
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let log = Arc::new(Mutex::new(String::new()));
        let pipes = child.stderr.take().zip(child.stdout.take());
        let (stderr, stdout) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        tokio::spawn(keep(BufReader::new(stderr), Arc::clone(&log)));
        let mut stdout = BufReader::new(stdout);
        let address = in_time(listening(&mut stdout)).await;
        let Ok(Some(address)) = address else {
            let status = in_time(child.wait()).await;
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(io::Error::other(format!("semel proxy does not listen: {status:?}\n{log}")));
        };
        tokio::spawn(keep(stdout, Arc::clone(&log)));
        Ok(Self { child, address, log })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn process(&self) -> io::Result<Pid> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        id.ok_or_else(|| io::Error::other("it has ended"))
    }

    /// Kills it, as a crash would, and returns once it is gone.
    ///
    /// # Errors
    ///
    /// It had ended before.
    pub async fn kill(mut self) -> io::Result<()> {
        kill_process(self.process()?, Signal::KILL)?;
        in_time(self.child.wait()).await.map(drop)
    }

    /// Asks it to end.
    ///
    /// # Errors
    ///
    /// It had ended before.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(self.process()?, Signal::TERM)?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub async fn ended(mut self) -> io::Result<ExitStatus> {
        in_time(self.child.wait()).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            // If even this cannot be written, the test's own message has to do.
            let _unheard = io::Write::write_all(&mut io::stderr(), log.as_bytes());
        }
    }
}

/// The address from the line `listening on http://ADDRESS`, or nothing if there is none.
async fn listening(stdout: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut line = String::new();
    while stdout.read_line(&mut line).await? > 0 {
        if let Some((_, address)) = line.split_once("listening on http://") {
            return Ok(address.trim().parse().ok());
        }
        line.clear();
    }
    Ok(None)
}

/// Keeps what is said, up to a bound, and reads on beyond it.
async fn keep(mut from: BufReader<impl AsyncRead + Unpin>, log: Arc<Mutex<String>>) {
    const MOST: usize = 64 * 1024;
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line).await, Ok(1..)) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < MOST {
            log.push_str(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}
