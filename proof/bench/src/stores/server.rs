//! Private servers. Each ends with its handle.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Failure;

/// A server at work.
pub(crate) struct Server {
    child: Child,
    /// Of 127.0.0.1.
    pub(crate) port: u16,
    /// Gone after the server.
    _folder: Option<TempDir>,
}

impl Server {
    fn start(command: &mut Command, port: u16, folder: Option<TempDir>) -> Result<Self, Failure> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Self { child, port, _folder: folder };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until || server.child.try_wait()?.is_some() {
                return Err(format!("{} does not start", command.get_program().display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The CPU time of the server and of all its children, also of those that have ended.
    pub(crate) fn time(&self) -> Result<Duration, Failure> {
        let own = self.child.id();
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process may end while it is looked at.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // After the name, which may hold anything: state, parent, …, and from the 12th on the times.
            let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<&str> = fields.split(' ').collect();
            let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            if pid == own {
                // With those of children that were waited for.
                ticks += (11..15).map(number).sum::<u64>();
            } else if number(1) == u64::from(own) {
                ticks += number(11) + number(12);
            }
        }
        // Linux counts in hundredths of a second there, whatever its own clock.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL's own children end with it, if it is asked instead of killed.
        let asked = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A Redis without persistence: what is measured is the CPU time of its commands. `None` where it is not installed.
pub(crate) fn redis(folder: &Path) -> Result<Option<Server>, Failure> {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Ok(None);
    }
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.args(["--maxmemory-policy", "noeviction", "--dir"]).arg(folder);
    Server::start(&mut command, port, None).map(Some)
}

/// PostgreSQL as it is installed, `fsync` and all; and the folder of its programs. `None` where it is not.
pub(crate) fn postgres() -> Result<Option<(Server, PathBuf)>, Failure> {
    let Some(bin) = postgres_programs() else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let run = |program: &str| as_postgres(&bin.join(program), folder.path());
    if is_root() && !Command::new("chown").arg("postgres").arg(folder.path()).status()?.success() {
        return Err("no user `postgres` to run the server".into());
    }
    let mut made = run("initdb");
    made.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-E", "UTF8"]).stdout(Stdio::null());
    if !made.status()?.success() {
        return Err("initdb failed".into());
    }
    let port = free_port()?;
    let mut command = run("postgres");
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"]);
    command.arg(format!("unix_socket_directories={}", folder.path().display()));
    command.args(["-c", "max_connections=200"]);
    let server = Server::start(&mut command, port, Some(folder))?;
    // It listens before it takes anybody in.
    let until = Instant::now() + Duration::from_secs(30);
    let mut ready = Command::new(bin.join("pg_isready"));
    ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    while !ready.status()?.success() {
        if Instant::now() > until {
            return Err("PostgreSQL does not get ready".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Some((server, bin)))
}

fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists() && bin.join("pgbench").exists()).max()
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path, folder: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
