//! Gateways on a store's URL, callers that go on whatever happens, and the sum of it all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use semel_testkit::client::PATIENCE;
use semel_testkit::program::Proxy;
use semel_testkit::wire::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::proxy::shop::{ORDERS, Shop};
use crate::proxy::support::{Sent, code, fresh, once_final};

/// `semel proxy` on this store. Two on one store before one upstream share their keys.
pub(super) async fn gateway(store: &str, upstream: &str) -> Proxy {
    // A crash is noticed after a lease, so a short one.
    let flags = ["--store", store, "--upstream", upstream, "--namespace", "drill", "--lease", "2s"];
    Proxy::start(flags).await.unwrap()
}

/// What callers sent, with the first answers of those whose order was taken.
pub(super) type History = Vec<(Sent, Option<Message>)>;

/// Callers that order under new keys until they are told to stop, whatever they are answered.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
    callers: JoinSet<History>,
}

impl Load {
    pub(super) fn start(to: SocketAddr, name: &str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), watch::Sender::default());
        let mut callers = JoinSet::new();
        for caller in 0..6 {
            let (stop, answered, name) = (Arc::clone(&stop), answered.clone(), format!("{name}-{caller}"));
            callers.spawn(async move {
                let mut history = Vec::new();
                for sent in fresh(ORDERS, &name, 10_000) {
                    if stop.load(Ordering::SeqCst) {
                        return history;
                    }
                    let answer = first_answer(to, &sent).await;
                    answered.send_modify(|answered| *answered += usize::from(answer.is_some()));
                    history.push((sent, answer));
                }
                panic!("nobody said stop");
            });
        }
        Self { stop, answered, callers }
    }

    /// Returns once so many more orders were taken.
    pub(super) async fn more(&self, count: usize) {
        let mut answered = self.answered.subscribe();
        let most = *answered.borrow() + count;
        let reached = answered.wait_for(|answered| *answered >= most);
        tokio::time::timeout(PATIENCE, reached).await.expect("the callers go on").unwrap();
    }

    pub(super) async fn ended(self) -> History {
        self.stop.store(true, Ordering::SeqCst);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

/// The answer, if it says that the order was taken.
pub(super) async fn first_answer(to: SocketAddr, sent: &Sent) -> Option<Message> {
    sent.ask.send(to).await.ok().filter(|answer| answer.status() == 201)
}

/// Sends all of these at once.
pub(super) async fn send_all(to: SocketAddr, all: &[Sent]) -> History {
    let mut callers = JoinSet::new();
    for sent in all.iter().cloned() {
        callers.spawn(async move {
            let answer = first_answer(to, &sent).await;
            (sent, answer)
        });
    }
    callers.join_all().await
}

/// What has become of all that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Keys that were answered, and whose answer is gone.
    pub(super) lost: usize,
    /// Keys that the upstream was sent more than once.
    pub(super) twice: usize,
    /// Keys that an operator has to settle.
    pub(super) unknown: usize,
    /// Keys that are known to have run, and whose answer the store did not take.
    pub(super) bodiless: usize,
}

/// Every caller tries again until it is told something final, and the upstream's orders are counted.
pub(super) async fn tally(gateway: &Proxy, shop: &Shop, history: History) -> Tally {
    let mut lanes = JoinSet::new();
    let to = gateway.address();
    let lane = history.len().div_ceil(8).max(1);
    for lane in history.chunks(lane).map(<[_]>::to_vec) {
        lanes.spawn(async move {
            let mut told = Vec::new();
            for (sent, first) in lane {
                let retry = once_final(to, &sent.ask).await;
                told.push((sent, first, retry));
            }
            told
        });
    }
    let mut tally = Tally::default();
    for (sent, first, retry) in lanes.join_all().await.into_iter().flatten() {
        let orders = shop.orders(&sent.key).len();
        tally.twice += usize::from(orders > 1);
        match (retry.status(), code(&retry).as_str()) {
            (201, _) => assert!(orders >= 1, "{} was answered and never ran", sent.key),
            (409, "outcome-unknown") => tally.unknown += 1,
            (409, "replay-unavailable") => tally.bodiless += 1,
            _ => panic!("{}: {} {}", sent.key, retry.start, retry.text()),
        }
        // The record is there, if not the answer.
        let known = code(&retry) == "replay-unavailable";
        tally.lost += usize::from(first.is_some_and(|first| first.body != retry.body && !known));
    }
    tally
}
