//! How to open a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use semel_core::identity::Secret;
use semel_core::store::{Capabilities, Quotas, StoreError, StoreErrorKind};

use crate::RedisStore;
use crate::address::{Address, Login};
use crate::clock::Clock;
use crate::error::{NAME, error};
use crate::keys::Keys;
use crate::link::{Agreement, Bookkeeping};
use crate::open::{Opened, Opening, Plan};
use crate::preflight::{Wanted, Warning};
use crate::scan::Cursor;
use crate::steps::{Replicas, Steps};
use crate::tls::Tls;
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
    sentinel_login: Option<Login>,
    tls: Tls,
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
            sentinel_login: None,
            tls: Tls::default(),
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
    /// With as many as the server has replicas, a failover loses nothing that was answered. With fewer it loses less: a
    /// replica that did not acknowledge can be promoted. All steps on a server share one connection, so one that waits
    /// holds up those behind it. Keep `within` below [`timeout`](Self::timeout). Default: what the URL says
    /// (`replicas=1`, `replicas_ms=1000`), else none.
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

    /// What the Sentinels know us as, where they have passwords: they are others than those of the data nodes, which are
    /// in the URL's usual place. Also `sentinel_user` and `sentinel_password` in the URL.
    pub fn sentinel_login(mut self, user: Option<&str>, password: impl Into<String>) -> Self {
        self.sentinel_login = Some(Login { user: user.map(str::to_owned), password: Some(password.into()) });
        self
    }

    /// Whom the servers' certificates have to come from, in PEM. Also `tls_ca=FILE` in the URL. Default: what the
    /// operating system trusts.
    #[cfg(feature = "tls")]
    pub fn certificate_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.authority = Some(pem.into());
        self
    }

    /// What we show servers that ask for a certificate: it, with its chain, and its key, both in PEM. Also
    /// `tls_cert=FILE` and `tls_key=FILE` in the URL.
    #[cfg(feature = "tls")]
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
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
        let keys = Keys::new(&self.prefix)?;
        if self.max_body > LARGEST_BODY {
            let message = format!("bodies of {} bytes do not fit: at most {LARGEST_BODY}", self.max_body);
            return Err(error(StoreErrorKind::Config, message));
        }
        let address = Address::parse(&self.url)?;
        let replicas = self.replicas.or(address.replicas);
        let bookkeeping = Bookkeeping::start()?;
        let plan = Plan::new(address, self.tls, self.sentinel_login, self.timeout)?;
        let wanted = Wanted {
            role: plan.role(),
            max_body: self.max_body,
            accept_eviction: self.accept_eviction,
            replicas: replicas.map_or(0, |replicas| replicas.count),
        };
        let opening = Opening {
            plan: plan.clone(),
            secret_key: keys.secret(),
            configured: self.secret.clone(),
            wanted,
        };
        let Opened { connected, mut findings, secret } = bookkeeping.run(opening.run()).await?;
        let server = plan.server().clone();
        for warning in &findings.warnings {
            tracing::warn!(%server, "{warning}");
        }
        let agreement =
            Agreement { key: keys.secret(), secret: secret.clone(), configured: self.secret.is_some() };
        let (servers, dial) = connected.start(&bookkeeping, agreement);
        let watchers = Watchers::start(&bookkeeping, dial, keys.clone());
        let steps = Steps { servers, keys, clock: self.clock, max_body: self.max_body, replicas };
        // The rights to do what the steps do are missed here and not by the first payment.
        match steps.health().await {
            // What runs can be settled there, what is settled can be replayed, and an operator can make room.
            Err(full) if full.kind() == StoreErrorKind::Full => {
                if !findings.warnings.contains(&Warning::Full) {
                    tracing::warn!(%server, "{}", Warning::Full);
                    findings.warnings.push(Warning::Full);
                }
            }
            probed => probed?,
        }
        let mut capabilities = Capabilities::new(NAME);
        capabilities.durable = findings.durable;
        capabilities.shared = true;
        capabilities.max_body = Some(self.max_body);
        capabilities.notifies_across_processes = true;
        // No step of a cluster reads the record and what its principal keeps.
        capabilities.quotas = if steps.servers.is_cluster() { Quotas::Refused } else { Quotas::Limited };
        Ok(RedisStore {
            steps: Arc::new(steps),
            watchers,
            cursor: Cursor::default(),
            secret,
            capabilities,
            warnings: findings.warnings,
            plan,
            wanted,
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
