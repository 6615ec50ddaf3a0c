//! The servers behind a store: one, or the nodes of a cluster; and what is done when one says that it is not in charge.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};
use semel_core::store::{StoreError, StoreErrorKind};

use crate::address::Host;
use crate::cluster::Cluster;
use crate::dial::Server;
use crate::error::{error, unexpected};
use crate::keys::Keys;
use crate::link::Link;
use crate::slot;

/// How often a step is sent to servers that were not in charge, within its time.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Where steps are sent.
#[derive(Clone)]
pub(crate) enum Servers {
    /// One server, or the primary that Sentinels name.
    One { link: Link, timeout: Duration },
    /// The node that serves the key's slot.
    Cluster { cluster: Cluster, timeout: Duration },
}

/// Why a server did nothing. Steps are told again, as they are safe to repeat.
enum Refused {
    /// The slot is another node's.
    Moved,
    /// This key is, for now.
    Ask(Host),
    /// Nobody is in charge yet.
    NotNow,
}

impl Servers {
    pub(crate) fn name(&self) -> &Server {
        match self {
            Self::One { link, .. } => link.server(),
            Self::Cluster { cluster, .. } => cluster.server(),
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// Sends commands about one key, in one write, to whoever is in charge of it; an error of one command is in its
    /// place among the answers.
    ///
    /// Whoever is not in charge did none of them: they are sent to the next one, for as long as a call may take.
    pub(crate) async fn send(&self, key: &str, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let give_up = Instant::now() + self.timeout();
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let last = |pause: Duration| attempt >= TRIES || Instant::now() + pause >= give_up;
            let values = match self {
                Self::One { link, .. } => link.send(commands).await?,
                Self::Cluster { cluster, .. } => match send_to_owner(cluster, key, commands).await {
                    // Its successor may be known by now.
                    Err(Outcome { error, changed: true }) if !last(Duration::ZERO) => {
                        tracing::debug!(%error, "sent to the next primary");
                        continue;
                    }
                    Err(Outcome { error, .. }) => return Err(error),
                    Ok(values) => values,
                },
            };
            let refused = refused(&values);
            match (refused, self) {
                // A single server that speaks of slots is a mistake that waiting does not mend.
                (None, _) | (Some(Refused::Moved | Refused::Ask(_)), Self::One { .. }) => return Ok(values),
                (Some(_), Self::One { .. }) if last(pause) => return Ok(values),
                (Some(_), Self::Cluster { cluster, .. }) if last(pause) => {
                    return Err(nobody(cluster.server()));
                }
                (Some(Refused::Ask(host)), Self::Cluster { cluster, .. }) => {
                    let values = cluster.link(&host).send(&asking(commands)).await?;
                    let values: Vec<_> = values.into_iter().skip(1).step_by(2).collect();
                    if self::refused(&values).is_none() {
                        return Ok(values);
                    }
                }
                (Some(Refused::Moved | Refused::NotNow), Self::Cluster { cluster, .. }) => {
                    cluster.survey().await;
                }
                (Some(Refused::NotNow), Self::One { .. }) => {}
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause *= 2;
        }
        Err(nobody(self.name()))
    }

    /// Sends commands that need no order, each about its own key, in one write to each server.
    pub(crate) async fn send_each(&self, commands: Vec<(&str, Cmd)>) -> Result<Vec<Value>, StoreError> {
        let Self::Cluster { cluster, .. } = self else {
            let Some((key, _)) = commands.first() else { return Ok(Vec::new()) };
            let key = *key;
            let mut pipeline = Pipeline::with_capacity(commands.len());
            for (_, command) in commands {
                pipeline.add_command(command);
            }
            return self.send(key, &pipeline).await;
        };
        let map = cluster.map();
        let mut parts = BTreeMap::<Option<&Host>, Vec<usize>>::new();
        for (at, (key, _)) in commands.iter().enumerate() {
            parts.entry(map.owner(slot::of(key.as_bytes()))).or_default().push(at);
        }
        // One that fails keeps nothing from the others.
        let sent = join_all(parts.into_iter().map(|(host, part)| {
            let mut pipeline = Pipeline::with_capacity(part.len());
            for at in &part {
                pipeline.add_command(commands[*at].1.clone());
            }
            let link = host.map(|host| cluster.link(host));
            async move {
                let answers = match link {
                    Some(link) => link.send(&pipeline).await,
                    None => Err(nobody(cluster.server())),
                };
                (part, answers)
            }
        }))
        .await;
        let mut values = vec![Value::Nil; commands.len()];
        let mut failed = None;
        for (part, answers) in sent {
            match answers {
                Ok(answers) => part.into_iter().zip(answers).for_each(|(at, answer)| values[at] = answer),
                Err(error) => failed = Some(error),
            }
        }
        for (at, value) in values.iter_mut().enumerate() {
            if refused(std::slice::from_ref(value)).is_some() {
                let (key, command) = &commands[at];
                let mut pipeline = Pipeline::with_capacity(1);
                pipeline.add_command(command.clone());
                let answer = self.send(key, &pipeline).await?.pop();
                *value = answer.ok_or_else(|| unexpected(self.name()))?;
            }
        }
        match failed {
            None => Ok(values),
            Some(error) => {
                cluster.survey().await;
                Err(error)
            }
        }
    }

    /// Those that hold keys, each once, as they are now.
    pub(crate) async fn primaries(&self) -> Vec<Link> {
        match self {
            Self::One { link, .. } => vec![link.clone()],
            Self::Cluster { cluster, .. } => {
                cluster.survey().await.primaries().into_iter().map(|host| cluster.link(host)).collect()
            }
        }
    }

    /// Whether the slots are where they were when these were the primaries, so that who looked at each has seen all.
    pub(crate) async fn are_still(&self, primaries: &[Link]) -> bool {
        let now = self.primaries().await;
        now.iter().map(Link::server).eq(primaries.iter().map(Link::server))
    }

    /// The keys of a probe on each primary.
    pub(crate) fn probes(&self, keys: &Keys) -> Vec<[String; 2]> {
        let Self::Cluster { cluster, .. } = self else { return vec![keys.probes(0)] };
        let map = cluster.map();
        let mut left = map.primaries();
        let mut probes = Vec::with_capacity(left.len());
        for number in 0..u32::from(slot::SLOTS) * 4 {
            if left.is_empty() {
                break;
            }
            let probe = keys.probes(number);
            if map.owner(slot::of(probe[0].as_bytes())).is_some_and(|host| left.remove(host)) {
                probes.push(probe);
            }
        }
        probes
    }

    fn timeout(&self) -> Duration {
        match self {
            Self::One { timeout, .. } | Self::Cluster { timeout, .. } => *timeout,
        }
    }
}

/// An error, and whether the slot has another primary since.
struct Outcome {
    error: StoreError,
    changed: bool,
}

async fn send_to_owner(cluster: &Cluster, key: &str, commands: &Pipeline) -> Result<Vec<Value>, Outcome> {
    let slot = slot::of(key.as_bytes());
    let owner = cluster.map().owner(slot).cloned();
    let sent = match &owner {
        Some(host) => cluster.link(host).send(commands).await,
        None => Err(nobody(cluster.server())),
    };
    match sent {
        Ok(values) => Ok(values),
        Err(error) => {
            let now = cluster.survey().await;
            let changed = now.owner(slot).is_some_and(|now| Some(now) != owner.as_ref());
            Err(Outcome { error, changed })
        }
    }
}

fn refused(values: &[Value]) -> Option<Refused> {
    let mut refused = None;
    for value in values {
        let Value::ServerError(error) = value else { continue };
        let new = match error.code() {
            "MOVED" => Refused::Moved,
            "ASK" => match error.details().and_then(target) {
                Some(host) => Refused::Ask(host),
                None => Refused::NotNow,
            },
            "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" => Refused::NotNow,
            _ => continue,
        };
        // What is half here and half there is asked for again.
        refused = match (refused, new) {
            (Some(Refused::NotNow), _) | (Some(_), Refused::NotNow) => Some(Refused::NotNow),
            (_, new) => Some(new),
        };
    }
    refused
}

/// `3999 127.0.0.1:6381`
fn target(detail: &str) -> Option<Host> {
    let (name, port) = detail.split_whitespace().nth(1)?.rsplit_once(':')?;
    (!name.is_empty()).then_some(Host::Tcp(name.to_owned(), port.parse().ok()?))
}

/// Each with the word before it that an importing node wants.
fn asking(commands: &Pipeline) -> Pipeline {
    let mut asking = Pipeline::with_capacity(commands.len() * 2);
    for command in commands.cmd_iter() {
        asking.cmd("ASKING");
        asking.add_command(command.clone());
    }
    asking
}

fn nobody(server: &Server) -> StoreError {
    error(StoreErrorKind::Unavailable, format!("{server}: nobody serves this key's slot now"))
}
