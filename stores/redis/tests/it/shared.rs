//! Several stores on one prefix, and what they meet there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Commands as _;
use semel_core::identity::Secret;
use semel_core::record::{ClaimId, Recovery, Retention, State, StoredRequest};
use semel_core::store::{
    Begin, Begun, Delete, Deleted, Quota, ReleaseAs, ReleaseBy, Resolution, Resolved, Settled, Store as _,
    StoreErrorKind, Verdict,
};
use semel_store_redis::RedisStore;

use crate::support::{Manual, Prefix, answer, ask, body, claimed, id, test, together, url};

fn raw() -> redis::Connection {
    redis::Client::open(url()).unwrap().get_connection().unwrap()
}

fn key(prefix: &Prefix, n: u32) -> String {
    format!("{}:{{{}}}", prefix.0, id(n))
}

async fn open(prefix: &Prefix) -> RedisStore {
    RedisStore::builder(&url()).prefix(&*prefix.0).open().await.unwrap()
}

// Published middlewares let a quarter of the keys run twice when two gateways get the duplicates at once.
#[test]
fn of_a_thousand_pairs_over_two_stores_none_runs_twice() {
    test(async || {
        let prefix = Prefix::new();
        let stores = [Arc::new(open(&prefix).await), Arc::new(open(&prefix).await)];
        assert!(stores[0].secret() == stores[1].secret(), "two secrets give one key two records");
        let pairs = (0..1000_u32).flat_map(|n| [0, 1].map(|side| (n, Arc::clone(&stores[side]))));
        let runs = together(pairs.map(|(n, store)| async move {
            match store.begin(&ask(n)).await.unwrap() {
                Begun::Acquired(acquired) => {
                    let (lease, keep) = (acquired.lease.as_ref(), Retention::default());
                    let settled = store.complete(lease, &answer("done"), &keep).await.unwrap();
                    assert_eq!(settled, Settled::Applied);
                    Some(n)
                }
                Begun::Held { .. } | Begun::Settled(_) => None,
                other => panic!("{other:?}"),
            }
        }))
        .await;
        let ran: Vec<_> = runs.into_iter().flatten().collect();
        assert_eq!(ran.len(), 1000);
        assert_eq!(ran.into_iter().collect::<HashSet<_>>().len(), 1000);
    });
}

#[test]
fn of_64_claims_over_two_stores_one_runs() {
    test(async || {
        let prefix = Prefix::new();
        let stores = [Arc::new(open(&prefix).await), Arc::new(open(&prefix).await)];
        for n in 0..20 {
            let claims = (0..64).map(|at| {
                let store = Arc::clone(&stores[at % 2]);
                async move { matches!(store.begin(&ask(n)).await.unwrap(), Begun::Acquired(_)) }
            });
            let granted = together(claims).await.into_iter().filter(|granted| *granted).count();
            assert_eq!(granted, 1);
        }
    });
}

// Redis forgets its scripts at a restart, at a failover, and when it is told to.
#[test]
fn forgotten_scripts_are_told_again() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let forget = || redis::cmd("SCRIPT").arg("FLUSH").exec(&mut raw()).unwrap();
        forget();
        let lease = claimed(&store, 1).await;
        forget();
        let renewed = store.renew(&[lease, lease, lease], Duration::from_hours(2)).await.unwrap();
        assert_eq!(renewed, [Settled::Applied, Settled::Applied, Settled::Applied]);
        forget();
        // Large enough to be staged: only its link is asked for again.
        let settled =
            store.complete(lease, &answer(vec![b'x'; 50_000]), &Retention::default()).await.unwrap();
        assert_eq!(settled, Settled::Applied);
        forget();
        let record = store.read(&id(1)).await.unwrap().unwrap();
        assert_eq!(body(&record.completion).len(), 50_000);
    });
}

