//! The demo's gateway: a process of its own, so that it can be killed like a real one.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::exit::{Exit, Fault};

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to start the gateway, and to ask about its records.
#[derive(Debug)]
pub(super) struct Plan {
    program: PathBuf,
    dir: PathBuf,
    pub(super) upstream: String,
    lease: Duration,
}

/// A running gateway. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    /// It ends when this is closed, so that it does not outlive a demo that was killed.
    hold: Option<ChildStdin>,
    pub(super) address: SocketAddr,
}

impl Plan {
    pub(super) fn new(dir: &Path, upstream: SocketAddr, lease: Duration) -> Result<Self, Fault> {
        let program = std::env::current_exe()
            .map_err(|error| Fault::system("cannot find this program's own file", &error))?;
        Ok(Self { program, dir: dir.to_owned(), upstream: format!("http://{upstream}"), lease })
    }

    pub(super) fn store(&self) -> String {
        format!("sqlite:{}", self.dir.join("semel.db").display())
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// This program again, not led astray by variables of whoever started the demo.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("SEMEL_")) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Writes a file beside the store, and gives its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String, Fault> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).map_err(|error| Fault::system("cannot write a file", &error))?;
        Ok(path.display().to_string())
    }

    /// Starts a gateway and waits until it listens.
    pub(super) async fn start(&self, listen: SocketAddr) -> Result<Gateway, Fault> {
        let fault = |error: std::io::Error| Fault::system("cannot start the gateway", &error);
        let log = self.dir.join("gateway.log");
        let log_file = File::options().create(true).append(true).open(&log).map_err(fault)?;
        let mut command = self.command();
        command.args(["proxy", "--upstream", &self.upstream, "--store", &self.store(), "--admin", "off"]);
        command.args(["--listen", &listen.to_string(), "--lease", &format!("{}ms", self.lease.as_millis())]);
        command
            .args(["--workers", "2", "--end-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file);
        let mut child = command.spawn().map_err(fault)?;
        // Taken out of the child, which closes it as soon as somebody waits for its end.
        let hold = child.stdin.take();
        let first_line = async {
            let mut lines = BufReader::new(child.stdout.take()?).lines();
            let line = lines.next_line().await.ok()??;
            // The rest of what it says is read, so that it never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            line.split_once("listening on http://")?.1.parse().ok()
        };
        if let Ok(Some(address)) = timeout(PATIENCE, first_line).await {
            return Ok(Gateway { child, hold, address });
        }
        let exit = match timeout(Duration::from_secs(1), child.wait()).await {
            Ok(Ok(status)) => status.code().and_then(Exit::from_code),
            _ => None,
        };
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        let last = last.strip_prefix("semel: ").unwrap_or(last);
        Err(Fault::new(exit.unwrap_or(Exit::System), format!("the proxy did not start: {last}")))
    }

    /// Runs `semel keys …` on the gateway's store and gives what it printed.
    pub(super) async fn keys(&self, args: &[&str]) -> Result<String, Fault> {
        let mut command = self.command();
        command.arg("keys").args(args).args(["--store", &self.store()]).current_dir(&self.dir);
        let output = timeout(PATIENCE, command.output())
            .await
            .map_err(|_| Fault::new(Exit::System, "semel keys did not end"))?
            .map_err(|error| Fault::system("cannot run semel keys", &error))?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

impl Gateway {
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Kills it, as the system's own out-of-memory killer does: with SIGKILL.
    pub(super) async fn kill(mut self) -> Result<(), Fault> {
        self.child.kill().await.map_err(|error| Fault::system("cannot kill the gateway", &error))
    }

    /// Waits until it is gone, for whatever reason.
    pub(super) async fn gone(&mut self) {
        // An error says that it is gone, too.
        let _ = self.child.wait().await;
    }

    /// Lets it end gracefully, or ends it.
    pub(super) async fn end(mut self) {
        drop(self.hold.take());
        if timeout(Duration::from_secs(2), self.gone()).await.is_err() {
            // It is gone already if this fails.
            let _ = self.child.kill().await;
        }
    }
}
