//! How a connection is made: to a server, to the primary that Sentinels name, or to any node of a cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client};
use semel_core::store::{StoreError, StoreErrorKind};

use crate::address::{Host, Maker};
use crate::cluster::Cluster;
use crate::error::{error, no_answer_within, unreachable};
use crate::sentinel::Sentinels;

/// Which server, for texts: host, port and database, never a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server(Arc<str>);

impl Server {
    pub(crate) fn named(name: impl fmt::Display) -> Self {
        Self(name.to_string().into())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to make a connection.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) target: Target,
    pub(crate) server: Server,
    pub(crate) timeout: Duration,
}

#[derive(Clone)]
pub(crate) enum Target {
    /// This host, whatever it is.
    Host(Host, Arc<Maker>),
    /// Whoever is the primary now.
    Primary(Arc<Sentinels>),
    /// Any node: only for wake-ups, which every node passes on.
    AnyNode(Cluster),
}

impl Dial {
    pub(crate) async fn connect(&self) -> Result<(MultiplexedConnection, Host), StoreError> {
        let (client, host) = self.client().await?;
        Ok((connect(&client, &self.server, self.timeout).await?, host))
    }

    /// A connection for wake-ups. The time for it is the caller's to bound.
    pub(crate) async fn pubsub(&self) -> Result<PubSub, StoreError> {
        let (client, _) = self.client().await?;
        client.get_async_pubsub().await.map_err(|error| unreachable(&self.server, error))
    }

    /// Whether the host that was connected to is still the one to talk to, as far as anybody knows.
    pub(crate) async fn still_leads_to(&self, host: &Host) -> bool {
        match &self.target {
            // Nobody to ask is no reason to leave a primary that answers.
            Target::Primary(sentinels) => {
                sentinels.primary(self.timeout).await.map_or(true, |primary| primary == *host)
            }
            Target::Host(..) | Target::AnyNode(_) => true,
        }
    }

    /// Whether somebody else may become the primary without this connection's noticing.
    pub(crate) fn can_change(&self) -> bool {
        matches!(self.target, Target::Primary(_))
    }

    async fn client(&self) -> Result<(Client, Host), StoreError> {
        match &self.target {
            Target::Host(host, maker) => Ok((maker.client(host)?, host.clone())),
            Target::Primary(sentinels) => {
                let host = sentinels.primary(self.timeout).await?;
                Ok((sentinels.data.client(&host)?, host))
            }
            Target::AnyNode(cluster) => {
                let host = cluster.any_node().ok_or_else(|| {
                    error(StoreErrorKind::Unavailable, format!("{}: no node is known", self.server))
                })?;
                Ok((cluster.maker().client(&host)?, host))
            }
        }
    }
}

pub(crate) async fn connect(
    client: &Client,
    server: &Server,
    timeout: Duration,
) -> Result<MultiplexedConnection, StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    // The library bounds the connection but not the handshake that follows.
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match tokio::time::timeout(timeout * 2, connecting).await {
        Ok(connected) => connected.map_err(|error| unreachable(server, error)),
        Err(_) => Err(no_answer_within(server, timeout * 2)),
    }
}
