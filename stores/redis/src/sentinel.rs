//! Asking Sentinels for the primary.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use redis::aio::MultiplexedConnection;
use semel_core::store::{StoreError, StoreErrorKind};

use crate::address::{Host, Maker};
use crate::dial::{Server, connect};
use crate::error::{error, failed, no_answer_within, unexpected};

/// A Sentinel that does not answer must not hold up those that do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The Sentinels of one service.
pub(crate) struct Sentinels {
    service: String,
    asked: Vec<Sentinel>,
    /// Makes clients of the data nodes.
    pub(crate) data: Maker,
}

struct Sentinel {
    host: Host,
    maker: Arc<Maker>,
    server: Server,
    /// Kept, since it is asked every few seconds.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Sentinels {
    pub(crate) fn new(service: String, hosts: Vec<Host>, maker: Maker, data: Maker) -> Self {
        let maker = Arc::new(maker);
        let asked = hosts.into_iter().map(|host| Sentinel {
            server: Server::named(format_args!("Sentinel {host}")),
            host,
            maker: Arc::clone(&maker),
            connection: Mutex::default(),
        });
        Self { service, asked: asked.collect(), data }
    }

    /// The primary as those Sentinels see it that heard of the last failover.
    ///
    /// One that was cut off still names the old primary, so a majority of the list is heard, as far as it answers, and
    /// the highest configuration epoch wins.
    pub(crate) async fn primary(&self, timeout: Duration) -> Result<Host, StoreError> {
        let within = timeout.min(PATIENCE);
        let majority = self.asked.len() / 2 + 1;
        let mut asking: FuturesUnordered<_> =
            self.asked.iter().map(|sentinel| sentinel.ask(&self.service, within)).collect();
        let (mut newest, mut heard, mut trouble) = (None::<(u64, Host)>, 0, None::<StoreError>);
        while let Some(answer) = asking.next().await {
            match answer {
                Ok((epoch, host)) => {
                    heard += 1;
                    if newest.as_ref().is_none_or(|(newest, _)| *newest < epoch) {
                        newest = Some((epoch, host));
                    }
                    if heard >= majority {
                        break;
                    }
                }
                // What somebody has to change is worth more than that somebody is away.
                Err(error) if trouble.as_ref().is_none_or(|kept| kept.kind() != StoreErrorKind::Config) => {
                    trouble = Some(error);
                }
                Err(_) => {}
            }
        }
        match (newest, trouble) {
            (Some((_, host)), _) => Ok(host),
            (None, Some(trouble)) => Err(trouble),
            (None, None) => Err(error(StoreErrorKind::Config, "its URL names no Sentinel")),
        }
    }
}

impl Sentinel {
    async fn ask(&self, service: &str, within: Duration) -> Result<(u64, Host), StoreError> {
        let asking = async {
            let kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(&self.maker.client(&self.host)?, &self.server, within).await?,
            };
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("MASTER").arg(service);
            let answer = connection.send_packed_command(&ask).await;
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) =
                answer.is_ok().then_some(connection);
            self.read(service, answer.map_err(|error| failed(&self.server, error))?)
        };
        let answer = tokio::time::timeout(within, asking).await;
        answer.unwrap_or_else(|_| {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Err(no_answer_within(&self.server, within))
        })
    }

    fn read(&self, service: &str, answer: Value) -> Result<(u64, Host), StoreError> {
        let config =
            |message: String| Err(error(StoreErrorKind::Config, format!("{}: {message}", self.server)));
        let fields: HashMap<String, String> = match answer {
            Value::ServerError(error) => {
                let detail = error.details().unwrap_or_default();
                if detail.contains("No such master") {
                    return config(format!(
                        "knows no primary by the name {service:?}: look at service= in the URL"
                    ));
                }
                if detail.contains("unknown command") {
                    return config("is no Sentinel: write redis:// for a single server".into());
                }
                return Err(failed(&self.server, error.into()));
            }
            answer => redis::from_redis_value(answer).map_err(|_| unexpected(&self.server))?,
        };
        let field = |name: &str| fields.get(name).map(String::as_str);
        let (Some(name), Some(Ok(port))) = (field("ip"), field("port").map(str::parse)) else {
            return Err(unexpected(&self.server));
        };
        let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok((epoch, Host::Tcp(name.to_owned(), port)))
    }
}
