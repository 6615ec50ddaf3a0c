//! Runs the binary in a folder of its own, and talks to it with bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use semel_testkit::wire::{self, Message};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub(crate) use semel_testkit::upstream::{Act, Upstream, answer};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A folder in which the binary runs.
pub(crate) struct Folder(TempDir);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The binary, without any variable of whoever runs the tests.
    pub(crate) fn semel(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_semel"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEMEL_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.current_dir(self.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.semel();
        end(command.args(args)).await
    }

    /// Every file with its content.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }
}

/// Runs a command to its end.
pub(crate) async fn end(command: &mut Command) -> Ended {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A running `semel proxy`.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) banner: String,
}

impl Proxy {
    /// Starts one on free ports, its log going to the file `log`.
    pub(crate) async fn start(folder: &Folder, upstream: &str, args: &[&str]) -> Self {
        let mut command = folder.semel();
        command.args(["proxy", "--upstream", upstream, "--workers", "2"]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(args);
        Self::of(folder, command).await
    }

    pub(crate) async fn of(folder: &Folder, mut command: Command) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        while !banner.contains("\n  crash") {
            match timeout(PATIENCE, lines.next_line()).await.expect("it starts in time").unwrap() {
                Some(line) => banner.extend([&line, "\n"]),
                None => panic!("it ended at the start: {}", folder.log()),
            }
        }
        let behind = |mark: &str| {
            let (_, rest) = banner.split_once(mark)?;
            rest.split_whitespace().next()?.strip_prefix("http://")?.parse().ok()
        };
        Self {
            address: behind("listening on ").expect("an address"),
            admin: behind("\n  admin "),
            child,
            banner,
        }
    }

    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        ask(self.address, request).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for its end and gives the exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap().code()
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    try_ask(address, request).await.expect("an answer")
}

/// The same where the connection may break.
pub(crate) async fn try_ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Option<Message> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await.ok()?);
        stream.get_mut().write_all(request.as_ref()).await.ok()?;
        wire::read_message(&mut stream, false).await.ok().flatten()
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}

/// A POST to `/orders` under a key, with more fields where `fields` has them, each ended by CR LF.
pub(crate) fn order(key: &str, fields: &str, body: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: shop.test\r\nIdempotency-Key: \"{key}\"\r\nContent-Type: application/json\r\n\
         {fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The problem code of an answer.
pub(crate) fn code(message: &Message) -> String {
    let document: serde_json::Value = serde_json::from_slice(&message.body).unwrap_or_default();
    document["code"].as_str().unwrap_or_default().to_owned()
}

/// Waits until this holds; fails the test if it does not in time.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