// A time-to-live on a live or unknown record makes it run twice; one that is too short does so to a settled one.
#[test]
fn only_what_is_settled_has_a_time_to_live_and_it_is_never_too_short() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let mut redis = raw();
        let keep = Retention { record: Duration::from_hours(48), ..Retention::default() };
        for n in 0..2 {
            let _running = claimed(&store, n).await;
        }
        let unknown = claimed(&store, 2).await;
        assert_eq!(store.abandon(unknown).await.unwrap(), Settled::Applied);
        let taken_again = claimed(&store, 3).await;
        let by = ReleaseBy::Lease(taken_again);
        assert_eq!(store.release(by, ReleaseAs::Retry, &keep).await.unwrap(), Settled::Applied);
        let ttl = |redis: &mut redis::Connection, key: String| redis.pttl::<_, i64>(key).unwrap();
        let day = 24 * 3_600_000;
        assert!(ttl(&mut redis, key(&prefix, 3)) >= day, "its fence has to outlive a step of the clock");
        let _rerun = claimed(&store, 3).await;
        for n in 0..4 {
            assert_eq!(ttl(&mut redis, key(&prefix, n)), -1, "record {n}");
        }
        for (n, bytes) in [(5, 10), (6, 100_000)] {
            let lease = claimed(&store, n).await;
            let settled = store.complete(lease, &answer(vec![1; bytes]), &keep).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            assert!(ttl(&mut redis, key(&prefix, n)) > 2 * day - 60_000);
        }
        assert!(ttl(&mut redis, key(&prefix, 6) + ":a") > 2 * day - 60_000, "an answer outlives its record");
        let removed = store.delete(&id(6), Delete::Settled).await.unwrap();
        assert_eq!(removed, Deleted::Gone);
        assert!(ttl(&mut redis, key(&prefix, 6)) >= day, "the last fence is remembered");
        let answers: bool = redis.exists(key(&prefix, 6) + ":a").unwrap();
        assert!(!answers, "the answer is left behind");
    });
}

// The short way of a completion takes the life that it is told for the one that the claim wrote: where they differ, the
// fence has to be remembered for the longer one.
#[test]
fn a_completed_record_stays_for_the_longest_of_its_lives() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let mut redis = raw();
        let hours = Duration::from_hours;
        for (n, (claim, completion)) in [(1, 1), (48, 48), (72, 1), (1, 72)].into_iter().enumerate() {
            let n = u32::try_from(n).unwrap();
            let lives = |record| Retention { record: hours(record), body: hours(1), ..Retention::default() };
            let ask = Begin { retention: lives(claim), ..ask(n) };
            let Begun::Acquired(acquired) = store.begin(&ask).await.unwrap() else { panic!("held") };
            let lease = acquired.lease.as_ref();
            let settled = store.complete(lease, &answer(vec![1; 2000]), &lives(completion)).await;
            assert_eq!(settled.unwrap(), Settled::Applied);
            let view = store.inspect(&ask.id).await.unwrap().unwrap();
            assert_eq!(view.expires.unwrap().since(view.changed), hours(completion));
            for kind in ["", ":a"] {
                let ttl: i64 = redis.pttl(key(&prefix, n) + kind).unwrap();
                let longest = i64::try_from(hours(claim.max(completion).max(24)).as_millis()).unwrap();
                assert!(ttl > longest - 60_000, "{claim} h, then {completion} h: {ttl} ms");
                assert!(ttl < longest + 120_000, "{claim} h, then {completion} h: {ttl} ms");
            }
        }
    });
}

// A record's own time never goes back, whatever the server's clock does.
#[test]
fn a_completion_is_not_before_its_claim() {
    test(async || {
        let clock = Manual::open().await;
        let claim = claimed(&clock.store, 1).await;
        let claimed = clock.store.inspect(&claim.id).await.unwrap().unwrap();
        clock.ahead.fetch_sub(3_600_000, std::sync::atomic::Ordering::SeqCst);
        let settled = clock.store.complete(claim, &answer("done"), &Retention::default()).await;
        assert_eq!(settled.unwrap(), Settled::Applied);
        let view = clock.store.inspect(&claim.id).await.unwrap().unwrap();
        assert_eq!((view.created, view.changed), (claimed.created, claimed.created));
        assert_eq!(view.expires.unwrap().since(view.changed), Retention::default().record);
    });
}

