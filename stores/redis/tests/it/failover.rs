//! Failovers under load, by Sentinel and in a cluster: what was acknowledged and is lost, and what would run twice. And
//! slots that are moved from node to node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use semel_core::record::{Retention, State};
use semel_core::store::{Begun, LeaseRef, Query, ReleaseAs, ReleaseBy, Settled, Store as _, StoreErrorKind};
use semel_store_redis::{RedisStore, Warning};

use crate::deployments::{Clustered, Watched, say, until};
use crate::server::Server;
use crate::support::{answer, ask, claimed, id, private};

const PATIENCE: Duration = Duration::from_secs(40);
const WORKERS: u32 = 8;

/// What a store acknowledged.
struct Acknowledged {
    lease: LeaseRef,
    completed: bool,
}

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    /// Acknowledged claims that are not there: their keys run again.
    claims: usize,
    /// Acknowledged completions of records that are there, and in flight.
    completions: usize,
}

/// Claims and completes, one key after the other, until told to stop. What failed is sent again, as a driver does.
fn load(store: &Arc<RedisStore>, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<Vec<Acknowledged>>> {
    let worker = |worker: u32| {
        let (store, stop) = (Arc::clone(store), Arc::clone(stop));
        tokio::spawn(async move {
            let mut done = Vec::new();
            for n in worker * 1_000_000.. {
                let claim = ask(n);
                let lease = loop {
                    if stop.load(Ordering::Relaxed) {
                        return done;
                    }
                    match store.begin(&claim).await {
                        Ok(Begun::Acquired(acquired)) => break acquired.lease.as_ref(),
                        Ok(other) => panic!("its own claim is not its own: {other:?}"),
                        Err(error) => assert!(error.can_retry(), "{error}"),
                    }
                };
                done.push(Acknowledged { lease, completed: false });
                loop {
                    match store.complete(lease, &answer("done"), &Retention::default()).await {
                        Ok(settled) => {
                            // Absent: the claim was lost meanwhile.
                            let last = done.last_mut().unwrap();
                            last.completed = settled == Settled::Applied;
                            break;
                        }
                        Err(error) => assert!(error.can_retry(), "{error}"),
                    }
                    if stop.load(Ordering::Relaxed) {
                        return done;
                    }
                }
            }
            done
        })
    };
    (0..WORKERS).map(worker).collect()
}

async fn count(store: &RedisStore, acknowledged: &[Acknowledged]) -> Lost {
    let mut lost = Lost::default();
    for Acknowledged { lease, completed } in acknowledged {
        match store.inspect(&lease.id).await.unwrap() {
            None => lost.claims += 1,
            Some(view) => {
                assert_eq!(view.fence, lease.fence, "somebody else has it");
                lost.completions += usize::from(*completed && view.state != State::Completed);
            }
        }
    }
    lost
}

/// Lets a replica fall behind while its primary works on, and kills the primary.
///
/// On one machine a replica is behind by microseconds, and a kill loses nothing nearly always. A network is slower: here
/// the replica stands still, and its connection is cut, while others are served.
async fn kill_while_the_replica_is_behind(primary: &mut Server, replica: &Server) {
    replica.signal(Signal::STOP);
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").exec(&mut primary.connection()).unwrap();
    // Long enough for some hundred keys.
    tokio::time::sleep(Duration::from_millis(300)).await;
    primary.kill();
    replica.signal(Signal::CONT);
}

async fn until_claims_work(store: &RedisStore, first: u32) -> Duration {
    let since = Instant::now();
    for n in first.. {
        if matches!(store.begin(&ask(n)).await, Ok(Begun::Acquired(_))) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "no claim is taken after the failover");
    }
    since.elapsed()
}

#[expect(clippy::print_stderr, reason = "the numbers that GUARANTEES.md quotes")]
fn tell(what: &str, acknowledged: usize, lost: &Lost, outage: Duration) {
    eprintln!(
        "{what}: of {acknowledged} acknowledged claims {} are lost and run again, and {} completions; claims were \
         refused for {outage:?}",
        lost.claims, lost.completions
    );
}

async fn sentinel_failover(replicas: usize) -> Option<(usize, Lost)> {
    let mut servers = Watched::start()?;
    let url = format!("{}&replicas={replicas}&replicas_ms=200", servers.url());
    let store = Arc::new(RedisStore::builder(&url).timeout(Duration::from_secs(1)).open().await.unwrap());
    assert_eq!(store.capabilities().durable, replicas > 0, "{:?}", store.warnings());
    let stop = Arc::<AtomicBool>::default();
    let working = load(&store, &stop);
    until_keys(&servers.primary, 200).await;
    kill_while_the_replica_is_behind(&mut servers.primary, &servers.replica).await;
    if replicas > 0 {
        // The promoted one has none, until somebody comes back.
        until("it was promoted", || format!("{:?}", say(&servers.replica, &["ROLE"])).contains("master"));
        servers.primary.start_again();
        // As its Sentinel would have it do, some ten seconds later.
        let port = servers.replica.port.to_string();
        say(&servers.primary, &["REPLICAOF", "127.0.0.1", &port]);
    }
    let outage = until_claims_work(&store, 50_000_000).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for worker in working {
        acknowledged.extend(worker.await.unwrap());
    }
    let lost = count(&store, &acknowledged).await;
    tell(&format!("Sentinel, WAIT {replicas}"), acknowledged.len(), &lost, outage);
    again(&store, &acknowledged, lost.claims).await;
    Some((acknowledged.len(), lost))
}

