//! A cluster: which node serves which slot, and a connection to each of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use redis::aio::MultiplexedConnection;
use semel_core::store::{StoreError, StoreErrorKind};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::address::{Host, Maker};
use crate::dial::{Dial, Server, Target, connect};
use crate::error::{error, failed, no_answer_within, unexpected};
use crate::link::{Agreement, Link, PATIENCE};
use crate::slot::SLOTS;

/// A node that does not answer must not hold up those that do.
const SURVEY_WITHIN: Duration = Duration::from_secs(1);
/// The nodes are not asked more often than this, however many callers want to know.
const BETWEEN_SURVEYS: Duration = Duration::from_millis(50);

/// Who serves what, as the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// First slot, last slot, primary; in order.
    ranges: Vec<(u16, u16, Host)>,
}

impl Map {
    pub(crate) fn owner(&self, slot: u16) -> Option<&Host> {
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        self.ranges.get(at).filter(|(first, _, _)| *first <= slot).map(|(_, _, host)| host)
    }

    /// In the order of their names.
    pub(crate) fn primaries(&self) -> BTreeSet<&Host> {
        self.ranges.iter().map(|(_, _, host)| host).collect()
    }

    pub(crate) fn serves_all(&self) -> bool {
        self.ranges.iter().map(|(first, last, _)| u32::from(*last) + 1 - u32::from(*first)).sum::<u32>()
            == u32::from(SLOTS)
    }
}

/// A cluster's nodes.
#[derive(Clone)]
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    surveyed: watch::Receiver<Survey>,
}

struct Shared {
    server: Server,
    seeds: Vec<Host>,
    maker: Arc<Maker>,
    timeout: Duration,
    on: Handle,
    agreement: Agreement,
    /// Those of the map, and those that a node sent us to since.
    links: Mutex<HashMap<Host, Link>>,
    wanted: Notify,
}

/// What was found when the nodes were last asked.
#[derive(Clone)]
struct Survey {
    number: u64,
    map: Arc<Map>,
}

impl Cluster {
    pub(crate) fn start(
        on: &Handle,
        dialing: Dialing,
        map: Map,
        connected: Vec<(MultiplexedConnection, Host)>,
        agreement: Agreement,
    ) -> Self {
        let Dialing { server, seeds, maker, timeout } = dialing;
        let shared = Arc::new(Shared {
            server,
            seeds,
            maker,
            timeout,
            on: on.clone(),
            agreement,
            links: Mutex::default(),
            wanted: Notify::new(),
        });
        for connected in connected {
            let host = connected.1.clone();
            let link = shared.link(&host, Some(connected));
            shared.links.lock().unwrap_or_else(PoisonError::into_inner).insert(host, link);
        }
        let (sender, surveyed) = watch::channel(Survey { number: 0, map: Arc::new(map) });
        on.spawn(Arc::clone(&shared).watch(sender));
        Self { shared, surveyed }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.shared.server
    }

    pub(crate) fn maker(&self) -> &Maker {
        &self.shared.maker
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.surveyed.borrow().map)
    }

    pub(crate) fn any_node(&self) -> Option<Host> {
        let map = self.map();
        let primaries = map.primaries();
        let at = fastrand::usize(..primaries.len().max(1));
        primaries.into_iter().nth(at).cloned()
    }

    pub(crate) fn link(&self, host: &Host) -> Link {
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.entry(host.clone()).or_insert_with(|| self.shared.link(host, None)).clone()
    }

    /// Has the nodes asked, and waits for that, though not for long. Answers what is known then.
    pub(crate) async fn survey(&self) -> Arc<Map> {
        let mut surveyed = self.surveyed.clone();
        let before = surveyed.borrow().number;
        self.shared.wanted.notify_one();
        let newer = surveyed.wait_for(|survey| survey.number > before);
        let _in_time = tokio::time::timeout(PATIENCE, newer).await;
        self.map()
    }
}

impl Shared {
    fn link(&self, host: &Host, connected: Option<(MultiplexedConnection, Host)>) -> Link {
        let target = Target::Host(host.clone(), Arc::clone(&self.maker));
        let dial = Dial { target, server: Server::named(host), timeout: self.timeout };
        Link::start(&self.on, dial, connected, self.agreement.clone())
    }

    /// Asks whenever somebody found the map to be wrong.
    async fn watch(self: Arc<Self>, sender: watch::Sender<Survey>) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sender.closed() => return,
            }
            let known = Arc::clone(&sender.borrow().map);
            let hosts = known.primaries().into_iter().chain(&self.seeds).cloned().collect();
            let dialing = Dialing {
                server: self.server.clone(),
                seeds: hosts,
                maker: Arc::clone(&self.maker),
                timeout: self.timeout,
            };
            let map = match dialing.survey().await {
                Ok(map) => Arc::new(map),
                Err(error) => {
                    tracing::debug!(%error, "the cluster's nodes do not say who serves what");
                    Arc::clone(&known)
                }
            };
            if map != known {
                tracing::info!(server = %self.server, "the cluster's slots have other primaries");
                let primaries = map.primaries();
                let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
                links.retain(|host, _| primaries.contains(host));
            }
            sender.send_modify(|survey| {
                survey.number += 1;
                survey.map = map;
            });
            tokio::time::sleep(BETWEEN_SURVEYS).await;
        }
    }
}

