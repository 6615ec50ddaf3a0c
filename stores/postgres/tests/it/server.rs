//! What stands between a store and the server that tests share: a pooler, or a cable.

use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use semel_testkit::cable::Cable;
use semel_testkit::postgres::{as_postgres, free_port, give_to_postgres};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

/// A PgBouncer before the shared server, in transaction mode.
pub(crate) struct Bouncer {
    url: String,
    _folder: TempDir,
    child: Child,
}

impl Bouncer {
    /// Whether it is installed. Says so if it is not; on the build server that is a failure.
    pub(crate) fn available() -> bool {
        let there = program().is_some();
        if !there {
            semel_testkit::skip::skip("PostgreSQL behind PgBouncer", "no program pgbouncer").unwrap();
        }
        there
    }

    pub(crate) async fn start() -> Self {
        let program = program().expect("pgbouncer");
        let server: PgConnectOptions = crate::support::url().parse().unwrap();
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
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
        give_to_postgres(folder.path()).unwrap();
        let mut command = as_postgres(&program, folder.path());
        let child =
            command.args(["-q", "settings"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let url = server.host("127.0.0.1").port(port).to_url_lossy().to_string();
        let give_up = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < give_up, "PgBouncer does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { url, _folder: folder, child }
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

fn program() -> Option<PathBuf> {
    let paths = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
    paths.map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// A cable to a server, and the URL of the cable's end.
pub(crate) fn through(url: &str) -> (Cable, String) {
    let server: PgConnectOptions = url.parse().unwrap();
    let mut addresses = (server.get_host(), server.get_port()).to_socket_addrs().unwrap();
    let cable = Cable::to(addresses.next().unwrap()).unwrap();
    let url = server.host("127.0.0.1").port(cable.address().port()).to_url_lossy();
    (cable, url.to_string())
}