// A run under takeover that another one overtakes leaves its request behind, unless the other one brings its own.
#[test]
fn a_stored_request_ends_with_its_run() {
    test(async || {
        let clock = Manual::open().await;
        let store = &clock.store;
        let mut redis = raw();
        let request = || {
            Some(StoredRequest {
                method: http::Method::POST,
                uri: "/orders".parse().unwrap(),
                headers: http::HeaderMap::new(),
                body: "one".into(),
            })
        };
        let mut is_kept = |n| redis.exists::<_, bool>(key(&clock.prefix, n) + ":a").unwrap();
        let short = Duration::from_secs(1);
        let taken = |n, request| Begin { request, lease_for: short, recovery: Recovery::Takeover, ..ask(n) };
        for (n, bytes) in [(1, 300), (2, 3000)] {
            let Begun::Acquired(acquired) = store.begin(&taken(n, request())).await.unwrap() else {
                panic!("held")
            };
            assert!(is_kept(n));
            let done = answer(vec![1; bytes]);
            let lease = acquired.lease.as_ref();
            assert_eq!(store.complete(lease, &done, &Retention::default()).await.unwrap(), Settled::Applied);
            assert_eq!(store.read(&id(n)).await.unwrap().unwrap().completion, done);
        }
        assert!(!is_kept(1), "the request of a completed record");
        for again in [request(), None] {
            let has_one = again.is_some();
            assert!(matches!(store.begin(&taken(3, request())).await.unwrap(), Begun::Acquired(_)));
            clock.advance(2 * short);
            assert!(matches!(store.begin(&taken(3, again)).await.unwrap(), Begun::Acquired(_)));
            assert_eq!(is_kept(3), has_one);
            clock.advance(2 * short);
        }
    });
}

// In Lua the negative of 0 is -0, which is no integer to Redis: the owner of such a record was refused for ever, and with
// it every sweep.
#[test]
fn a_record_that_outlived_its_body_stops_neither_its_owners_claims_nor_sweeps() {
    test(async || {
        let limited = |n| Begin { quota: Some(Quota { records: Some(9), bytes: Some(9) }), ..ask(n) };
        let (body, record) = (Duration::from_hours(1), Duration::from_hours(2));
        for sweeps in [false, true] {
            let manual = Manual::open().await;
            let Begun::Acquired(acquired) = manual.store.begin(&limited(1)).await.unwrap() else {
                panic!("held")
            };
            let keep = Retention { body, record, ..Retention::default() };
            let settled =
                manual.store.complete(acquired.lease.as_ref(), &answer("done"), &keep).await.unwrap();
            assert_eq!(settled, Settled::Applied);
            manual.advance(body);
            assert_eq!(manual.store.sweep(10).await.unwrap().bodies, 1);
            manual.advance(record);
            if sweeps {
                assert_eq!(manual.store.sweep(10).await.unwrap().removed, 1);
            }
            let begun = manual.store.begin(&limited(2)).await.unwrap();
            assert!(matches!(begun, Begun::Acquired(_)), "{begun:?}");
        }
    });
}

// Every point at which a completion can be cut off: between writing its answer and linking it.
#[test]
fn a_cut_completion_leaves_nothing_for_ever_and_is_done_again() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let mut redis = raw();
        let lease = claimed(&store, 1).await;
        // Cut after the first command: an answer that no record knows, and that ends.
        let orphan = key(&prefix, 1) + ":s:0000000000000001";
        redis::cmd("SET").arg(&orphan).arg("half").arg("PX").arg(3_600_000).exec(&mut redis).unwrap();
        let large = answer(vec![7; 100_000]);
        for _ in 0..2 {
            let settled = store.complete(lease, &large, &Retention::default()).await.unwrap();
            assert_eq!(settled, Settled::Applied);
        }
        let other = answer(vec![8; 100_000]);
        assert_eq!(store.complete(lease, &other, &Retention::default()).await.unwrap(), Settled::Applied);
        assert_eq!(store.read(&id(1)).await.unwrap().unwrap().completion, large);
        let staged: Vec<String> = redis.keys(key(&prefix, 1) + ":s:*").unwrap();
        assert_eq!(staged, [orphan], "a repeat leaves its answer behind");
        // Late workers leave nothing behind either.
        assert_eq!(store.delete(&id(1), Delete::Any).await.unwrap(), Deleted::Gone);
        assert_eq!(store.complete(lease, &large, &Retention::default()).await.unwrap(), Settled::Absent);
        let keys: Vec<String> = redis.keys(key(&prefix, 1) + ":*").unwrap();
        assert_eq!(keys.len(), 1);
    });
}

