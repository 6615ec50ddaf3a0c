//! A server of a test's own, from the same binaries: to be killed, or set up otherwise.

use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use semel_testkit::cable::Cable;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

pub(crate) struct Server {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// Starts it with settings such as `fsync=off`; `None` where PostgreSQL's programs are not installed.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        let Some(bin) = programs() else {
            let text = "not tested: no initdb and postgres in SEMEL_TEST_POSTGRES_BIN or /usr/lib/postgresql";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
            eprintln!("{text}");
            return None;
        };
        let mut server = Self {
            bin,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            running: None,
        };
        give_to_postgres(server.folder.path());
        let data = server.data();
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(data).args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]);
        let made = initdb.stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "initdb: {made}");
        std::fs::write(
            server.data().join("pg_hba.conf"),
            "host all asks_password all scram-sha-256\nhost all all 127.0.0.1/32 trust\n\
             host replication all 127.0.0.1/32 trust\n",
        )
        .unwrap();
        server.resume().await;
        Some(server)
    }

    /// One that follows this one.
    pub(crate) async fn standby(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        give_to_postgres(folder.path());
        let mut standby =
            Self { bin: self.bin.clone(), folder, port: free_port(), settings: Vec::new(), running: None };
        let mut copy = self.command("pg_basebackup");
        copy.arg("-D").arg(standby.data()).args(["-R", "-c", "fast", "-h", "127.0.0.1", "-U", "postgres"]);
        assert!(copy.args(["-p", &self.port.to_string()]).status().unwrap().success());
        standby.resume().await;
        standby
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same data, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let give_up = Instant::now() + Duration::from_mins(1);
        while PgConnection::connect(&self.url()).await.is_err() {
            assert!(Instant::now() < give_up, "the server does not start");
            let ended = self.running.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            // After a kill, the old one's children may still hold its memory: then it is tried again.
            if ended {
                let mut postgres = self.command("postgres");
                postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
                postgres.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
                postgres.arg(format!("unix_socket_directories={}", self.folder.path().display()));
                for setting in &self.settings {
                    postgres.args(["-c", setting]);
                }
                self.running = Some(postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            }
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

    /// Ends it as an operator does, whoever is connected.
    pub(crate) fn stop(&mut self) {
        assert!(self.shut_down("fast"));
    }

    fn shut_down(&mut self, mode: &str) -> bool {
        let Some(mut child) = self.running.take() else { return true };
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.arg("-D").arg(self.data()).args(["-m", mode, "-w", "stop"]);
        let ended = pg_ctl.stdout(Stdio::null()).status().is_ok_and(|status| status.success());
        // By now it has ended, or nothing else helps.
        let _ = child.kill();
        child.wait().is_ok() && ended
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        as_postgres(&self.bin.join(program), self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down("immediate");
    }
}

/// PostgreSQL and PgBouncer refuse to run as root, so they run as `postgres` then.
fn as_postgres(program: &Path, folder: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn give_to_postgres(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres").arg(path).status().unwrap().success());
    }
}

/// A PgBouncer before the shared server, in transaction mode.
pub(crate) struct Bouncer {
    url: String,
    _folder: TempDir,
    child: Child,
}

impl Bouncer {
    /// `None` where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let paths = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let program = paths.map(PathBuf::from).into_iter().find(|path| path.exists())?;
        let server: PgConnectOptions = crate::support::url().parse().unwrap();
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let user = server.get_username().to_owned();
        // Two servers' connections for all: what is left on one is met by somebody else.
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = users\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 200\n",
            server.get_host(),
            server.get_port(),
        );
        std::fs::write(folder.path().join("settings"), settings).unwrap();
        std::fs::write(folder.path().join("users"), format!("\"{user}\" \"\"\n")).unwrap();
        give_to_postgres(folder.path());
        let mut command = as_postgres(&program, folder.path());
        let child =
            command.args(["-q", "settings"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let url = server.host("127.0.0.1").port(port).to_url_lossy().to_string();
        let give_up = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < give_up, "PgBouncer does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(Self { url, _folder: folder, child })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cable to a server, and the URL of the cable's end.
pub(crate) fn through(url: &str) -> (Cable, String) {
    let server: PgConnectOptions = url.parse().unwrap();
    let mut addresses = (server.get_host(), server.get_port()).to_socket_addrs().unwrap();
    let cable = Cable::to(addresses.next().unwrap()).unwrap();
    let url = server.host("127.0.0.1").port(cable.address().port()).to_url_lossy();
    (cable, url.to_string())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn programs() -> Option<PathBuf> {
    if let Some(bin) = std::env::var_os("SEMEL_TEST_POSTGRES_BIN") {
        return Some(bin.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()).max()
}
