//! Facts instead of timings: answers counted by a proxy between store and server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use semel_core::record::{Recovery, Retention};
use semel_core::store::{Begin, Begun, ReleaseAs, ReleaseBy, Settled, Store as _};
use semel_store_postgres::PostgresStore;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Schema, answer, ask, claimed, test, url};

/// A proxy that counts how often the client waits for the server: each `Sync` and each `Query` asks for one
/// `ReadyForQuery`.
struct Proxy {
    url: String,
    trips: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start() -> Self {
        let server: PgConnectOptions = url().parse().unwrap();
        let to = (server.get_host().to_owned(), server.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let through = server.host("127.0.0.1").port(port).to_url_lossy();
        let trips = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    // Whole messages: a type, a length, the rest.
                    while let Ok(kind) = from_server.read_u8().await {
                        let length = from_server.read_u32().await.unwrap();
                        let mut rest = vec![0; length as usize - 4];
                        from_server.read_exact(&mut rest).await.unwrap();
                        if kind == b'Z' {
                            counted.fetch_add(1, Ordering::SeqCst);
                        }
                        let mut message = vec![kind];
                        message.extend(length.to_be_bytes());
                        message.extend(rest);
                        if to_client.write_all(&message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url: through.to_string(), trips }
    }

    async fn counts<T>(&self, step: impl Future<Output = T>) -> (usize, T) {
        let before = self.trips.load(Ordering::SeqCst);
        let answer = step.await;
        (self.trips.load(Ordering::SeqCst) - before, answer)
    }
}

#[test]
fn steps_take_one_round_trip() {
    test(async || {
        let schema = Schema::new();
        let proxy = Proxy::start().await;
        // Whoever listens talks to the server for itself: it is not to be counted.
        let builder = PostgresStore::builder(&proxy.url).schema(&schema.0).connections(1).listen_url(url());
        count_steps(&proxy, &builder.open().await.unwrap()).await;
    });
}

#[test]
fn and_so_they_do_behind_a_pooler() {
    test(async || {
        let schema = Schema::new();
        let proxy = Proxy::start().await;
        let builder =
            PostgresStore::builder(&proxy.url).schema(&schema.0).connections(1).transaction_pooling();
        count_steps(&proxy, &builder.open().await.unwrap()).await;
    });
}

async fn count_steps(proxy: &Proxy, store: &PostgresStore) {
    let keep = Retention::default();
    let zero = |n, recovery| Begin { lease_for: std::time::Duration::ZERO, recovery, ..ask(n) };
    // The first of each kind prepares what is not asked for by every request.
    for key in 100..102 {
        warm_up(store, key).await;
    }

    let (trips, lease) = proxy.counts(claimed(store, 1)).await;
    assert_eq!(trips, 1, "a new claim");
    let (trips, begun) = proxy.counts(store.begin(&ask(1))).await;
    assert_eq!(trips, 1, "a held one");
    assert!(matches!(begun.unwrap(), Begun::Held { .. }));
    let (trips, settled) =
        proxy.counts(store.renew(&[lease.as_ref()], std::time::Duration::from_hours(2))).await;
    assert_eq!((trips, settled.unwrap()), (1, vec![Settled::Applied]));
    let (trips, settled) = proxy.counts(store.note(lease.as_ref(), &"one".into())).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, settled) = proxy.counts(store.complete(lease.as_ref(), &answer("x"), &keep)).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, begun) = proxy.counts(store.begin(&ask(1))).await;
    assert_eq!(trips, 1, "a replay");
    assert!(matches!(begun.unwrap(), Begun::Settled(_)));
    let other = Begin { principal: Some(semel_core::record::PrincipalTag::from_bytes([1; 32])), ..ask(1) };
    let (trips, begun) = proxy.counts(store.begin(&other)).await;
    assert_eq!(trips, 1, "a mismatch");
    assert!(matches!(begun.unwrap(), Begun::Differs(_)));

    let lease = claimed(store, 2).await;
    let (trips, settled) =
        proxy.counts(store.release(ReleaseBy::Lease(lease.as_ref()), ReleaseAs::Retry, &keep)).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, again) = proxy.counts(claimed(store, 2)).await;
    assert_eq!(trips, 2, "a rerun");
    let (trips, settled) = proxy.counts(store.abandon(again.as_ref())).await;
    assert_eq!((trips, settled.unwrap()), (1, Settled::Applied));
    let (trips, begun) = proxy.counts(store.begin(&ask(2))).await;
    assert_eq!(trips, 1, "an unknown one");
    assert!(matches!(begun.unwrap(), Begun::Unknown(_)));

    for (key, recovery) in [(3, Recovery::Takeover), (4, Recovery::Hold)] {
        assert!(matches!(store.begin(&zero(key, recovery)).await.unwrap(), Begun::Acquired(_)));
        let (trips, begun) = proxy.counts(store.begin(&ask(key))).await;
        assert_eq!(trips, 2, "a lease that is over: {begun:?}");
    }
}

async fn warm_up(store: &PostgresStore, key: u32) {
    let lease = claimed(store, key).await;
    let _ = store.note(lease.as_ref(), &"one".into()).await.unwrap();
    let by = ReleaseBy::Lease(lease.as_ref());
    let _ = store.release(by, ReleaseAs::Retry, &Retention::default()).await.unwrap();
    let again = claimed(store, key).await;
    let _ = store.abandon(again.as_ref()).await.unwrap();
    let hold = Begin { lease_for: std::time::Duration::ZERO, ..ask(key + 50) };
    let _ = store.begin(&hold).await.unwrap();
    let _ = store.begin(&ask(key + 50)).await.unwrap();
}
