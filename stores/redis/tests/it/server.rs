//! Servers of one's own, to be stopped, filled and misconfigured.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A `redis-server` on a free port, in a folder of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    settings: Vec<String>,
}

impl Server {
    /// Starts one. `None` where the program is missing, which is a failure on the build server.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there {
            semel_testkit::skip::skip("semel-store-redis", "no program redis-server").unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let child = launch(&folder, port, &settings);
        let server = Self { child, port, folder, settings };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// As by SIGKILL: it writes nothing more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after `kill`, on the same port and folder.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(&self.folder, self.port, &self.settings);
        self.wait();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&self) {
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            // One that wants a password or is loading is there, too.
            let mut answer = [0; 5];
            let asked = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
                stream.write_all(b"PING\r\n")?;
                stream.read_exact(&mut answer)
            });
            if asked.is_ok() && !answer.starts_with(b"-LOAD") {
                return;
            }
            assert!(Instant::now() < give_up, "redis-server does not start with {:?}", self.settings);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// With room for the port that a node of a cluster opens ten thousand above its own.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}

fn launch(folder: &TempDir, port: u16, settings: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    if settings.first().is_some_and(|setting| setting == "--sentinel") {
        // A Sentinel wants a file to write to.
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, "").unwrap();
        command.arg(file);
    }
    command.args(settings).args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--loglevel",
        "warning",
    ]);
    command.current_dir(folder.path()).arg("--dir").arg(folder.path());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
