//! `semel demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::address::address;

/// Start a small order service with Semel in front of it, and print what to try
///
/// The service, the proxy and a SQLite file in a temporary folder run until Ctrl-C. Kill the proxy while an order
/// is being made, to see what becomes of it: it is started again.
///
/// With --script the program tries everything by itself, a client that hangs up and a SIGKILL of the proxy included,
/// counts the orders at the service, and exits with 1 if anything is not as it must be.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Play all scenes, print a transcript, and end
    #[arg(long)]
    pub(crate) script: bool,

    /// Where the proxy listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// A folder for the SQLite file and the proxy's log; it stays [default: a temporary one, removed at the end]
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
}
