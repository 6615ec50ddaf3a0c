//! How to open a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Client;
use semel_core::identity::Secret;
use semel_core::store::{Capabilities, StoreError, StoreErrorKind};

use crate::RedisStore;
use crate::clock::Clock;
use crate::error::{NAME, error};
use crate::keys::Keys;
use crate::link::{Bookkeeping, Dial, Link, Server};
use crate::preflight;
use crate::scan::Cursor;
use crate::scripts;
use crate::secret;
use crate::steps::{Replicas, Steps};
use crate::watch::Watchers;

/// Redis takes values of 512 MiB by default; this leaves room for the rest of an answer.
const LARGEST_BODY: u64 = 500_000_000;
const DEFAULT_BODY: u64 = 64 << 20;

/// How to open a store in Redis.
#[derive(Clone)]
pub struct Builder {
    url: String,
    prefix: String,
    timeout: Duration,
    max_body: u64,
    secret: Option<Secret>,
    replicas: Option<Replicas>,
    accept_eviction: bool,
    clock: Clock,
}

impl fmt::Debug for Builder {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "semel".to_owned(),
            timeout: Duration::from_secs(5),
            max_body: DEFAULT_BODY,
            secret: None,
            replicas: None,
            accept_eviction: false,
            clock: Clock::server(),
        }
    }

    /// What the name of every key begins with: stores with different prefixes know nothing of each other. 1 to 128
    /// letters, digits and `. _ - : /`. Default `semel`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long it takes to connect, or to answer a step, before that is a `Timeout`. Default 5 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest body it keeps, in bytes; larger ones are `TooLarge`. Default 64 MiB, at most 500,000,000, and less
    /// than the server's `proto-max-bulk-len`.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// The secret of the prefix's identities. By default one is made when the prefix is first used, and kept in Redis.
    /// A configured one is not written there; a prefix opens only with the one that it was made with.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Claims and settlements wait until so many replicas have acknowledged them (`WAIT`), and are `Unavailable` if
    /// fewer did in time; they have taken effect on the primary all the same, and sending them again finds that.
    ///
    /// It narrows what a failover loses and does not close it: a replica that did not acknowledge can be promoted. All
    /// steps share one connection, so one that waits holds up those behind it. Keep `within` below
    /// [`timeout`](Self::timeout). Default: none.
    pub fn replicas(mut self, count: usize, within: Duration) -> Self {
        self.replicas = (count > 0).then_some(Replicas { count, within });
        self
    }

    /// Takes a server that removes keys when its memory is full (`maxmemory-policy` other than `noeviction`). A record
    /// that it removes **runs a second time**.
    pub fn accept_eviction(mut self) -> Self {
        self.accept_eviction = true;
        self
    }

    /// Where the time comes from. Default [`Clock::server`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Connects, and refuses a server that cannot keep the contract. Needs a Tokio runtime, as all steps do.
    ///
    /// The error is `Config` for what somebody has to change (the URL, the password, the database, a replica, a server
    /// that is too old or removes keys), and `Unavailable` or `Timeout` for a server that may be back later. Its text
    /// names the server, never the password.
    pub async fn open(self) -> Result<RedisStore, StoreError> {
        let config = |message: String| error(StoreErrorKind::Config, message);
        let keys = Keys::new(&self.prefix)?;
        if self.max_body > LARGEST_BODY {
            return Err(config(format!(
                "bodies of {} bytes do not fit: at most {LARGEST_BODY}",
                self.max_body
            )));
        }
        // What the library says of a URL is not passed on: it may quote it.
        let client = Client::open(&*self.url).map_err(|_| {
            let secure = ["rediss:", "valkeys:"].iter().any(|scheme| self.url.starts_with(scheme));
            config(if secure {
                "it speaks no TLS: use redis:// over a private network or a tunnel".into()
            } else {
                "this is no URL of a server: write redis://[user:password@]host[:port][/database]".into()
            })
        })?;
        let server = Server::of(&client);
        let bookkeeping = Bookkeeping::start()?;
        let dial = Dial { client, server: server.clone(), timeout: self.timeout };
        let opening = {
            let (dial, keys, configured) = (dial.clone(), keys.clone(), self.secret.clone());
            let (max_body, accept_eviction) = (self.max_body, self.accept_eviction);
            async move {
                let mut connection = dial.connect().await?;
                let findings =
                    preflight::check(&mut connection, &dial.server, max_body, accept_eviction).await?;
                let secret =
                    secret::take(&mut connection, &dial.server, &keys.secret(), configured.as_ref()).await?;
                // Where this is not allowed, each script's first call loads it.
                let load = scripts::load();
                let _loaded = connection.send_packed_commands(&load, 0, load.len()).await;
                Ok((connection, findings, secret))
            }
        };
        let (connection, findings, secret) = bookkeeping.run(opening).await?;
        for warning in &findings.warnings {
            tracing::warn!(%server, "{warning}");
        }
        let configured = self.secret.is_some();
        let link =
            Link::start(&bookkeeping, dial.clone(), connection, keys.secret(), secret.clone(), configured);
        let watchers = Watchers::start(&bookkeeping, dial.clone(), keys.clone());
        let steps = Steps { link, keys, clock: self.clock, max_body: self.max_body, replicas: self.replicas };
        // The rights to do what the steps do are missed here and not by the first payment.
        steps.health().await?;
        let mut capabilities = Capabilities::new(NAME);
        capabilities.durable = findings.durable;
        capabilities.shared = true;
        capabilities.max_body = Some(self.max_body);
        capabilities.notifies_across_processes = true;
        Ok(RedisStore {
            steps: Arc::new(steps),
            watchers,
            cursor: Cursor::default(),
            secret,
            capabilities,
            warnings: findings.warnings,
            dial,
            bookkeeping,
        })
    }

    /// The same from where nothing is async: blocks until the server has answered, or the time for that is over.
    pub fn open_blocking(self) -> Result<RedisStore, StoreError> {
        let failed = || error(StoreErrorKind::Unavailable, "no thread to open it on");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|source| failed().with_source(source))?;
        // A thread of its own, since the caller's may belong to a runtime that forbids to block.
        std::thread::scope(|scope| {
            let opening = scope.spawn(move || runtime.block_on(self.open()));
            opening.join().unwrap_or_else(|_| Err(failed()))
        })
    }
}