// An answer whose key is gone is an error: to take the record for absent would run it again.
#[test]
fn what_does_not_decode_is_never_absent() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let mut redis = raw();
        for n in 0..8 {
            let lease = claimed(&store, n).await;
            if n < 2 || n == 7 {
                let bytes = vec![n.to_be_bytes()[3]; 5000];
                let settled = store.complete(lease, &answer(bytes), &Retention::default()).await;
                assert_eq!(settled.unwrap(), Settled::Applied);
            }
        }
        // Somebody else's answer, whole.
        let other: Vec<u8> = redis.get(key(&prefix, 0) + ":a").unwrap();
        let () = redis.set(key(&prefix, 7) + ":a", other).unwrap();
        let () = redis.del(key(&prefix, 0) + ":a").unwrap();
        let () = redis.setrange(key(&prefix, 1) + ":a", 2000, "flipped").unwrap();
        let () = redis.set(key(&prefix, 2), "").unwrap();
        let () = redis.setrange(key(&prefix, 3), 0, &[9_u8]).unwrap();
        let () = redis.set(key(&prefix, 4), vec![1_u8; 120]).unwrap();
        let () = redis.del(key(&prefix, 5)).unwrap();
        let () = redis.hset(key(&prefix, 5), "a", "hash").unwrap();
        let () = redis.setrange(key(&prefix, 6), 1, "X").unwrap();
        for n in 0..8 {
            let begun = store.begin(&ask(n)).await;
            let error = match begun {
                Err(error) => error,
                // A state of a newer version: not granted, and its view does not decode.
                Ok(other) => panic!("record {n}: {other:?}"),
            };
            assert_eq!(error.kind(), StoreErrorKind::Undecodable, "record {n}: {error}");
            if (2..7).contains(&n) {
                assert_eq!(store.inspect(&id(n)).await.unwrap_err().kind(), StoreErrorKind::Undecodable);
            }
        }
    });
}

