//! What can happen to the file.

use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, prlimit};
use semel_testkit::client::Client;
use semel_testkit::program::Proxy;
use tokio::task::JoinSet;

use super::shop::{LARGE, LARGE_ORDERS, ORDER_THEN_GATE, ORDERS, Shop, WORK};
use super::support::{
    Place, assert_problem, assert_replay, assert_same, code, fresh, keys, once_final, one, until,
};

/// Two gateways on one file, and each duplicate goes to the other one.
#[tokio::test]
async fn two_gateways_on_one_file_run_each_key_once() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[]);
    let gateways = [place.proxy().await, place.proxy().await];
    let [one, other] = [gateways[0].address(), gateways[1].address()];
    let mut pairs = JoinSet::new();
    for lane in fresh(WORK, "pair", 300).chunks(25).map(<[_]>::to_vec) {
        pairs.spawn(async move {
            for sent in &lane {
                let (left, right) = tokio::join!(sent.ask.send(one), sent.ask.send(other));
                let (left, right) = (left.unwrap(), right.unwrap());
                match (left.status(), right.status()) {
                    (201, 201) => assert_same(&left, &right),
                    (201, _) => assert_problem(&right, 409, "in-flight", "same-key"),
                    (_, 201) => assert_problem(&left, 409, "in-flight", "same-key"),
                    _ => panic!("{left:?} {right:?}"),
                }
            }
            lane
        });
    }
    let sent = pairs.join_all().await.concat();
    assert!(keys(&sent).all(|key| shop.orders(key).len() == 1));
    for sent in sent.iter().step_by(10) {
        let (left, right) = (sent.ask.send(one).await.unwrap(), sent.ask.send(other).await.unwrap());
        assert_eq!((left.status(), right.one("idempotency-replayed")), (201, Some("true")));
        assert_same(&left, &right);
    }
    assert_eq!(shop.total(), 300);
}

/// A file that grows beyond its limit is an error of the write, and not the end of the process.
const LIMITED: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

/// No file of this process may grow, from now on or until it may again: to SQLite that is a disk without room.
fn limit_files(proxy: &Proxy, to: Option<u64>) {
    prlimit(Some(proxy.process().unwrap()), Resource::Fsize, Rlimit { current: to, maximum: None }).unwrap();
}

/// The disk is full when the answers come: none of them is sent as if it had been recorded, and nothing runs again.
#[tokio::test]
async fn a_disk_that_fills_up_during_a_run_records_no_false_success() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &["--lease", "1s"]);
    let proxy = Proxy::start_below(&LIMITED, place.flags()).await.unwrap();
    let running = fresh(ORDER_THEN_GATE, "full", 8);
    let mut clients = Vec::new();
    for sent in &running {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        client.send(sent.ask.bytes()).await.unwrap();
        clients.push(client);
    }
    shop.taken(keys(&running)).await;
    limit_files(&proxy, Some(1));
    shop.open_gate();

    // Nothing new is claimed, and so nothing new runs.
    let new = one(ORDERS, "new-while-full-33d0");
    assert_problem(&new.ask.send(proxy.address()).await.unwrap(), 503, "store-unavailable", "same-key");
    assert!(shop.orders(&new.key).is_empty());

    for mut client in clients {
        let answer = client.answer().await.unwrap();
        assert_eq!(code(&answer), "outcome-unknown", "{}", answer.text());
        assert!((500..=504).contains(&answer.status()), "{}", answer.start);
    }
    limit_files(&proxy, None);
    let retry = until(async || {
        let answer = new.ask.send(proxy.address()).await.unwrap();
        (answer.status() == 201).then_some(answer)
    })
    .await;
    assert_same(&retry, &new.ask.send(proxy.address()).await.unwrap());
    for sent in &running {
        let retry = once_final(proxy.address(), &sent.ask).await;
        if retry.status() == 201 {
            assert_eq!(retry.one("idempotency-replayed"), Some("true"));
        } else {
            assert_problem(&retry, 409, "outcome-unknown", "reconcile");
        }
        assert_eq!(shop.orders(&sent.key).len(), 1);
    }
    assert_eq!(shop.total(), 1 + running.len());
}

