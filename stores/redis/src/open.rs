//! From a URL to servers that were looked at and agree on the secret.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use semel_core::identity::Secret;
use semel_core::store::{StoreError, StoreErrorKind};

use crate::address::{Address, Host, Login, Maker, Shape};
use crate::cluster::{Cluster, Dialing, Map};
use crate::dial::{Dial, Server, Target};
use crate::error::error;
use crate::link::{Agreement, Bookkeeping, Link};
use crate::preflight::{self, Findings, Role, Wanted};
use crate::sentinel::Sentinels;
use crate::servers::Servers;
use crate::tls::Tls;
use crate::{scripts, secret, slot};

/// How the servers are reached.
#[derive(Clone)]
pub(crate) enum Plan {
    /// One at a time.
    One {
        dial: Dial,
        role: Role,
    },
    Cluster(Dialing),
}

/// What has to be so before a store is open.
pub(crate) struct Opening {
    pub(crate) plan: Plan,
    pub(crate) secret_key: String,
    pub(crate) configured: Option<Secret>,
    pub(crate) wanted: Wanted,
}

/// What was found then.
pub(crate) struct Opened {
    pub(crate) connected: Connected,
    pub(crate) findings: Findings,
    pub(crate) secret: Secret,
}

/// Connections to those that hold the records.
pub(crate) enum Connected {
    One(Dial, MultiplexedConnection, Host),
    Cluster(Dialing, Map, Vec<(MultiplexedConnection, Host)>),
}

impl Plan {
    pub(crate) fn new(
        address: Address,
        tls: Tls,
        sentinel_login: Option<Login>,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        #[cfg(not(feature = "tls"))]
        if address.secure {
            return Err(crate::tls::no_tls());
        }
        let tls = address.secure.then(|| tls.with_files(&address.files)).transpose()?;
        let Address { shape, mut hosts, login, database, .. } = address;
        let maker = Maker::new(login, database, tls.clone());
        // Damaged certificates are said here, and not by a task in the background.
        for host in &hosts {
            maker.client(host)?;
        }
        let all = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Ok(match shape {
            Shape::Single => {
                let server = Server::named(format_args!("{all}/{database}"));
                // Parsing makes sure that there is one.
                let host = hosts.swap_remove(0);
                let target = Target::Host(host, Arc::new(maker));
                Self::One { dial: Dial { target, server, timeout }, role: Role::Single }
            }
            Shape::Sentinel { service, login } => {
                let server = Server::named(format_args!("{service} of Sentinel {all}/{database}"));
                let asking = Maker::new(sentinel_login.unwrap_or(login), 0, tls);
                let target = Target::Primary(Arc::new(Sentinels::new(service, hosts, asking, maker)));
                Self::One { dial: Dial { target, server, timeout }, role: Role::Primary }
            }
            Shape::Cluster => {
                let server = Server::named(format_args!("cluster {all}"));
                Self::Cluster(Dialing { server, seeds: hosts, maker: Arc::new(maker), timeout })
            }
        })
    }

    pub(crate) fn server(&self) -> &Server {
        match self {
            Self::One { dial, .. } => &dial.server,
            Self::Cluster(dialing) => &dialing.server,
        }
    }

    /// What is found at each primary now.
    pub(crate) async fn look(&self, wanted: Wanted) -> Result<Findings, StoreError> {
        match self {
            Self::One { dial, .. } => Ok(look_at(dial, wanted).await?.2),
            Self::Cluster(dialing) => {
                let mut all = None::<Findings>;
                for host in whole(dialing).await?.primaries() {
                    let (_, _, findings) = look_at(&node(dialing, host), wanted).await?;
                    all = Some(match all {
                        Some(others) => others.and(findings),
                        None => findings,
                    });
                }
                all.ok_or_else(|| no_nodes(dialing))
            }
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self::One { role, .. } => *role,
            Self::Cluster(_) => Role::Node,
        }
    }
}

