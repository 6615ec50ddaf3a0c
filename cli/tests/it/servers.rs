//! Servers of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use semel_testkit::mysql::Server as OwnMariaDb;
pub(crate) use semel_testkit::postgres::Server as Postgres;

/// A `redis-server` in a folder of its own. It ends with the test, however that ends.
pub(crate) struct Redis {
    pub(crate) port: u16,
    folder: TempDir,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Makes one that is not running yet; `None`, and a note, where the program is missing.
    pub(crate) fn make(settings: &[&str]) -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there {
            semel_testkit::skip::skip("semel on Redis", "no program redis-server").unwrap();
            return None;
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Some(Self { port: free_port(), folder: tempfile::tempdir().unwrap(), settings, child: None })
    }

    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let mut server = Self::make(settings)?;
        server.resume();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn resume(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(&self.settings).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(self.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let give_up = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < give_up, "redis-server does not start with {:?}", self.settings);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// A database of a test's own on the MariaDB that tests share. It ends with the test.
pub(crate) struct MariaDb {
    server: String,
    name: String,
}

impl MariaDb {
    /// `None`, and a note, where there is no server, or no program `mariadb` to speak to it.
    pub(crate) fn make() -> Option<Self> {
        let server =
            std::env::var("SEMEL_TEST_MYSQL").unwrap_or_else(|_| "mysql://root@127.0.0.1:3306".into());
        let server = server.trim_end_matches('/').to_owned();
        let name = format!("semel_cli_{}_{:012x}", std::process::id(), fastrand::u64(..1 << 48));
        let made = Self { server, name };
        if let Err(why) = made.run(&format!("CREATE DATABASE {}", made.name)) {
            semel_testkit::skip::skip("semel on MariaDB", &why).unwrap();
            return None;
        }
        Some(made)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    fn run(&self, sql: &str) -> Result<(), String> {
        let address = self.server.rsplit(['@', '/']).next().unwrap_or_default();
        let said = at_mariadb(address, "", sql);
        said.map(|_| ()).map_err(|why| format!("SEMEL_TEST_MYSQL: {why}"))
    }
}

/// What a MariaDB at an address says to statements, as its user `root` in a database.
pub(crate) fn at_mariadb(address: &str, database: &str, sql: &str) -> Result<String, String> {
    let (host, port) = address.split_once(':').unwrap_or((address, "3306"));
    let mut client = Command::new("mariadb");
    client.args([
        "--no-defaults",
        "-N",
        "-r",
        "-h",
        host,
        "-P",
        port,
        "-u",
        "root",
        "-D",
        database,
        "-e",
        sql,
    ]);
    let ended =
        client.stdin(Stdio::null()).output().map_err(|error| format!("no program mariadb: {error}"))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _gone = self.run(&format!("DROP DATABASE IF EXISTS {}", self.name));
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What makes a Redis durable.
pub(crate) const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
