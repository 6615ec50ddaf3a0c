//! The gateway is killed at moments that nobody chose, again and again, while callers retry as callers do.
//!
//! The moments come from a seed that is printed; `SEMEL_SEED` repeats it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use semel_testkit::program::Proxy;
use semel_testkit::wire::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::{
    Place, Sent, Shop, WORK, advice, assert_problem, assert_same, code, keys, once_final, one,
};

const CALLERS: usize = 12;
const KILLS: usize = 8;

/// What a caller knows of a key of his.
struct Known {
    sent: Sent,
    /// Tries whose connection broke.
    broken: usize,
    /// The first answer, unless it is still open.
    answer: Option<Message>,
}

#[tokio::test]
async fn hold_never_runs_anything_twice() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &["--lease", "1s"]);
    let (proxy, history) = kill_again_and_again(&place).await;
    let mut unknown = Vec::new();
    for Known { sent, answer, .. } in &history {
        let retry = once_final(proxy.address(), &sent.ask).await;
        let orders = shop.orders(&sent.key).len();
        match answer {
            Some(answer) => assert_same(answer, &retry),
            None if retry.status() == 201 => {}
            None => assert_problem(&retry, 409, "outcome-unknown", "reconcile"),
        }
        if retry.status() == 201 {
            assert_eq!(orders, 1, "{}", sent.key);
        } else {
            assert!(orders <= 1, "{orders} orders under {}", sent.key);
            unknown.push(sent.clone());
        }
    }
    let mut ids = HashSet::new();
    for key in keys(&unknown) {
        ids.insert(place.id(key).await);
    }
    assert_eq!(place.listed("unknown").await.into_iter().collect::<HashSet<_>>(), ids);
    println!("{} keys, {} unknown, {} orders", history.len(), unknown.len(), shop.total());

    for sent in unknown.iter().filter(|sent| shop.orders(&sent.key).is_empty()).take(4) {
        place.resolve_not_applied(&sent.key).await;
        assert_eq!(sent.ask.send(proxy.address()).await.unwrap().status(), 201);
        assert_eq!(shop.orders(&sent.key).len(), 1);
    }
}

#[tokio::test]
async fn takeover_runs_twice_only_what_was_killed() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &["--lease", "1s", "--recovery", "takeover"]);
    let (proxy, history) = kill_again_and_again(&place).await;
    let mut twice = 0;
    for Known { sent, broken, answer } in &history {
        let retry = once_final(proxy.address(), &sent.ask).await;
        assert_eq!(retry.status(), 201, "{}", retry.text());
        if let Some(answer) = answer {
            assert_same(answer, &retry);
        }
        let orders = shop.orders(&sent.key).len();
        assert!((1..=1 + broken).contains(&orders), "{orders} orders, {broken} broken: {}", sent.key);
        twice += usize::from(orders > 1);
    }
    println!("{} keys, {twice} ran more than once, {} orders", history.len(), shop.total());
    assert!(place.listed("unknown").await.is_empty());
}

/// Gives the gateway that runs at the end, and what the callers know.
async fn kill_again_and_again(place: &Place) -> (Proxy, Vec<Known>) {
    let mut random = seeded();
    let mut proxy = place.proxy().await;
    let (at, address) = watch::channel(Some(proxy.address()));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(caller, address.clone()));
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(5..300))).await;
        proxy.kill().await.unwrap();
        proxy = place.proxy().await;
        at.send_replace(Some(proxy.address()));
    }
    at.send_replace(None);
    let history = callers.join_all().await.into_iter().flatten().collect();
    (proxy, history)
}

#[expect(clippy::print_stdout, reason = "shown when the test fails")]
fn seeded() -> fastrand::Rng {
    let seed = std::env::var("SEMEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEMEL_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Orders under one key after the other until there is no address any more, and tries again when a connection
/// breaks. What is still in flight is left for the end.
async fn call(caller: usize, address: watch::Receiver<Option<SocketAddr>>) -> Vec<Known> {
    let mut history = Vec::new();
    for number in 0.. {
        let sent = one(WORK, &format!("chaos-{caller}-{number}-77d0b1c2e4"));
        let mut known = Known { sent, broken: 0, answer: None };
        loop {
            let Some(to) = *address.borrow() else {
                history.push(known);
                return history;
            };
            match known.sent.ask.send(to).await {
                Ok(answer) if answer.status() == 201 => known.answer = Some(answer),
                Ok(answer) if ["in-flight", "outcome-unknown"].contains(&code(&answer).as_str()) => {}
                // Its disk stands still.
                Ok(answer) if advice(&answer) == "same-key" => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Ok(answer) => panic!("{answer:?}"),
                Err(_) => {
                    known.broken += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            }
            break;
        }
        history.push(known);
    }
    history
}