// A clock that steps back an hour once made the second run's fence lower than the first one's.
#[test]
fn fences_grow_when_the_clock_steps_back() {
    test(async || {
        let clock = Manual::open().await;
        let store = &clock.store;
        let hour = 3_600_000;
        let mut last = 0;
        for step in [0, -hour, -24 * hour, hour, -hour] {
            clock.ahead.fetch_add(step, std::sync::atomic::Ordering::SeqCst);
            for how in ["release", "delete", "resolve"] {
                let lease = claimed(store, 1).await;
                assert!(lease.fence.get() > last, "{how} after a step of {step} ms");
                last = lease.fence.get();
                match how {
                    "release" => {
                        let by = ReleaseBy::Lease(lease);
                        let released = store.release(by, ReleaseAs::Forgotten, &Retention::default()).await;
                        assert_eq!(released.unwrap(), Settled::Applied);
                    }
                    "delete" => {
                        assert_eq!(store.delete(&id(1), Delete::Any).await.unwrap(), Deleted::Gone);
                    }
                    _ => {
                        assert_eq!(store.abandon(lease).await.unwrap(), Settled::Applied);
                        let resolution = Resolution {
                            op: ClaimId::from_u128(u128::from(last)),
                            expect: Some(lease.fence),
                            verdict: Verdict::NotApplied,
                            retention: Retention::default(),
                        };
                        match store.resolve(&id(1), &resolution).await.unwrap() {
                            Resolved::Applied(view) => {
                                assert!(view.fence.get() > last, "{how} after a step of {step} ms");
                                last = view.fence.get();
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
        }
    });
}

// A released record lives ten minutes; without a memory of its fence, a clock set back after that gives a lower one.
#[test]
fn a_fence_outlives_its_record_by_a_records_life() {
    test(async || {
        let clock = Manual::open().await;
        let store = &clock.store;
        let first = claimed(store, 1).await;
        let released = store.release(ReleaseBy::Lease(first), ReleaseAs::Retry, &Retention::default()).await;
        assert_eq!(released.unwrap(), Settled::Applied);
        clock.advance(Duration::from_mins(11));
        assert_eq!(store.sweep(10).await.unwrap().removed, 1);
        assert_eq!(store.inspect(&id(1)).await.unwrap(), None);
        clock.ahead.fetch_sub(3_600_000, std::sync::atomic::Ordering::SeqCst);
        assert!(claimed(store, 1).await.fence > first.fence);
    });
}

// The clock that users get is not the one of the laws: it has to move, too.
#[test]
fn a_lease_ends_by_the_servers_clock() {
    test(async || {
        let prefix = Prefix::new();
        let store = open(&prefix).await;
        let ask = Begin { lease_for: Duration::from_millis(100), ..ask(1) };
        assert!(matches!(store.begin(&ask).await.unwrap(), Begun::Acquired(_)));
        let give_up = std::time::Instant::now() + Duration::from_secs(30);
        while !matches!(store.begin(&ask).await.unwrap(), Begun::Unknown(_)) {
            assert!(std::time::Instant::now() < give_up, "it never ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let view = store.inspect(&ask.id).await.unwrap().unwrap();
        assert!(view.changed.since(view.created) >= Duration::from_millis(100));
    });
}

// A store that opens with another secret names other records for the same keys: all of them run again.
#[test]
fn a_prefix_opens_with_its_own_secret_only() {
    test(async || {
        let (made, configured) = (Prefix::new(), Prefix::new());
        let _store = open(&made).await;
        let with = |prefix: &Prefix, byte| {
            let secret = Secret::from_bytes([byte; 32]);
            RedisStore::builder(&url()).prefix(&*prefix.0).secret(secret).open()
        };
        let kind = |opened: Result<RedisStore, semel_core::store::StoreError>| opened.unwrap_err().kind();
        assert_eq!(kind(with(&made, 1).await), StoreErrorKind::Config);
        let _first = with(&configured, 1).await.unwrap();
        let _again = with(&configured, 1).await.unwrap();
        assert_eq!(kind(with(&configured, 2).await), StoreErrorKind::Config);
        assert_eq!(
            kind(RedisStore::builder(&url()).prefix(&*configured.0).open().await),
            StoreErrorKind::Config
        );
        let written: Vec<u8> = raw().get(format!("{}:secret", configured.0)).unwrap();
        assert!(!written.windows(32).any(|window| window == [1; 32]), "a configured secret is in Redis");
    });
}

// An operator who looks for unknown records in a store of thousands has to find each.
#[test]
fn a_list_over_many_records_has_them_all_in_order() {
    test(async || {
        let clock = Manual::open().await;
        let store = Arc::new(clock.store);
        let claims = (0..600).map(|n| {
            let store = Arc::clone(&store);
            async move {
                let recovery = if n % 3 == 0 { Recovery::Hold } else { Recovery::Takeover };
                let lease_for = Duration::from_secs(1);
                store.begin(&Begin { recovery, lease_for, ..ask(n) }).await.unwrap()
            }
        });
        assert!(together(claims).await.iter().all(|begun| matches!(begun, Begun::Acquired(_))));
        clock.ahead.fetch_add(2000, std::sync::atomic::Ordering::SeqCst);
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let query = semel_core::store::Query { state: Some(State::Unknown), after, limit: 7 };
            let page = store.list(&query).await.unwrap();
            assert!(page.records.len() <= 7);
            listed.extend(page.records.iter().map(|view| view.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, (0..600).step_by(3).map(id).collect::<Vec<_>>());
    });
}

// A program opens its store before its runtime, or within it; a runtime that is dropped within another one panics.
#[test]
fn a_store_is_opened_with_and_without_a_runtime() {
    if !crate::support::available() {
        return;
    }
    let prefix = Prefix::new();
    let builder = RedisStore::builder(&url()).prefix(&*prefix.0);
    let outside = builder.clone().open_blocking().unwrap();
    test(async || {
        let within = builder.open_blocking().unwrap();
        let lease = claimed(&outside, 1).await;
        assert!(matches!(within.begin(&ask(1)).await.unwrap(), Begun::Held { .. }));
        assert_eq!(within.abandon(lease).await.unwrap(), Settled::Applied);
    });
}