/// What was lost runs again, and with a higher fence.
async fn again(store: &RedisStore, acknowledged: &[Acknowledged], lost: usize) {
    let mut again = 0;
    for Acknowledged { lease, .. } in acknowledged {
        let claim = semel_core::store::Begin { id: lease.id, ..ask(0) };
        if let Begun::Acquired(acquired) = store.begin(&claim).await.unwrap() {
            again += 1;
            assert!(acquired.lease.fence() > lease.fence, "the fence went back");
        }
    }
    assert_eq!(again, lost);
}

async fn until_keys(server: &Server, count: u64) {
    let give_up = Instant::now() + PATIENCE;
    while redis::cmd("DBSIZE").query::<u64>(&mut server.connection()).unwrap() < count {
        assert!(Instant::now() < give_up, "too slow");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// The gap that GUARANTEES.md names: whatever the replica had not received is a key that runs again.
#[test]
fn a_sentinel_failover_forgets_what_the_replica_had_not_received() {
    private(async || {
        let Some((acknowledged, lost)) = sentinel_failover(0).await else { return };
        assert!(lost.claims > 0 && lost.claims < acknowledged, "{lost:?} of {acknowledged}");
    });
}

#[test]
fn a_sentinel_failover_forgets_nothing_that_its_replica_acknowledged() {
    private(async || {
        let Some((acknowledged, lost)) = sentinel_failover(1).await else { return };
        assert!(acknowledged > 100);
        assert_eq!(lost, Lost::default());
    });
}

async fn cluster_failover(replicas: usize) -> Option<(usize, Lost)> {
    let mut servers = Clustered::start(true)?;
    let url = format!("{}?replicas={replicas}&replicas_ms=200", servers.url());
    let store = Arc::new(RedisStore::builder(&url).timeout(Duration::from_secs(1)).open().await.unwrap());
    assert_eq!(store.capabilities().durable, replicas > 0, "{:?}", store.warnings());
    let stop = Arc::<AtomicBool>::default();
    let working = load(&store, &stop);
    // A key of the node that dies, and one of another.
    let of = |at: usize| {
        (60_000_000..61_000_000).find(|n| servers.owner(&format!("semel:{{{}}}", id(*n))).0 == at).unwrap()
    };
    let (dying, living) = (of(0), of(1));
    until_keys(&servers.primaries[0], 200).await;
    let Clustered { primaries, replicas: followers } = &mut servers;
    kill_while_the_replica_is_behind(&mut primaries[0], &followers[0]).await;
    let _goes_on = claimed(&store, living).await;
    if replicas > 0 {
        until("it was promoted", || format!("{:?}", say(&followers[0], &["ROLE"])).contains("master"));
        primaries[0].start_again();
    }
    let (since, claim) = (Instant::now(), ask(dying));
    while !matches!(store.begin(&claim).await, Ok(Begun::Acquired(_))) {
        assert!(since.elapsed() < PATIENCE, "no claim is taken after the failover");
    }
    let outage = since.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for worker in working {
        acknowledged.extend(worker.await.unwrap());
    }
    let lost = count(&store, &acknowledged).await;
    tell(&format!("Cluster, WAIT {replicas}"), acknowledged.len(), &lost, outage);
    again(&store, &acknowledged, lost.claims).await;
    store.health().await.unwrap();
    Some((acknowledged.len(), lost))
}

#[test]
fn a_cluster_failover_forgets_what_the_replica_had_not_received() {
    private(async || {
        let Some((acknowledged, lost)) = cluster_failover(0).await else { return };
        assert!(lost.claims > 0 && lost.claims < acknowledged, "{lost:?} of {acknowledged}");
    });
}

#[test]
fn a_cluster_failover_forgets_nothing_that_its_replica_acknowledged() {
    private(async || {
        let Some((acknowledged, lost)) = cluster_failover(1).await else { return };
        assert!(acknowledged > 100);
        assert_eq!(lost, Lost::default());
    });
}

// Operators read what a failover would forget before it does.
#[test]
fn what_a_failover_forgets_is_said_at_start() {
    private(async || {
        let Some(servers) = Watched::start() else { return };
        let store = RedisStore::open(&servers.url()).await.unwrap();
        assert_eq!(store.warnings(), [Warning::FailoverForgets { replicas: 1, waits_for: 0 }]);
        let waiting = RedisStore::open(&format!("{}&replicas=1", servers.url())).await.unwrap();
        assert_eq!(waiting.warnings(), []);
        // And what is wrong with the URL.
        for (url, says) in [
            (servers.url().replace("mymaster", "nobody"), "knows no primary by the name \"nobody\""),
            (
                servers.url().replace("redis+sentinel", "redis+cluster").replace("/0?service=mymaster", ""),
                "cluster",
            ),
            (
                format!("redis+sentinel://127.0.0.1:{}/?service=mymaster", servers.primary.port),
                "is no Sentinel",
            ),
            (format!("redis+cluster://127.0.0.1:{}", servers.primary.port), "is no node of a cluster"),
        ] {
            let error = RedisStore::open(&url).await.unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert_eq!(error.kind(), StoreErrorKind::Config, "{url}: {error}");
        }
    });
}

// The two are often different, and neither belongs into a log.
#[test]
fn sentinels_and_data_nodes_have_passwords_of_their_own() {
    private(async || {
        let Some(servers) = Watched::start() else { return };
        servers.lock("data-7319", "watch-7319");
        let url = |data: &str, watch: &str| {
            servers.url().replace("://", &format!("://:{data}@")) + "&sentinel_password=" + watch
        };
        let store = RedisStore::open(&url("data-7319", "watch-7319")).await.unwrap();
        let _lease = claimed(&store, 1).await;
        let builder = RedisStore::builder(&url("data-7319", "wrong")).sentinel_login(None, "watch-7319");
        assert!(builder.open().await.is_ok(), "the program's word comes before the URL's");
        for (data, watch) in [("wrong", "watch-7319"), ("data-7319", "wrong"), ("watch-7319", "data-7319")] {
            let error = RedisStore::open(&url(data, watch)).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Config, "{error}");
            assert!(error.to_string().contains("refuses the user or the password"), "{error}");
            assert!(!error.to_string().contains("7319"), "{error}");
        }
    });
}

// A demoted primary that goes on answering is the worst of all: what it takes is lost when it is told.
#[test]
fn a_store_leaves_a_primary_that_its_sentinels_have_left() {
    private(async || {
        let Some(servers) = Watched::start() else { return };
        let store = RedisStore::open(&servers.url()).await.unwrap();
        let lease = claimed(&store, 1).await;
        // It hears nothing for a while, and comes back as if nothing had been.
        servers.primary.signal(Signal::STOP);
        until("the replica was promoted", || {
            format!("{:?}", say(&servers.replica, &["ROLE"])).contains("master")
        });
        servers.primary.signal(Signal::CONT);
        let done = async {
            loop {
                match store.complete(lease, &answer("done"), &Retention::default()).await {
                    Ok(settled) => return settled,
                    Err(error) => assert!(error.can_retry(), "{error}"),
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, done).await.unwrap(), Settled::Applied);
        // Whoever took it: in the end the one that the Sentinel names has what is asked for.
        let mut n = 10;
        until_async(async || {
            n += 1;
            matches!(store.begin(&ask(n)).await, Ok(Begun::Acquired(_))) && {
                let mut there = redis::cmd("EXISTS");
                there.arg(format!("semel:{{{}}}", id(n)));
                there.query::<bool>(&mut servers.named()).unwrap()
            }
        })
        .await;
    });
}

async fn until_async(mut so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < give_up, "not in time");
    }
}