impl Connected {
    /// Keeps the connections from now on. Answers where steps go, and how to listen for wake-ups.
    pub(crate) fn start(self, on: &Bookkeeping, agreement: Agreement) -> (Servers, Dial) {
        match self {
            Self::One(dial, connection, host) => {
                let timeout = dial.timeout;
                let link = Link::start(on.handle(), dial.clone(), Some((connection, host)), agreement);
                (Servers::One { link, timeout }, dial)
            }
            Self::Cluster(dialing, map, connected) => {
                let (server, timeout) = (dialing.server.clone(), dialing.timeout);
                let cluster = Cluster::start(on.handle(), dialing, map, connected, agreement);
                let target = Target::AnyNode(cluster.clone());
                (Servers::Cluster { cluster, timeout }, Dial { target, server, timeout })
            }
        }
    }
}

impl Opening {
    pub(crate) async fn run(self) -> Result<Opened, StoreError> {
        match &self.plan {
            Plan::One { dial, .. } => {
                let (mut connection, host, findings) = look_at(dial, self.wanted).await?;
                let secret = self.secret(&mut connection, &dial.server).await?;
                load(&mut connection).await;
                Ok(Opened { connected: Connected::One(dial.clone(), connection, host), findings, secret })
            }
            Plan::Cluster(dialing) => self.cluster(dialing).await,
        }
    }

    async fn cluster(&self, dialing: &Dialing) -> Result<Opened, StoreError> {
        let map = whole(dialing).await?;
        let keeper = map.owner(slot::of(self.secret_key.as_bytes()));
        let (mut connected, mut all, mut secret) = (Vec::new(), None::<Findings>, None);
        for host in map.primaries() {
            let dial = node(dialing, host);
            let (mut connection, host, findings) = look_at(&dial, self.wanted).await?;
            all = Some(match all {
                Some(others) => others.and(findings),
                None => findings,
            });
            if keeper == Some(&host) {
                secret = Some(self.secret(&mut connection, &dial.server).await?);
            }
            load(&mut connection).await;
            connected.push((connection, host));
        }
        match (all, secret) {
            (Some(findings), Some(secret)) => {
                let connected = Connected::Cluster(dialing.clone(), map, connected);
                Ok(Opened { connected, findings, secret })
            }
            _ => Err(no_nodes(dialing)),
        }
    }

    async fn secret(
        &self,
        connection: &mut MultiplexedConnection,
        server: &Server,
    ) -> Result<Secret, StoreError> {
        secret::take(connection, server, &self.secret_key, self.configured.as_ref()).await
    }
}

async fn look_at(dial: &Dial, wanted: Wanted) -> Result<(MultiplexedConnection, Host, Findings), StoreError> {
    let (mut connection, host) = dial.connect().await?;
    let findings = preflight::check(&mut connection, &dial.server, wanted).await?;
    Ok((connection, host, findings))
}

/// A cluster that serves every slot: with a hole, some keys could not be claimed.
async fn whole(dialing: &Dialing) -> Result<Map, StoreError> {
    let map = dialing.survey().await?;
    if map.serves_all() {
        return Ok(map);
    }
    let message = format!("{}: some of its slots are served by nobody", dialing.server);
    Err(error(StoreErrorKind::Unavailable, message))
}

fn node(dialing: &Dialing, host: &Host) -> Dial {
    let target = Target::Host(host.clone(), Arc::clone(&dialing.maker));
    Dial { target, server: Server::named(host), timeout: dialing.timeout }
}

fn no_nodes(dialing: &Dialing) -> StoreError {
    error(StoreErrorKind::Unavailable, format!("{}: it has no nodes", dialing.server))
}

/// Where this is not allowed, each script's first call loads it.
async fn load(connection: &mut MultiplexedConnection) {
    let load = scripts::load();
    let _loaded = connection.send_packed_commands(&load, 0, load.len()).await;
}
