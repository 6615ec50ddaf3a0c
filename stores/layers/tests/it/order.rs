//! Which layers go together.

use std::time::Duration;

use semel_core::record::RecordId;
use semel_core::store::{LeaseRef, Settled, StoreErrorKind, Transactions, Undertaking};
use semel_store_layers::{Compress, Guard, KeyId, LayerKind, Layers, LayersError, Seal, Tier};
use semel_store_memory::MemoryStore;
use semel_store_sqlite::SqliteStore;
use semel_testkit::faulty::Faulty;

use crate::support::{answer, ask, bytes, claim, key, read, seal};

fn add(layers: Layers, kind: LayerKind) -> Layers {
    match kind {
        LayerKind::Tier => layers.tier(Tier::new()),
        LayerKind::Compress => layers.compress(Compress::new()),
        LayerKind::Seal => layers.seal(seal()),
        LayerKind::Guard => layers.guard(Guard::new()),
        other => panic!("{other}"),
    }
}

fn built(kinds: &[LayerKind]) -> Result<(), LayersError> {
    let layers = Layers::new(MemoryStore::new());
    kinds.iter().fold(layers, |layers, kind| add(layers, *kind)).build().map(drop)
}

const KINDS: [LayerKind; 4] = [LayerKind::Tier, LayerKind::Compress, LayerKind::Seal, LayerKind::Guard];

// Sealed bytes do not get smaller, and a breaker over the cache keeps back what needs no store.
#[test]
fn of_all_pairs_the_senseless_ones_are_refused_by_name() {
    for outer in KINDS {
        for inner in KINDS {
            let wrong = outer == inner
                || (outer, inner) == (LayerKind::Seal, LayerKind::Compress)
                || (outer, inner) == (LayerKind::Guard, LayerKind::Tier);
            match built(&[outer, inner]) {
                Ok(()) => assert!(!wrong, "{outer} before {inner} was built"),
                Err(error) => {
                    assert!(wrong, "{outer} before {inner}: {error}");
                    let text = error.to_string();
                    assert!(text.contains(&outer.to_string()) && text.contains(&inner.to_string()), "{text}");
                }
            }
        }
    }
}

// Whatever stands between them.
#[test]
fn an_order_is_judged_also_over_a_distance() {
    let refused = built(&[LayerKind::Seal, LayerKind::Guard, LayerKind::Compress]);
    let Err(LayersError::Order { outer, inner, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((outer, inner), (LayerKind::Seal, LayerKind::Compress));
    assert_eq!(built(&[LayerKind::Tier, LayerKind::Compress, LayerKind::Seal, LayerKind::Guard]), Ok(()));
}

// A setting that means nothing is an error at start, not a store that never answers.
#[test]
fn senseless_settings_are_refused() {
    let with = || Layers::new(MemoryStore::new());
    let zero = Duration::ZERO;
    let faults = [
        with().guard(Guard::new().tries(0)),
        with().guard(Guard::new().call_within(zero)),
        with().guard(Guard::new().trip_at(0, 10, Duration::from_secs(1))),
        with().guard(Guard::new().trip_at(101, 10, Duration::from_secs(1))),
        with().guard(Guard::new().trip_at(50, 0, Duration::from_secs(1))),
        with().guard(Guard::new().trip_at(50, 10, zero)),
        with().tier(Tier::new().max_age(zero)),
        with().tier(Tier::new().max_bytes(1000)),
        with().compress(Compress::new().level(0)),
        with().compress(Compress::new().max_body(0)),
    ];
    for layers in faults {
        let text = format!("{layers:?}");
        let refused = layers.build();
        assert!(matches!(refused, Err(LayersError::Setting { .. })), "{text}");
    }
    let twice = Seal::new(KeyId(3), key(1)).old(KeyId(3), key(2));
    assert_eq!(with().seal(twice).build().map(drop), Err(LayersError::KeyTwice(KeyId(3))));
}

// A limit that layers made smaller, or larger, would refuse at the first payment what passed at start.
#[tokio::test]
async fn the_stores_limit_holds_to_the_byte_through_all_layers() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteStore::builder(folder.path().join("semel.db")).max_body(5000).open().unwrap();
    let layers = Layers::new(file).tier(Tier::new()).compress(Compress::new()).seal(seal());
    let store = layers.guard(Guard::new().call_within(Duration::from_mins(2))).build().unwrap();
    let can = store.capabilities();
    assert_eq!((can.name, can.max_body, can.durable, can.shared), ("sqlite", Some(5000), true, true));
    // Bytes that no compression shortens.
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5001).collect();
    for (n, length) in [(1, 5000), (2, 5001)] {
        let lease = claim(&store, &ask(n)).await;
        let completion = answer(noise[..length].to_vec()).into();
        let settled = store.complete(lease, &completion, &ask(n).retention).await;
        if n == 1 {
            assert_eq!(settled.unwrap(), Settled::Applied);
            assert_eq!(bytes(&read(&store, n).await), &noise[..length]);
        } else {
            assert_eq!(settled.unwrap_err().kind(), StoreErrorKind::TooLarge);
        }
    }
}

/// Nobody lends any.
#[derive(Debug)]
struct Theirs(RecordId);

impl Transactions for Theirs {
    fn origin(&self) -> &RecordId {
        &self.0
    }

    fn tolerates_renewals(&self) -> bool {
        true
    }

    fn lend(&self, _: LeaseRef, _: &mut http::Extensions) -> Box<dyn Undertaking> {
        unreachable!("no run begins")
    }
}

// An application's transaction writes past every layer: a sealed store could not open what it wrote, a tier would show
// what was there before.
#[test]
fn of_the_layers_only_the_guard_lies_over_the_applications_transactions() {
    let theirs = Theirs(RecordId::from_bytes([1; 32]));
    let commits = |kinds: &[LayerKind]| {
        // It takes everybody's transactions.
        let (below, _) = Faulty::new(MemoryStore::new());
        let layers = kinds.iter().fold(Layers::new(below), |layers, kind| add(layers, *kind));
        layers.build().unwrap().commits_with(&theirs)
    };
    assert!(commits(&[]) && commits(&[LayerKind::Guard]));
    for kind in [LayerKind::Tier, LayerKind::Compress, LayerKind::Seal] {
        assert!(!commits(&[kind]) && !commits(&[kind, LayerKind::Guard]), "{kind}");
    }
    let below = Layers::new(MemoryStore::new()).guard(Guard::new()).build().unwrap();
    assert!(!below.commits_with(&theirs), "the store below decides");
}