// Resharding is everyday work: no step may be lost or done twice by it, and no list may overlook a node.
#[test]
fn a_slot_is_moved_under_a_running_record() {
    private(async || {
        let Some(servers) = Clustered::start(false) else { return };
        let store = Arc::new(RedisStore::open(&servers.url()).await.unwrap());
        let lease = claimed(&store, 1).await;
        let key = format!("semel:{{{}}}", lease.id);
        let (from, slot) = servers.owner(&key);
        let to = (from + 1) % 3;
        let (from, to) =
            ((&servers.primaries[from], servers.id(from)), (&servers.primaries[to], servers.id(to)));
        let slot = slot.to_string();
        say(to.0, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.1]);
        say(from.0, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.1]);
        say(from.0, &["MIGRATE", "127.0.0.1", &to.0.port.to_string(), &key, "0", "5000"]);
        // It is with the new node, which is not in charge of the slot yet: ASK.
        let renewed = store.renew(&[lease], Duration::from_hours(2)).await.unwrap();
        assert_eq!(renewed, [Settled::Applied]);
        // With several keys nobody is in charge until the move is done: TRYAGAIN.
        let completing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.complete(lease, &answer(vec![7; 5000]), &Retention::default()).await }
        });
        tokio::task::yield_now().await;
        for server in [to.0, from.0] {
            say(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &to.1]);
        }
        assert_eq!(completing.await.unwrap().unwrap(), Settled::Applied);
        // MOVED, for a store that has not heard of it.
        assert!(store.read(&lease.id).await.unwrap().is_some());
        let keep = Retention::default();
        for n in 2..50 {
            let lease = claimed(&store, n).await;
            if n % 2 == 0 {
                let released = store.release(ReleaseBy::Lease(lease), ReleaseAs::Retry, &keep).await;
                assert_eq!(released.unwrap(), Settled::Applied);
            }
        }
        let page = store.list(&Query { state: None, after: None, limit: 100 }).await.unwrap();
        let listed: Vec<_> = page.records.iter().map(|view| view.id).collect();
        assert_eq!(listed, (1..50).map(id).collect::<Vec<_>>());
    });
}