/// What it takes to ask a cluster who serves what.
#[derive(Clone)]
pub(crate) struct Dialing {
    pub(crate) server: Server,
    pub(crate) seeds: Vec<Host>,
    pub(crate) maker: Arc<Maker>,
    pub(crate) timeout: Duration,
}

/// One node's word.
struct Word {
    ok: bool,
    epoch: u64,
    map: Map,
}

impl Dialing {
    /// The map of those nodes that heard of the last failover.
    ///
    /// A node that was cut off still names the old primaries, so more than half of the list is heard, as far as it
    /// answers; a node that sees the cluster whole counts more than one that does not, and then the epoch decides.
    pub(crate) async fn survey(&self) -> Result<Map, StoreError> {
        let hosts: BTreeSet<_> = self.seeds.iter().collect();
        let majority = hosts.len() / 2 + 1;
        let mut asked: FuturesUnordered<_> = hosts.into_iter().map(|host| self.ask(host)).collect();
        let (mut best, mut heard, mut trouble) = (None::<Word>, 0, None::<StoreError>);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(word) => {
                    heard += usize::from(word.ok);
                    if best.as_ref().is_none_or(|best| (best.ok, best.epoch) < (word.ok, word.epoch)) {
                        best = Some(word);
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
        match (best, trouble) {
            (Some(word), _) => Ok(word.map),
            (None, Some(trouble)) => Err(trouble),
            (None, None) => Err(error(StoreErrorKind::Config, "its URL names no node")),
        }
    }

    async fn ask(&self, host: &Host) -> Result<Word, StoreError> {
        let server = Server::named(host);
        let within = self.timeout.min(SURVEY_WITHIN);
        let asking = async {
            let mut connection = connect(&self.maker.client(host)?, &server, within).await?;
            let mut commands = redis::Pipeline::with_capacity(2);
            commands.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
            let answer = connection.send_packed_commands(&commands, 0, 2).await;
            let [info, slots] = <[Value; 2]>::try_from(answer.map_err(|error| failed(&server, error))?)
                .map_err(|_| unexpected(&server))?;
            read(&server, host, info, slots)
        };
        match tokio::time::timeout(within, asking).await {
            Ok(word) => word,
            Err(_) => Err(no_answer_within(&server, within)),
        }
    }
}

fn read(server: &Server, host: &Host, info: Value, slots: Value) -> Result<Word, StoreError> {
    if let Value::ServerError(source) = info {
        let disabled = source.details().is_some_and(|detail| {
            detail.contains("cluster support disabled") || detail.contains("unknown command")
        });
        return Err(if disabled {
            let message = format!("{server}: is no node of a cluster: write redis:// for a single server");
            error(StoreErrorKind::Config, message)
        } else {
            failed(server, source.into())
        });
    }
    let info: String = redis::from_redis_value(info).map_err(|_| unexpected(server))?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
    };
    let Value::Array(parts) = slots else { return Err(unexpected(server)) };
    let mut ranges = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Array(part) = part else { return Err(unexpected(server)) };
        let range = range(host, part).ok_or_else(|| unexpected(server))?;
        ranges.push(range);
    }
    ranges.sort();
    Ok(Word {
        ok: field("cluster_state") == "ok",
        epoch: field("cluster_current_epoch").parse().unwrap_or(0),
        map: Map { ranges },
    })
}

/// First slot, last slot, the primary, its replicas; a node is a name, a port and more.
fn range(asked: &Host, entry: Vec<Value>) -> Option<(u16, u16, Host)> {
    let mut entry = entry.into_iter();
    let mut slot = || match entry.next() {
        Some(Value::Int(slot)) => u16::try_from(slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let (first, last) = (slot()?, slot()?);
    let Some(Value::Array(node)) = entry.next() else { return None };
    let mut node = node.into_iter();
    let name = match node.next()? {
        Value::BulkString(name) => String::from_utf8(name).ok()?,
        Value::SimpleString(name) => name,
        Value::Nil => String::new(),
        _ => return None,
    };
    let Some(Value::Int(port)) = node.next() else { return None };
    // A node that does not know its own name is the one that was asked.
    let name = match (&*name, asked) {
        ("" | "?", Host::Tcp(asked, _)) => asked.clone(),
        _ => name,
    };
    (first <= last).then_some(())?;
    Some((first, last, Host::Tcp(name, u16::try_from(port).ok()?)))
}
