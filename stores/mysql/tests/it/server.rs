//! A server of a test's own, from the same binaries: to be killed, or set up otherwise.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::mysql::MySqlConnection;
use tempfile::TempDir;

pub(crate) struct Server {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// Starts it with settings such as `--read-only=1`; `None` where MariaDB's programs are not installed.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        let Some(mut install) = program("mariadb-install-db") else {
            semel_testkit::skip::skip("semel-store-mysql", "no program mariadb-install-db").unwrap();
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let made = install
            .arg("--no-defaults")
            .arg(format!("--datadir={}", folder.path().join("data").display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(as_user())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "mariadb-install-db: {made}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { folder, port, settings, running: None };
        server.resume().await;
        crate::support::run_at(&server.root(), "CREATE DATABASE IF NOT EXISTS app").await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/app", self.root())
    }

    fn root(&self) -> String {
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    /// Starts it again on the same data, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let path = self.folder.path();
        let mut command = program("mariadbd").unwrap();
        command.arg("--no-defaults").arg(format!("--datadir={}", path.join("data").display()));
        command
            .arg(format!("--socket={}", path.join("socket").display()))
            .arg(format!("--port={}", self.port));
        command.args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"]).args(as_user());
        command.args(&self.settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn().unwrap());
        let give_up = Instant::now() + Duration::from_mins(1);
        while MySqlConnection::connect(&self.root()).await.is_err() {
            assert!(Instant::now() < give_up, "the server does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`: nobody says good-bye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// MariaDB refuses to run as root unless it is told so.
fn as_user() -> Option<&'static str> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    root.then_some("--user=root")
}

fn program(name: &str) -> Option<Command> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let path =
        folders.map(|folder| PathBuf::from(folder).join(name)).into_iter().find(|path| path.exists())?;
    Some(Command::new(path))
}
