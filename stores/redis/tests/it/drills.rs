//! Servers that are killed, restarted, frozen, filled and left alone by their replicas: what is lost, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use semel_core::record::{NotKept, Retention, State, StoredBody};
use semel_core::store::{
    Begun, Delete, Deleted, LeaseRef, Query, ReleaseAs, ReleaseBy, Settled, Severity, Store as _,
    StoreErrorKind,
};
use semel_store_redis::{RedisStore, Warning};

use crate::server::Server;
use crate::support::{answer, ask, body, claimed, id, private};

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(server: &Server) -> RedisStore {
    RedisStore::builder(&server.url()).timeout(Duration::from_secs(1)).open().await.unwrap()
}

/// Claims as soon as the store does it again.
async fn until_it_works(store: &RedisStore, n: u32) -> Begun {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match store.begin(&ask(n)).await {
            Ok(begun) => return begun,
            Err(error) => assert!(Instant::now() < give_up && error.can_retry(), "{error}"),
        }
    }
}

async fn done(store: &RedisStore, lease: LeaseRef, bytes: usize) -> Settled {
    let answer = answer(vec![b'x'; bytes]);
    store.complete(lease, &answer, &Retention::default()).await.unwrap()
}

// Said in the crate's documentation: this is the number there.
#[test]
fn a_restart_without_persistence_runs_every_key_again() {
    private(async || {
        let Some(mut server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        for n in 0..100 {
            let lease = claimed(&store, n).await;
            if n % 2 == 0 {
                assert_eq!(done(&store, lease, 100).await, Settled::Applied);
            }
        }
        let first = store.inspect(&id(0)).await.unwrap().unwrap().fence;
        server.kill();
        assert_eq!(store.begin(&ask(0)).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        server.start_again();
        let mut again = 0;
        for n in 0..100 {
            if let Begun::Acquired(acquired) = until_it_works(&store, n).await {
                again += 1;
                assert!(acquired.lease.fence() > first, "the fence went back with the data");
            }
        }
        assert_eq!(again, 100, "nothing is remembered, and nothing else is promised");
        let other = open(&server).await;
        assert!(other.secret() == store.secret(), "the secret was lost, though a process still knew it");
    });
}

// Two processes with two secrets would give one key two records.
#[test]
fn a_store_whose_secret_was_replaced_says_so() {
    private(async || {
        let Some(mut server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        server.kill();
        server.start_again();
        let _newer = open(&server).await;
        let error = store.begin(&ask(1)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert!(error.to_string().contains("another secret"), "{error}");
    });
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_kill_9_with_appendfsync_always() {
    private(async || {
        let settings = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let Some(mut server) = Server::start(&settings) else { return };
        let store = Arc::new(open(&server).await);
        assert!(store.capabilities().durable);
        let mut workers = Vec::new();
        let stop = Arc::new(AtomicBool::new(false));
        for worker in 0..16_u32 {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            workers.push(tokio::spawn(async move {
                let (mut claims, mut completions) = (Vec::new(), Vec::new());
                for n in (worker * 100_000..).take(50_000) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let Ok(Begun::Acquired(acquired)) = store.begin(&ask(n)).await else { break };
                    let lease = acquired.lease.as_ref();
                    claims.push(lease);
                    let bytes = if n % 3 == 0 { 5000 } else { 100 };
                    let completion = answer(vec![n.to_be_bytes()[3]; bytes]);
                    match store.complete(lease, &completion, &Retention::default()).await {
                        Ok(settled) => {
                            assert_eq!(settled, Settled::Applied);
                            completions.push((lease, completion));
                        }
                        Err(_) => break,
                    }
                }
                (claims, completions)
            }));
        }
        let give_up = Instant::now() + PATIENCE;
        while redis::cmd("DBSIZE").query::<u64>(&mut server.connection()).unwrap() < 300 {
            assert!(Instant::now() < give_up, "too slow");
        }
        server.kill();
        stop.store(true, Ordering::Relaxed);
        server.start_again();
        let (mut claimed, mut completed) = (0, 0);
        for worker in workers {
            let (claims, completions) = worker.await.unwrap();
            for lease in claims {
                claimed += 1;
                let view = store.inspect(&lease.id).await.unwrap().expect("an acknowledged claim is lost");
                assert_eq!(view.fence, lease.fence);
            }
            for (lease, completion) in completions {
                completed += 1;
                let record =
                    store.read(&lease.id).await.unwrap().expect("an acknowledged completion is lost");
                assert_eq!(record.completion, completion);
            }
        }
        assert!(claimed > 100 && completed > 100, "{claimed} claims, {completed} completions");
    });
}

// Said in the crate's documentation: a killed process loses nothing, as a rule, since the system has what it wrote.
#[test]
fn kill_9_with_appendfsync_everysec_loses_no_more_than_two_seconds() {
    private(async || {
        let settings = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
        let Some(mut server) = Server::start(&settings) else { return };
        let store = Arc::new(open(&server).await);
        let stop = Arc::new(AtomicBool::new(false));
        let workers = (0..16_u32).map(|worker| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut claims = Vec::new();
                for n in worker * 100_000.. {
                    match store.begin(&ask(n)).await {
                        Ok(Begun::Acquired(acquired)) if !stop.load(Ordering::Relaxed) => {
                            claims.push((acquired.lease.as_ref(), Instant::now()));
                        }
                        _ => break,
                    }
                }
                claims
            })
        });
        let workers: Vec<_> = workers.collect();
        let give_up = Instant::now() + PATIENCE;
        while redis::cmd("DBSIZE").query::<u64>(&mut server.connection()).unwrap() < 2000 {
            assert!(Instant::now() < give_up, "too slow");
        }
        server.kill();
        let killed = Instant::now();
        stop.store(true, Ordering::Relaxed);
        server.start_again();
        let (mut acknowledged, mut lost) = (0, 0);
        for worker in workers {
            for (lease, at) in worker.await.unwrap() {
                acknowledged += 1;
                if store.inspect(&lease.id).await.unwrap().is_none() {
                    lost += 1;
                    assert!(
                        killed.saturating_duration_since(at) < Duration::from_secs(3),
                        "lost, and older than that"
                    );
                }
            }
        }
        tell(acknowledged, lost);
        assert!(acknowledged >= 1500);
    });
}

#[expect(clippy::print_stderr, reason = "the number that GUARANTEES.md quotes")]
fn tell(acknowledged: usize, lost: usize) {
    eprintln!("kill -9 with everysec: of {acknowledged} acknowledged claims {lost} are lost and run again");
}

// A connection that idles is closed by many servers, and by every firewall.
#[test]
fn a_closed_connection_is_made_again_and_the_step_goes_through() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        for n in 0..10 {
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg("normal")
                .exec(&mut server.connection())
                .unwrap();
            let lease = claimed(&store, n).await;
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg("normal")
                .exec(&mut server.connection())
                .unwrap();
            assert_eq!(done(&store, lease, 3000).await, Settled::Applied);
        }
    });
}

