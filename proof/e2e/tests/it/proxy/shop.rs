//! An application that knows nothing of Semel, takes orders and counts them by the key it was sent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use semel_testkit::client::PATIENCE;
use semel_testkit::upstream::{Act, Received, Upstream};
use semel_testkit::wire::Message;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Takes an order at once.
pub(crate) const ORDERS: &str = "/orders";
/// The same with [`LARGE`] bytes in the answer.
pub(crate) const LARGE_ORDERS: &str = "/large";
/// Waits at the gate, then takes the order, whether or not anybody still listens.
pub(crate) const GATE_THEN_ORDER: &str = "/gate-then-order";
/// Waits at the gate, then takes the order if its caller is still there.
pub(crate) const GATE_THEN_HEED: &str = "/gate-then-heed";
/// Takes the order, then waits at the gate.
pub(crate) const ORDER_THEN_GATE: &str = "/order-then-gate";
/// Works up to some milliseconds before the order and after it.
pub(crate) const WORK: &str = "/work";

/// More than the buffers of a connection on loopback hold.
pub(crate) const LARGE: usize = 6 << 20;

/// The shop. Orders are counted here and nowhere else.
pub(crate) struct Shop {
    upstream: Upstream,
    ledger: Arc<Ledger>,
    gate: watch::Sender<bool>,
}

/// One order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) serial: usize,
    /// `Idempotency-Attempt`, as it arrived.
    pub(crate) attempt: String,
}

#[derive(Default)]
struct Ledger {
    orders: Mutex<HashMap<String, Vec<Order>>>,
    taken: watch::Sender<usize>,
}

impl Shop {
    /// A shop on a free port, its gate shut.
    pub(crate) async fn open() -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let (gate, at_gate) = watch::channel(false);
        let ledger = Arc::new(Ledger::default());
        let book = Arc::clone(&ledger);
        let upstream = Upstream::on(listener, move |received| serve(received, &book, &at_gate)).unwrap();
        Self { upstream, ledger, gate }
    }

    pub(crate) fn url(&self) -> String {
        self.upstream.url()
    }

    /// Lets everybody through, from now on.
    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// The orders under a key, as the application saw it.
    pub(crate) fn orders(&self, key: &str) -> Vec<Order> {
        self.ledger.orders().get(key).cloned().unwrap_or_default()
    }

    /// All orders.
    pub(crate) fn total(&self) -> usize {
        *self.ledger.taken.borrow()
    }

    /// Waits until a request with each of these keys was read to its end.
    pub(crate) async fn asked(&self, keys: impl Iterator<Item = &str> + Clone) {
        let asked = |upstream: &Upstream| {
            let received = upstream.received();
            let seen: HashSet<&str> =
                received.iter().filter_map(|received| received.message.one("idempotency-key")).collect();
            keys.clone().all(|key| seen.contains(key))
        };
        assert!(self.upstream.until(asked).await, "asked in time");
    }

    /// Waits until each of these keys has an order.
    pub(crate) async fn taken(&self, keys: impl Iterator<Item = &str> + Clone) {
        let mut taken = self.ledger.taken.subscribe();
        let all = taken.wait_for(|_| keys.clone().all(|key| !self.orders(key).is_empty()));
        tokio::time::timeout(PATIENCE, all).await.expect("orders in time").unwrap();
    }
}

fn serve(received: &Received, ledger: &Arc<Ledger>, gate: &watch::Receiver<bool>) -> Act {
    let request = received.message.clone();
    let path = request.start.split(' ').nth(1).unwrap_or_default().to_owned();
    match path.as_str() {
        ORDERS | LARGE_ORDERS => Act::Answer(ledger.take(&request)),
        WORK => {
            let ledger = Arc::clone(ledger);
            take_over(move |mut stream| async move {
                let work = || tokio::time::sleep(Duration::from_micros(fastrand::u64(0..8000)));
                work().await;
                let answer = ledger.take(&request);
                work().await;
                let _gone = stream.get_mut().write_all(&answer).await;
            })
        }
        _ => {
            let (ledger, mut gate) = (Arc::clone(ledger), gate.clone());
            take_over(move |mut stream| async move {
                if path == ORDER_THEN_GATE {
                    let answer = ledger.take(&request);
                    wait_at(&mut gate).await;
                    let _gone = stream.get_mut().write_all(&answer).await;
                    return;
                }
                wait_at(&mut gate).await;
                if path == GATE_THEN_ORDER || is_there(&mut stream) {
                    let answer = ledger.take(&request);
                    let _gone = stream.get_mut().write_all(&answer).await;
                }
            })
        }
    }
}

/// For one answer; the connection ends behind it.
fn take_over<F>(act: impl FnOnce(BufReader<TcpStream>) -> F + Send + 'static) -> Act
where
    F: Future<Output = ()> + Send + 'static,
{
    Act::Take(Box::new(move |stream| Box::pin(act(stream))))
}

async fn wait_at(gate: &mut watch::Receiver<bool>) {
    // The gate goes with its shop, and so does this task.
    let _shop_closed = gate.wait_for(|open| *open).await;
}

/// Whether the caller has neither closed nor reset.
fn is_there(stream: &mut BufReader<TcpStream>) -> bool {
    let read = std::pin::pin!(stream.fill_buf());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    read.poll(&mut cx).is_pending()
}

impl Ledger {
    fn orders(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Order>>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The effect, and the answer that says so. Fields repeat and the body is no text, so that a replay that is
    /// only nearly the same is seen.
    fn take(&self, request: &Message) -> Vec<u8> {
        let key = request.one("idempotency-key").unwrap_or_default().to_owned();
        let attempt = request.one("idempotency-attempt").unwrap_or_default().to_owned();
        let mut orders = self.orders();
        let serial = orders.values().map(Vec::len).sum::<usize>() + 1;
        orders.entry(key).or_default().push(Order { serial, attempt });
        drop(orders);
        self.taken.send_modify(|taken| *taken += 1);
        let mut body = format!("order {serial} ").into_bytes();
        body.extend(0..=u8::MAX);
        if request.start.contains(LARGE_ORDERS) {
            body.resize(LARGE, b'.');
        }
        let close = if request.start.contains(&format!("{ORDERS} ")) || request.start.contains(LARGE_ORDERS) {
            ""
        } else {
            "Connection: close\r\n"
        };
        let mut answer = format!(
            "HTTP/1.1 201 Created\r\nLocation: /orders/{serial}\r\nX-Tag: one\r\nx-tag: two\r\n{close}\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.append(&mut body);
        answer
    }
}
