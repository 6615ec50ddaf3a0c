//! What goes wrong: processes are killed and paused, the database is restarted, and its answers get lost.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use semel_testkit::cable::{Cable, Fault};
use semel_testkit::{mysql, postgres};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::Failure;
use crate::books::Report;
use crate::service::{LEASE, Mistake};

/// A service as a process.
pub(crate) struct Service {
    address: SocketAddr,
    url: String,
    mistake: Option<Mistake>,
    child: Child,
}

impl Service {
    pub(crate) fn start(address: SocketAddr, url: String, mistake: Option<Mistake>) -> Result<Self, Failure> {
        let child = spawn(address, &url, mistake)?;
        Ok(Self { address, url, mistake, child })
    }

    /// As by a power cut, and started again.
    async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        self.child = spawn(self.address, &self.url, self.mistake)?;
        Ok(())
    }

    /// Stopped for longer than its leases last, and on it goes as if nothing had been.
    async fn pause(&self, rng: &mut fastrand::Rng) -> Result<(), Failure> {
        self.signal(Signal::STOP)?;
        sleep(LEASE + Duration::from_millis(rng.u64(200..900))).await;
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(pid.ok_or("a service ended by itself")?, signal)?;
        Ok(())
    }
}

fn spawn(address: SocketAddr, url: &str, mistake: Option<Mistake>) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--listen", &address.to_string(), "--url", url]);
    if let Some(mistake) = mistake {
        command.args(["--mistake", mistake.name()]);
    }
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?)
}

/// A database that can be restarted.
pub(crate) enum Server {
    MySql(mysql::Server),
    Postgres(postgres::Server),
}

impl Server {
    /// Killed, or ended as an operator does it, and started again.
    async fn restart(&mut self, killed: bool) -> Result<(), Failure> {
        match self {
            Self::MySql(server) => {
                if killed {
                    server.kill()?;
                } else {
                    server.stop().await?;
                }
                server.resume().await?;
            }
            Self::Postgres(server) => {
                if killed {
                    server.kill()?;
                } else {
                    server.stop()?;
                }
                server.resume().await?;
            }
        }
        Ok(())
    }
}

/// One of these, behind a cable that can be broken.
pub(crate) struct Remote {
    pub(crate) server: Server,
    pub(crate) cable: Cable,
}

/// Breaks things until the time is over, and mends them.
pub(crate) async fn rage(
    services: &mut [Service],
    mut remote: Option<&mut Remote>,
    seconds: u64,
    rng: &mut fastrand::Rng,
    report: &mut Report,
) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        sleep(Duration::from_millis(rng.u64(50..400))).await;
        let one = rng.usize(..services.len());
        match (rng.u8(..12), &mut remote) {
            (0..4, _) => {
                services[one].kill().await?;
                report.kills += 1;
            }
            (4..6, _) => {
                services[one].pause(rng).await?;
                report.pauses += 1;
            }
            (6, Some(remote)) => {
                remote.server.restart(rng.bool()).await?;
                report.restarts += 1;
            }
            (7..11, Some(remote)) => {
                // Among what goes over the cable, every fourth word or so is a commit.
                for _ in 0..rng.u8(1..6) {
                    let fault = if rng.bool() { Fault::CutAfter } else { Fault::Swallow };
                    remote.cable.next(fault);
                    report.swallowed += 1;
                }
            }
            (_, Some(remote)) => remote.cable.cut(),
            (_, None) => {}
        }
    }
    if let Some(remote) = remote {
        report.swallowed = report.swallowed.saturating_sub(remote.cable.pending());
        remote.cable.heal()?;
        remote.cable.cut();
    }
    Ok(())
}