#[test]
fn a_frozen_server_is_a_time_out_and_then_a_server_again() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        server.signal(Signal::STOP);
        let begun = store.begin(&ask(1)).await;
        server.signal(Signal::CONT);
        assert_eq!(begun.unwrap_err().kind(), StoreErrorKind::Timeout);
        assert!(matches!(until_it_works(&store, 2).await, Begun::Acquired(_)));
    });
}

// A primary that was made a replica takes no writes; the name may lead to the new one by now.
#[test]
fn a_demoted_primary_is_unavailable_until_it_is_one_again() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        let replicate = |host: &str, port: &str| {
            redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut server.connection()).unwrap();
        };
        replicate("127.0.0.1", "1");
        for n in 0..3 {
            let error = store.begin(&ask(n)).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            assert_eq!(store.health().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        }
        replicate("NO", "ONE");
        assert!(matches!(until_it_works(&store, 2).await, Begun::Acquired(_)));
    });
}

// A claim that is refused is one error; a completion that is refused is a payment nobody knows of.
#[test]
fn a_full_server_refuses_new_claims_and_settles_old_ones() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        let keep = Retention::default();
        let replayed = claimed(&store, 100).await;
        assert_eq!(done(&store, replayed, 3000).await, Settled::Applied);
        let mut leases = Vec::new();
        for n in 0..4 {
            leases.push(claimed(&store, n).await);
        }
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut server.connection()).unwrap();
        let refused = store.begin(&ask(4)).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Full, "{refused}");
        assert_eq!(store.health().await.unwrap_err().kind(), StoreErrorKind::Full);
        assert_eq!(store.inspect(&id(4)).await.unwrap(), None, "half a claim");
        // Replays, heartbeats and every settlement go on.
        let Begun::Settled(record) = store.begin(&ask(100)).await.unwrap() else { panic!("no replay") };
        assert_eq!(body(&record.completion).len(), 3000);
        assert_eq!(
            store.renew(&leases[..2], Duration::from_hours(2)).await.unwrap(),
            vec![Settled::Applied; 2]
        );
        assert_eq!(done(&store, leases[0], 100_000).await, Settled::Applied);
        let record = store.read(&leases[0].id).await.unwrap().unwrap();
        let response = record.completion.response.as_ref().unwrap();
        assert_eq!(response.body, StoredBody::NotKept(NotKept::NoRoom));
        assert_eq!(done(&store, leases[1], 100).await, Settled::Applied);
        assert_eq!(body(&store.read(&leases[1].id).await.unwrap().unwrap().completion).len(), 100);
        let by = ReleaseBy::Lease(leases[2]);
        assert_eq!(store.release(by, ReleaseAs::Retry, &keep).await.unwrap(), Settled::Applied);
        assert_eq!(store.abandon(leases[3]).await.unwrap(), Settled::Applied);
        let state = store.inspect(&leases[3].id).await.unwrap().unwrap().state;
        assert_eq!(state, State::Unknown);
        // What is left behind by completions that found no room is nothing.
        let staged: Vec<String> = redis::cmd("KEYS").arg("*:s:*").query(&mut server.connection()).unwrap();
        assert_eq!(staged, Vec::<String>::new());
    });
}

