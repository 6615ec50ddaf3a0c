//! The processes that are measured, and the one behind them. Each ends with its handle.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a program that says `listening on http://ADDRESS` once it does.
    fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().ok_or("no output")?;
        // Its handle exists from here on, so that it ends whatever follows.
        let mut running = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut lines = BufReader::new(out).lines();
        loop {
            let line = lines.next().ok_or("a process ended before it listened")??;
            if let Some((_, address)) = line.split_once("listening on http://") {
                running.address = address.trim().parse()?;
                break;
            }
        }
        // What it says later is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn upstream() -> Result<Running, Failure> {
    Running::start(Command::new(std::env::current_exe()?).arg("upstream"))
}

/// The gateway with one worker, before this upstream.
pub(crate) fn semel(store: &str, upstream: SocketAddr) -> Result<Running, Failure> {
    let upstream = format!("http://{upstream}");
    let mut command = Command::new(program()?);
    command.args(["proxy", "--listen", "127.0.0.1:0", "--admin", "off", "--workers", "1"]);
    Running::start(command.args(["--upstream", &upstream, "--store", store]).stderr(Stdio::null()))
}

/// `semel`, built like this program and beside it.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name(format!("semel{}", std::env::consts::EXE_SUFFIX));
    // Under cargo it is made anew, so that what is measured is what is there.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let built = Command::new(cargo).args(["build", "--quiet", "--release", "--bin", "semel"]).status()?;
        if !built.success() {
            return Err("semel does not build".into());
        }
    }
    if program.exists() { Ok(program) } else { Err("no `semel`: cargo build --release --bin semel".into()) }
}

/// nginx as a plain reverse proxy with one worker and connections to the upstream that are kept alive. `None`
/// where it is not installed.
pub(crate) fn nginx(folder: &Path, upstream: SocketAddr) -> Result<Option<Running>, Failure> {
    let Some(program) = ["nginx", "/usr/sbin/nginx"]
        .into_iter()
        .find(|program| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok())
    else {
        return Ok(None);
    };
    // A free port, taken again at once.
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let temp = folder.display();
    let file = folder.join("nginx.conf");
    let settings = format!(
        "daemon off; master_process off; pid {temp}/nginx.pid; error_log /dev/null;
         events {{ worker_connections 1024; }}
         http {{
             access_log off; keepalive_requests 1000000000; tcp_nodelay on;
             client_body_temp_path {temp}/body; proxy_temp_path {temp}/proxy; fastcgi_temp_path {temp}/fastcgi;
             uwsgi_temp_path {temp}/uwsgi; scgi_temp_path {temp}/scgi;
             upstream application {{
                 server {upstream}; keepalive 256; keepalive_requests 1000000000;
             }}
             server {{
                 listen {address};
                 location / {{
                     proxy_pass http://application; proxy_http_version 1.1;
                     proxy_set_header Connection \"\"; proxy_set_header Host $host;
                     proxy_set_header X-Forwarded-For $remote_addr;
                 }}
             }}
         }}"
    );
    std::fs::write(&file, settings)?;
    let child = Command::new(program).arg("-c").arg(&file).stderr(Stdio::null()).spawn()?;
    let running = Running { child, address };
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            return Err("nginx does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some(running))
}
