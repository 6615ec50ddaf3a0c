//! A PostgreSQL of a test's own, from the machine's programs: to be killed, paused, or set up otherwise.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Duration;

use crate::skip::skip;
use crate::upstream::PATIENCE;

/// A server on a free port, in a folder of its own. It ends with the test, however that ends.
#[derive(Debug)]
pub struct Server {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// Makes one that is not running yet; `None`, and a note, where its programs are not installed.
    ///
    /// Connections from loopback need no password, but that of the user `asks_password`.
    ///
    /// # Errors
    ///
    /// It cannot be made; under CI also that the programs are missing.
    pub fn make(settings: &[&str]) -> io::Result<Option<Self>> {
        let Some(bin) = programs() else {
            let why = "no initdb and postgres in SEMEL_TEST_POSTGRES_BIN or /usr/lib/postgresql";
            return skip("a PostgreSQL of one's own", why).map(|()| None);
        };
        let server = Self {
            bin,
            folder: tempfile::tempdir()?,
            port: free_port()?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            running: None,
        };
        give_to_postgres(server.folder.path())?;
        let data = server.data();
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]);
        done(&mut initdb)?;
        let rules = "host all asks_password all scram-sha-256\nhost all all 127.0.0.1/32 trust\n\
                     host replication all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules)?;
        Ok(Some(server))
    }

    /// Starts one with settings such as `fsync=off`.
    ///
    /// # Errors
    ///
    /// Those of [`make`](Self::make), and of [`resume`](Self::resume).
    pub async fn start(settings: &[&str]) -> io::Result<Option<Self>> {
        let Some(mut server) = Self::make(settings)? else { return Ok(None) };
        server.resume().await?;
        Ok(Some(server))
    }

    /// A standby that follows this server by streaming from this address: the server's own, or a cable's to it.
    ///
    /// # Errors
    ///
    /// It cannot be made, or does not start.
    pub async fn standby(&self, from: SocketAddr) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        give_to_postgres(folder.path())?;
        let port = free_port()?;
        let mut standby = Self { bin: self.bin.clone(), folder, port, settings: Vec::new(), running: None };
        let mut copy = standby.command("pg_basebackup");
        copy.arg("-D").arg(standby.data()).args(["-R", "-X", "stream", "-c", "fast", "-d"]);
        copy.arg(format!("host={} port={} user=postgres", from.ip(), from.port()));
        done(&mut copy)?;
        standby.resume().await?;
        Ok(standby)
    }

    /// For the user `postgres` and the database of that name.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The port of [`address`](Self::address).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder of data, where its files of settings are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file that only the server may read, beside its data, and says where.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        done(Command::new("chmod").arg("600").arg(&path))?;
        give_to_postgres(&path)?;
        Ok(path)
    }

    /// One more setting, from the next start on.
    pub fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Starts it on its data, and waits until it answers.
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
            // After a kill, the old one's children may still hold its memory: then it is tried again.
            if ended {
                self.running = Some(self.spawn()?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut asked = self.command("pg_isready");
            asked.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
            if asked.stderr(Stdio::null()).status()?.success() {
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(io::Error::other("PostgreSQL does not start"));
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
        postgres.arg(format!("unix_socket_directories={}", self.folder.path().display()));
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// Runs statements as the superuser and gives their rows, one a line, columns parted by `|`.
    ///
    /// # Errors
    ///
    /// One fails; the text is what the server said.
    pub fn sql(&self, text: &str) -> io::Result<String> {
        let mut psql = self.command("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
        psql.args(["-p", &self.port.to_string(), "-d", "postgres", "-c", text]);
        let output = psql.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Runs a statement in a transaction that stays open until the guard is dropped, or the server ends.
    ///
    /// # Errors
    ///
    /// There is no `psql`.
    pub fn hold(&self, text: &str) -> io::Result<Held> {
        let mut psql = self.command("psql");
        psql.args([
            "-XAtq",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &self.port.to_string(),
            "-d",
            "postgres",
        ]);
        psql.args(["-c", &format!("BEGIN; {text}; SELECT pg_sleep(600)")]);
        Ok(Held(psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Waits until this statement gives this.
    ///
    /// # Errors
    ///
    /// It does not in time.
    pub async fn until(&self, text: &str, is: &str) -> io::Result<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let now = self.sql(text);
            if matches!(&now, Ok(now) if now == is) {
                return Ok(());
            }
            if Instant::now() > give_up {
                return Err(io::Error::other(format!("{text} is {now:?} and not {is}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
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
    /// It does not end by itself.
    pub fn stop(&mut self) -> io::Result<()> {
        self.shut_down("fast")
    }

    /// Sends a signal to it and to all its processes: `STOP` and `CONT` are the pauses of a machine.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let postmaster = self.running.as_ref().ok_or_else(not_running)?.id();
        // The postmaster first, so that no child is made after the others were listed.
        for process in [vec![postmaster], children(postmaster)?].concat() {
            let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or_else(not_running)?;
            match kill_process(pid, signal) {
                // A child may have ended meanwhile.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn shut_down(&mut self, mode: &str) -> io::Result<()> {
        let Some(mut child) = self.running.take() else { return Ok(()) };
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.arg("-D").arg(self.data()).args(["-m", mode, "-w", "stop"]);
        let ended = done(&mut pg_ctl);
        // By now it has ended, or nothing else helps.
        let _gone = child.kill();
        child.wait()?;
        ended
    }

    fn command(&self, program: &str) -> Command {
        as_postgres(&self.bin.join(program), self.folder.path())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is paused hears of nothing.
        let _running = self.signal(Signal::CONT);
        let _ended = self.shut_down("immediate");
    }
}

/// An open transaction.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // The server finds out by itself that it is gone.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn not_running() -> io::Error {
    io::Error::other("PostgreSQL is not running")
}

pub(crate) fn done(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {}: {said}", command.get_program().display(), output.status)))
}

fn children(of: u32) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
    Ok(text.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// A command for a program that refuses to run as root, as PostgreSQL's and PgBouncer do: it runs as `postgres` then.
pub fn as_postgres(program: &Path, folder: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Lets that program write there.
///
/// # Errors
///
/// There is no such user.
pub fn give_to_postgres(path: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return done(Command::new("chown").arg("postgres").arg(path));
    }
    Ok(())
}

/// A port that is free now.
///
/// # Errors
///
/// None is.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn programs() -> Option<PathBuf> {
    if let Some(bin) = std::env::var_os("SEMEL_TEST_POSTGRES_BIN") {
        return Some(bin.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()).max()
}