// Operators look at a full server's records to make room there, and a restart must not stop what it still can do.
#[test]
fn a_full_server_can_be_opened_and_says_so() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let first = open(&server).await;
        let replayed = claimed(&first, 1).await;
        assert_eq!(done(&first, replayed, 100).await, Settled::Applied);
        let running = claimed(&first, 2).await;
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut server.connection()).unwrap();
        let store = open(&server).await;
        assert!(store.secret() == first.secret());
        assert!(store.warnings().contains(&Warning::Full), "{:?}", store.warnings());
        assert_eq!(store.begin(&ask(3)).await.unwrap_err().kind(), StoreErrorKind::Full);
        assert_eq!(store.health().await.unwrap_err().kind(), StoreErrorKind::Full);
        let findings = store.examine().await.unwrap();
        let room = findings.iter().find(|finding| finding.about == "room").unwrap();
        assert_eq!(room.severity, Severity::Warning, "{room:?}");
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Settled(_)));
        assert_eq!(done(&store, running, 100).await, Settled::Applied);
        assert_eq!(
            store.list(&Query { state: None, after: None, limit: 10 }).await.unwrap().records.len(),
            2
        );
        assert_eq!(store.delete(&id(1), Delete::Any).await.unwrap(), Deleted::Gone);
        // Under another prefix there is no secret to go by, and no room for one.
        let new = RedisStore::builder(&server.url()).prefix("new").open().await.unwrap_err();
        assert_eq!(new.kind(), StoreErrorKind::Full, "{new}");
    });
}

#[test]
fn replicas_that_do_not_acknowledge_make_a_step_unavailable() {
    private(async || {
        let Some(primary) = Server::start(&["--save", ""]) else { return };
        let builder = RedisStore::builder(&primary.url()).replicas(1, Duration::from_secs(1));
        let store = builder.open().await.unwrap();
        let claim = ask(1);
        let error = store.begin(&claim).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        assert!(error.can_retry());
        let settings = ["--save", "", "--replicaof", &format!("127.0.0.1 {}", primary.port)];
        let Some(replica) = Server::start(&settings) else { return };
        let give_up = Instant::now() + PATIENCE;
        // Sent again each finds what it did, and waits for that.
        let lease = loop {
            match store.begin(&claim).await {
                Ok(Begun::Acquired(acquired)) => break acquired.lease.as_ref(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!(Instant::now() < give_up, "{error}"),
            }
        };
        let (large, keep) = (answer(vec![b'x'; 3000]), Retention::default());
        while let Err(error) = store.complete(lease, &large, &keep).await {
            assert!(Instant::now() < give_up, "{error}");
        }
        // What was acknowledged is there when the primary is gone.
        drop(primary);
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.connection()).unwrap();
        let promoted = open(&replica).await;
        assert!(promoted.secret() == store.secret());
        let record = promoted.read(&id(1)).await.unwrap().unwrap();
        assert_eq!(body(&record.completion).len(), 3000);
        // Its clock goes on where the lost one's was.
        assert!(claimed(&promoted, 2).await.fence > lease.fence);
    });
}

// Wake-ups are hints: whoever waits on a connection that is lost is woken, looks, and waits again.
#[test]
fn waiters_survive_the_loss_of_their_connection() {
    private(async || {
        let Some(server) = Server::start(&["--save", ""]) else { return };
        let (store, other) = (open(&server).await, open(&server).await);
        let lease = claimed(&store, 1).await;
        let woken = |watch| async { tokio::time::timeout(PATIENCE, watch).await.expect("it was not woken") };
        for _ in 0..3 {
            let watch = store.watch(&id(1)).await.unwrap();
            redis::cmd("CLIENT")
                .arg("KILL")
                .arg("TYPE")
                .arg("pubsub")
                .exec(&mut server.connection())
                .unwrap();
            woken(watch).await;
        }
        let watch = store.watch(&id(1)).await.unwrap();
        let settled = other.complete(lease, &answer("done"), &Retention::default()).await.unwrap();
        assert_eq!(settled, Settled::Applied);
        woken(watch).await;
    });
}

// A server without the right to publish, or one that is gone, must not keep anybody from waiting.
#[test]
fn a_watch_on_a_server_that_is_gone_comes_back() {
    private(async || {
        let Some(mut server) = Server::start(&["--save", ""]) else { return };
        let store = open(&server).await;
        server.kill();
        let watching = tokio::time::timeout(Duration::from_secs(5), store.watch(&id(1))).await;
        let watch = watching.expect("it hangs").unwrap();
        server.start_again();
        tokio::time::timeout(PATIENCE, watch).await.expect("it was not woken after the outage");
    });
}
