//! A MariaDB of a test's own, from the machine's programs: to be killed, stopped, or set up otherwise.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep, timeout};

use crate::postgres::{done, free_port};
use crate::skip::skip;
use crate::upstream::PATIENCE;

/// A server on a free port, in a folder of its own. It ends with the test, however that ends.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// Starts one with settings such as `--read-only=1`; `None`, and a note, where its programs are not installed.
    ///
    /// # Errors
    ///
    /// It cannot be made, or does not start; under CI also that the programs are missing.
    pub async fn start(settings: &[&str]) -> io::Result<Option<Self>> {
        let (Some(mut install), Some(_)) = (program("mariadb-install-db"), program("mariadbd")) else {
            return skip("a MariaDB of one's own", "no programs mariadb-install-db and mariadbd")
                .map(|()| None);
        };
        let mut server = Self {
            folder: tempfile::tempdir()?,
            port: free_port()?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            running: None,
        };
        install.arg("--no-defaults").arg(format!("--datadir={}", server.data().display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]).args(as_user());
        // Servers that share a folder for this sweep away each other's temporary tables as they start.
        install.env("TMPDIR", server.folder.path());
        done(&mut install)?;
        std::fs::write(server.first(), "CREATE DATABASE IF NOT EXISTS app;\n")?;
        server.resume().await?;
        Ok(Some(server))
    }

    /// For the user `root`, who has no password, and the database `app`.
    pub fn url(&self) -> String {
        format!("mysql://root@{}/app", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it on its data, and waits until it greets who connects.
    ///
    /// # Errors
    ///
    /// It does not start within a minute.
    pub async fn resume(&mut self) -> io::Result<()> {
        let give_up = Instant::now() + Duration::from_mins(1);
        loop {
            let ended = match &mut self.running {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                self.running = Some(self.spawn()?);
            }
            if greets(self.address()).await {
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(io::Error::other("MariaDB does not start"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`: nobody says good-bye.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn kill(&mut self) -> io::Result<()> {
        let mut child = self.running.take().ok_or_else(not_running)?;
        child.kill()?;
        child.wait().map(drop)
    }

    /// Ends it as an operator does, whoever is connected.
    ///
    /// # Errors
    ///
    /// It is not running, or does not end by itself within [`PATIENCE`]; then it is killed.
    pub async fn stop(&mut self) -> io::Result<()> {
        let mut child = self.running.take().ok_or_else(not_running)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(not_running)?;
        kill_process(pid, Signal::TERM)?;
        let give_up = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > give_up {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("MariaDB does not stop"));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut mariadbd = program("mariadbd").ok_or_else(not_running)?;
        mariadbd.arg("--no-defaults").arg(format!("--datadir={}", self.data().display()));
        mariadbd.arg(format!("--socket={}", self.folder.path().join("socket").display()));
        mariadbd.arg(format!("--init-file={}", self.first().display()));
        mariadbd.args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"]);
        mariadbd.arg(format!("--port={}", self.port)).args(as_user()).args(&self.settings);
        mariadbd.env("TMPDIR", self.folder.path());
        mariadbd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Statements that it runs at each start, before it listens.
    fn first(&self) -> PathBuf {
        self.folder.path().join("first.sql")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// Whether the server speaks first, as it does to whoever connects once it is ready: a header of four bytes, and the
/// version of its protocol.
async fn greets(address: SocketAddr) -> bool {
    let greeted = async {
        let mut greeting = [0; 5];
        TcpStream::connect(address).await?.read_exact(&mut greeting).await?;
        io::Result::Ok(greeting[4] == 10)
    };
    matches!(timeout(Duration::from_secs(2), greeted).await, Ok(Ok(true)))
}

fn not_running() -> io::Error {
    io::Error::other("MariaDB is not running")
}

/// MariaDB refuses to run as root unless it is told so.
fn as_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn program(name: &str) -> Option<Command> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let path =
        folders.map(|folder| PathBuf::from(folder).join(name)).into_iter().find(|path| path.exists())?;
    Some(Command::new(path))
}