/// The disk has room for claims and for small answers, and not for this one: it reaches its caller, and is not
/// recorded as one that can be replayed.
#[tokio::test]
async fn an_answer_that_does_not_fit_the_disk_is_not_replayed_by_a_second_run() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &["--lease", "1s", "--capture-limit", "8MiB"]);
    let folder = place.file().parent().unwrap().to_str().unwrap().to_owned();
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$1\" && shift && exec \"$@\"";
    let disk = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", &folder];
    let proxy = if let Ok(proxy) = Proxy::start_below(&disk, place.flags()).await {
        proxy
    } else {
        // Where nobody may mount anything, files of a limited size have to do.
        let proxy = Proxy::start_below(&LIMITED, place.flags()).await.unwrap();
        limit_files(&proxy, Some(1 << 20));
        proxy
    };
    let large = one(LARGE_ORDERS, "does-not-fit-1b7e");
    let first = large.ask.send(proxy.address()).await.unwrap();
    let expected = match first.status() {
        201 => "replay-unavailable",
        _ => "outcome-unknown",
    };
    assert!(first.status() != 201 || first.body.len() == LARGE);
    for _ in 0..3 {
        let retry = once_final(proxy.address(), &large.ask).await;
        assert_problem(&retry, 409, expected, "reconcile");
    }
    assert_eq!(shop.orders(&large.key).len(), 1);
    // Small ones still fit.
    let small = one(ORDERS, "fits-1b7e");
    let first = small.ask.send(proxy.address()).await.unwrap();
    assert_replay(&first, &small.ask.send(proxy.address()).await.unwrap());
}

/// Another process holds the file for longer than a claim is tried: the caller is told, and nothing runs. A run that
/// ends meanwhile waits with its answer.
#[tokio::test]
async fn a_file_that_is_locked_runs_nothing() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[]);
    let proxy = place.proxy().await;
    let running = one(ORDER_THEN_GATE, "locked-run-90d1");
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send(running.ask.bytes()).await.unwrap();
    shop.taken([running.key.as_str()].into_iter()).await;

    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let new = fresh(ORDERS, "locked-out", 4);
    let mut callers = JoinSet::new();
    for sent in &new {
        let (ask, to) = (sent.ask.clone(), proxy.address());
        callers.spawn(async move { ask.send(to).await.unwrap() });
    }
    for refused in callers.join_all().await {
        assert_problem(&refused, 503, "store-unavailable", "same-key");
    }
    assert!(keys(&new).all(|key| shop.orders(key).is_empty()));
    shop.open_gate();
    other.execute_batch("ROLLBACK").unwrap();

    let first = client.answer().await.unwrap();
    assert_eq!(first.status(), 201, "{}", first.text());
    assert_replay(&first, &running.ask.send(proxy.address()).await.unwrap());
    for sent in &new {
        let answer = once_final(proxy.address(), &sent.ask).await;
        assert_eq!(answer.status(), 201, "{}", answer.text());
        assert_eq!(shop.orders(&sent.key).len(), 1);
    }
}

/// Somebody removes the file under a running gateway. What it says afterwards may not be lost with it, so it has to
/// stop: another gateway, or this one after a restart, would find none of its records.
#[tokio::test]
async fn a_file_that_is_removed_runs_nothing_more() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[]);
    let proxy = place.proxy().await;
    let before = one(ORDERS, "before-removal-6c11");
    assert_eq!(before.ask.send(proxy.address()).await.unwrap().status(), 201);
    for suffix in ["", "-wal", "-shm"] {
        let mut file = place.file().into_os_string();
        file.push(suffix);
        std::fs::remove_file(file).unwrap();
    }
    let after = one(ORDERS, "after-removal-6c11");
    let refused = after.ask.send(proxy.address()).await.unwrap();
    assert_problem(&refused, 503, "store-unavailable", "same-key");
    assert!(shop.orders(&after.key).is_empty());
}
