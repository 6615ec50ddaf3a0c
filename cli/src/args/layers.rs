//! Layers between the proxy and its store.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::units::{duration, size};

/// What stands between the proxy and its store: a cache, then compression, then sealing, then the guard.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Between proxy and store")]
pub(crate) struct LayerArgs {
    #[command(flatten)]
    pub(crate) seal: SealArgs,

    /// Compress bodies of more than 1 KiB with zstd, where that makes them smaller
    #[arg(long, env = "SEMEL_COMPRESS", value_parser = BoolishValueParser::new())]
    pub(crate) compress: bool,

    /// Answer repeated replays from so much memory, without asking the store; not for memory:
    ///
    /// What another process deletes or resolves may be replayed here for up to 5 s longer.
    #[arg(long, env = "SEMEL_LOCAL_CACHE", value_name = "SIZE", value_parser = size)]
    pub(crate) local_cache: Option<usize>,

    /// Time-outs, tries and a circuit breaker before the store
    #[arg(long, env = "SEMEL_GUARD", default_value = "auto", value_name = "RULE")]
    pub(crate) guard: GuardArg,

    /// How long one try of a step may take, with the guard; there are three [default: 500ms]
    #[arg(long, env = "SEMEL_STORE_TIMEOUT", value_name = "TIME", value_parser = duration)]
    pub(crate) store_timeout: Option<Duration>,
}

/// The keys that encrypt what is kept.
#[derive(Debug, Default, Args)]
pub(crate) struct SealArgs {
    /// Encrypt answers in the store with the keys in this file
    ///
    /// One key a line: `seal NUMBER 64-HEX-DIGITS` for the one that seals, and `open NUMBER 64-HEX-DIGITS` for each that
    /// only opens what it has sealed before. `#` begins a remark. A new key: `openssl rand -hex 32`. Give every process
    /// a new key as `open` first, and as `seal` afterwards; keep the old one for as long as records live.
    #[arg(long, env = "SEMEL_SEAL_KEYS", value_name = "FILE")]
    pub(crate) seal_keys: Option<PathBuf>,

    /// Read records from before sealing began as they are; without it they are refused
    #[arg(long, env = "SEMEL_ACCEPT_UNSEALED", value_parser = BoolishValueParser::new())]
    pub(crate) accept_unsealed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuardArg {
    /// On for stores on servers
    #[default]
    Auto,
    On,
    Off,
}
