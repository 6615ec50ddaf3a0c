//! What is left after `kill -9`.

use std::sync::Arc;
use std::time::Duration;

use semel_core::record::Retention;
use semel_core::store::{Begun, Delete, Deleted, Settled, Store as _};
use semel_store_mysql::MySqlStore;
use semel_testkit::mysql::Server;

use crate::support::{answer, ask, body, claimed, id, private};

// The server is killed while sixteen callers claim and complete: whatever was acknowledged is there afterwards.
#[test]
fn killed_under_load_nothing_that_was_acknowledged_is_lost() {
    private(async || {
        let Some(mut server) = Server::start(&[]).await.unwrap() else { return };
        let store = Arc::new(MySqlStore::open(server.url()).await.unwrap());
        let callers: Vec<_> = (0..16_u32)
            .map(|caller| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let (mut claims, mut done) = (Vec::new(), Vec::new());
                    for n in 0.. {
                        let key = caller * 100_000 + n;
                        let Ok(begun) = store.begin(&ask(key)).await else { break };
                        let Begun::Acquired(acquired) = begun else { panic!("{key}: {begun:?}") };
                        let lease = acquired.lease.as_ref();
                        claims.push(lease);
                        let text = answer(key.to_be_bytes().to_vec());
                        let Ok(settled) = store.complete(lease, &text, &Retention::default()).await else {
                            break;
                        };
                        assert_eq!(settled, Settled::Applied);
                        done.push(key);
                    }
                    (claims, done)
                })
            })
            .collect();
        // Under load: not before there is some.
        while !matches!(store.inspect(&id(5)).await, Ok(Some(_))) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill().unwrap();
        let mut found = (Vec::new(), Vec::new());
        for caller in callers {
            let (claims, done) = caller.await.unwrap();
            found.0.extend(claims);
            found.1.extend(done);
        }
        server.resume().await.unwrap();
        let store = MySqlStore::open(server.url()).await.unwrap();
        assert!(found.1.len() > 16, "there was no load");
        let mut last = 0;
        for lease in &found.0 {
            let view = store.inspect(&lease.id).await.unwrap().expect("a claim is lost");
            assert_eq!(view.fence, lease.fence);
            last = last.max(view.fence.get());
        }
        for key in &found.1 {
            let record = store.read(&id(*key)).await.unwrap().expect("an answer is lost");
            assert_eq!(body(&record.completion), key.to_be_bytes().to_vec());
        }
        assert!(claimed(&store, 99_999_999).await.fence().get() > last, "fences went back");
    });
}

// MySQL before 8 began anew above the rows that were left: an emptied table would have handed out old numbers.
#[test]
fn fences_grow_across_a_crash_of_an_emptied_table() {
    private(async || {
        let Some(mut server) = Server::start(&[]).await.unwrap() else { return };
        let store = MySqlStore::open(server.url()).await.unwrap();
        let mut last = 0;
        for n in 0..20 {
            last = claimed(&store, n).await.fence().get();
            assert_eq!(store.delete(&id(n), Delete::Any).await.unwrap(), Deleted::Gone);
        }
        let _ = store.sweep(100).await.unwrap();
        crate::support::run_at(&server.url(), "DELETE FROM semel_record").await;
        for emptied in [false, true] {
            if emptied {
                crate::support::run_at(&server.url(), "DELETE FROM semel_fence").await;
            }
            server.kill().unwrap();
            server.resume().await.unwrap();
            // A restart between two requests is not noticed.
            let next = claimed(&store, 0).await.fence().get();
            assert!(next > last, "{next} after {last}");
            last = next;
            crate::support::run_at(&server.url(), "DELETE FROM semel_record").await;
        }
    });
}
