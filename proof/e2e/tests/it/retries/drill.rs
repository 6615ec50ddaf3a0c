use std::time::{Duration, Instant};

use semel_client::{OperationKey, Verdict};
use semel_core::policy::PolicyBuilder;
use semel_core::record::State;
use semel_core::store::{AnyStore, Query};
use semel_store_memory::MemoryStore;
use semel_store_sqlite::SqliteStore;
use semel_testkit::cable::{Cable, Fault};
use tokio::task::JoinSet;

use super::support::{Came, Shell, Shop, seeded};

/// How many calls are under way at once.
const CALLERS: usize = 128;

/// A request that is this late comes after its caller's next try: a duplicate of one that may have been answered.
const LATE: Duration = Duration::from_millis(1200);

const FAULTS: [Fault; 6] = [
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::Swallow,
    Fault::BlackHole,
    Fault::LateRequest(LATE),
    Fault::LateAnswer(Duration::from_millis(200)),
];

/// What the callers saw.
#[derive(Default)]
struct Seen {
    tries: u32,
    replayed: usize,
    unknown: Vec<(String, Option<OperationKey>)>,
}

/// Sends so many orders, one in six of them with a fault on the wire for whichever request meets it.
async fn send(shell: Shell, count: usize, cable: &Cable) -> Seen {
    let mut random = seeded();
    let mut callers = JoinSet::new();
    let mut seen = Seen::default();
    for number in 0..count {
        if callers.len() == CALLERS {
            note(&mut seen, callers.join_next().await.unwrap().unwrap());
        }
        let fault = (random.u32(..6) == 0).then(|| random.choice(FAULTS).unwrap());
        if let Some(fault) = fault {
            cable.next(fault);
        }
        let (shell, to) = (shell.clone(), cable.address());
        callers.spawn(async move {
            let order = format!(r#"{{"order":{number}}}"#);
            (order.clone(), shell.order(to, order, None).await)
        });
    }
    while let Some(ended) = callers.join_next().await {
        note(&mut seen, ended.unwrap());
    }
    seen
}

fn note(seen: &mut Seen, (order, came): (String, Came)) {
    match came {
        Came::Known { status, text, end } => {
            assert_eq!((status, text), (201, format!("made {order}")));
            assert!(matches!(end.verdict, Verdict::Done | Verdict::Replayed));
            seen.replayed += usize::from(end.verdict == Verdict::Replayed);
            seen.tries += end.tries;
        }
        Came::Unknown(key) => seen.unknown.push((order, key)),
        Came::NotSent => panic!("{order} was not sent"),
    }
}

fn waiting(rules: PolicyBuilder) -> PolicyBuilder {
    rules.require_key().wait(Duration::from_millis(600))
}

/// The wire between the client and the gateway cuts, delays, swallows and duplicates. All of that can be recovered from.
async fn five_thousand_orders_are_made_five_thousand_times(shell: Shell, store: AnyStore) {
    const ORDERS: usize = 5000;
    let begun = Instant::now();
    let shop = Shop::start(|_| false).await;
    let cable = Cable::to(shop.behind(store, waiting)).unwrap();
    let seen = send(shell, ORDERS, &cable).await;

    let made = shop.made();
    println!(
        "{ORDERS} orders, {} tries, {} answered by a replay, {} unknown, {} effects in {:?}",
        seen.tries,
        seen.replayed,
        seen.unknown.len(),
        made.values().sum::<usize>(),
        begun.elapsed()
    );
    assert!(seen.unknown.is_empty());
    assert_eq!(made.len(), ORDERS);
    assert!(made.values().all(|times| *times == 1));
    // Else nothing was shown: the wire did break, and answers were lost that had to be replayed.
    assert!(seen.tries as usize > ORDERS + ORDERS / 20 && seen.replayed > ORDERS / 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_orders_over_reqwest_through_a_broken_wire_have_five_thousand_effects() {
    let folder = tempfile::tempdir().unwrap();
    let store = AnyStore::new(SqliteStore::open(folder.path().join("semel.db")).unwrap());
    five_thousand_orders_are_made_five_thousand_times(Shell::reqwest(), store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_orders_over_tower_through_a_broken_wire_have_five_thousand_effects() {
    let store = AnyStore::new(MemoryStore::new());
    five_thousand_orders_are_made_five_thousand_times(Shell::tower(), store).await;
}

/// The application breaks off after it took effect, which no client and no gateway can recover from under hold. Each
/// such order is unknown to its caller, and listed by the gateway; no other is; and none is made twice.
async fn what_cannot_be_known_is_unknown_to_both_sides(shell: Shell) {
    const ORDERS: usize = 400;
    const BROKEN: usize = ORDERS / 10;
    let store = AnyStore::new(MemoryStore::new());
    let shop = Shop::start(|order| order.ends_with("7}")).await;
    let cable = Cable::to(shop.behind(store.clone(), waiting)).unwrap();
    let seen = send(shell.clone(), ORDERS, &cable).await;

    let listed =
        store.list(&Query { state: Some(State::Unknown), after: None, limit: ORDERS }).await.unwrap();
    assert_eq!((seen.unknown.len(), listed.records.len()), (BROKEN, BROKEN));
    assert!(seen.unknown.iter().all(|(order, _)| order.ends_with("7}")));
    let made = shop.made();
    assert_eq!((made.len(), made.values().sum::<usize>()), (ORDERS, ORDERS));

    // Asked with its key, each is still what it was, and nothing has run again.
    cable.heal().unwrap();
    for (order, key) in seen.unknown.into_iter().take(5) {
        let again = shell.order(cable.address(), order, key).await;
        assert!(matches!(again, Came::Unknown(Some(_))));
    }
    assert_eq!(shop.made().values().sum::<usize>(), ORDERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_known_is_unknown_to_both_sides_over_reqwest() {
    what_cannot_be_known_is_unknown_to_both_sides(Shell::reqwest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_known_is_unknown_to_both_sides_over_tower() {
    what_cannot_be_known_is_unknown_to_both_sides(Shell::tower()).await;
}
