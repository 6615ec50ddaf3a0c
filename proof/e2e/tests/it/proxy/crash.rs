//! The gateway is killed at five points, under load. Orders are counted at the shop.

use std::collections::HashSet;
use std::net::SocketAddr;

use semel_testkit::client::Client;
use semel_testkit::program::Proxy;
use semel_testkit::wire::Message;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::support::{
    GATE_THEN_HEED, GATE_THEN_ORDER, LARGE, LARGE_ORDERS, ORDER_THEN_GATE, ORDERS, Place, Sent, Shop,
    assert_problem, assert_replay, assert_same, code, fresh, keys, once_final, until,
};

/// A crash is noticed after a lease, so a short one.
const FLAGS: [&str; 4] = ["--lease", "1s", "--connect-timeout", "30s"];
const VICTIMS: usize = 12;

/// Sends each over a connection of its own; the connections stay open, and nobody reads their answers.
async fn send_unread(proxy: &Proxy, sent: &[Sent]) -> Vec<Client> {
    let mut clients = Vec::new();
    for sent in sent {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        client.send(sent.ask.bytes()).await.unwrap();
        clients.push(client);
    }
    clients
}

/// Callers that order under new keys until the gateway is gone.
struct Load(JoinSet<Vec<(Sent, Option<Message>)>>);

impl Load {
    fn start(to: SocketAddr) -> Self {
        let mut callers = JoinSet::new();
        for caller in 0..6 {
            callers.spawn(async move {
                let mut history = Vec::new();
                for sent in fresh(ORDERS, &format!("load-{caller}"), 10_000) {
                    let answer = sent.ask.send(to).await;
                    let gone = answer.is_err();
                    // Where the disk stands still, the store's time-outs are problems; all else is an order.
                    history.push((sent, answer.ok().filter(|answer| code(answer).is_empty())));
                    if gone {
                        return history;
                    }
                }
                panic!("the gateway was not killed");
            });
        }
        Self(callers)
    }

    /// All they sent, the first answers of those that got one beside it.
    async fn ended(self) -> Vec<(Sent, Option<Message>)> {
        self.0.join_all().await.into_iter().flatten().collect()
    }
}

/// After a restart every caller tries again. What was answered is answered the same, nothing exists twice, and what
/// nobody knows is listed. Gives the keys of the latter.
async fn retry_all(place: &Place, proxy: &Proxy, shop: &Shop, sent: &[(Sent, Option<Message>)]) -> Vec<Sent> {
    let mut unknown = Vec::new();
    for (sent, first) in sent {
        let retry = once_final(proxy.address(), &sent.ask).await;
        let orders = shop.orders(&sent.key).len();
        if let Some(first) = first {
            assert_eq!(first.status(), 201, "{}", first.text());
            assert_replay(first, &retry);
            assert_eq!(orders, 1, "{}", sent.key);
        } else if retry.status() == 201 {
            assert_eq!(orders, 1, "{}", sent.key);
            assert_same(&retry, &sent.ask.send(proxy.address()).await.unwrap());
        } else {
            assert_problem(&retry, 409, "outcome-unknown", "reconcile");
            assert!(orders <= 1, "{orders} orders under {}", sent.key);
            unknown.push(sent.clone());
        }
    }
    let mut ids = HashSet::new();
    for sent in &unknown {
        ids.insert(place.id(&sent.key).await);
    }
    assert_eq!(place.listed("unknown").await.into_iter().collect::<HashSet<_>>(), ids);
    unknown
}

/// Those that wait for their first answer, beside what the load sent.
fn unanswered(sent: &[Sent]) -> Vec<(Sent, Option<Message>)> {
    sent.iter().map(|sent| (sent.clone(), None)).collect()
}

/// The operator says of each that it was not done: it runs again, once.
async fn resolve_and_run(place: &Place, proxy: &Proxy, shop: &Shop, sent: &[Sent]) {
    for sent in sent {
        place.resolve_not_applied(&sent.key).await;
        let answer = sent.ask.send(proxy.address()).await.unwrap();
        assert_eq!((answer.status(), answer.one("idempotency-replayed")), (201, None), "{}", answer.text());
        assert_replay(&answer, &sent.ask.send(proxy.address()).await.unwrap());
        let orders = shop.orders(&sent.key);
        assert_eq!(orders.len(), 1, "{}", sent.key);
        assert_eq!(orders[0].attempt, "2");
    }
}

/// Claimed, and not yet connected: the shop's queue is full. After a crash nobody can tell that from a request
/// that arrived, so it is not repeated by itself.
#[tokio::test]
async fn after_the_claim() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // The queue has room for one that nobody takes.
    let filling = TcpStream::connect(address).await.unwrap();
    let place = Place::new(&format!("http://{address}"), &FLAGS);
    let proxy = place.proxy().await;
    let victims = fresh(ORDERS, "claim", 2 * VICTIMS);
    let clients = send_unread(&proxy, &victims).await;
    until(async || (place.listed("in-flight").await.len() == victims.len()).then_some(())).await;
    proxy.kill().await.unwrap();
    drop((clients, filling));

    let listener = TcpListener::from_std(socket.into()).unwrap();
    SockRef::from(&listener).listen(128).unwrap();
    let shop = Shop::on(listener);
    let proxy = place.proxy().await;
    let unknown = retry_all(&place, &proxy, &shop, &unanswered(&victims)).await;
    assert_eq!((unknown.len(), shop.total()), (victims.len(), 0));
    resolve_and_run(&place, &proxy, &shop, &unknown).await;
}

/// The shop has read the request and done nothing yet. Some of its handlers go on although nobody waits for them.
#[tokio::test]
async fn after_dispatch() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &FLAGS);
    let proxy = place.proxy().await;
    let load = Load::start(proxy.address());
    let (going_on, heeding) =
        (fresh(GATE_THEN_ORDER, "order", VICTIMS), fresh(GATE_THEN_HEED, "heed", VICTIMS));
    let victims = [&going_on[..], &heeding[..]].concat();
    let clients = send_unread(&proxy, &victims).await;
    shop.asked(keys(&victims)).await;
    proxy.kill().await.unwrap();
    shop.open_gate();
    shop.taken(keys(&going_on)).await;
    drop(clients);

    let proxy = place.proxy().await;
    let mut sent = load.ended().await;
    sent.extend(unanswered(&victims));
    let unknown = retry_all(&place, &proxy, &shop, &sent).await;
    let unknown: HashSet<&str> = keys(&unknown).collect();
    assert!(keys(&victims).all(|key| unknown.contains(key)));
    assert!(keys(&heeding).all(|key| shop.orders(key).is_empty()));
    resolve_and_run(&place, &proxy, &shop, &heeding).await;
}

/// The order exists, and its answer has not left the shop.
#[tokio::test]
async fn after_the_effect() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &FLAGS);
    let proxy = place.proxy().await;
    let load = Load::start(proxy.address());
    let victims = fresh(ORDER_THEN_GATE, "effect", 2 * VICTIMS);
    let clients = send_unread(&proxy, &victims).await;
    shop.taken(keys(&victims)).await;
    proxy.kill().await.unwrap();
    shop.open_gate();
    drop(clients);

    let proxy = place.proxy().await;
    let mut sent = load.ended().await;
    sent.extend(unanswered(&victims));
    let unknown = retry_all(&place, &proxy, &shop, &sent).await;
    let unknown: HashSet<&str> = keys(&unknown).collect();
    assert!(keys(&victims).all(|key| unknown.contains(key) && shop.orders(key).len() == 1));

    // The operator finds the order and says so: a retry gets that answer, and nothing runs.
    let (victim, total) = (&victims[0], shop.total());
    let id = place.id(&victim.key).await;
    place.keys(&["resolve", &id, "--applied", "--status", "201", "--header", "Location: /orders/x"]).await;
    let answer = victim.ask.send(proxy.address()).await.unwrap();
    assert_eq!((answer.status(), answer.one("location")), (201, Some("/orders/x")));
    assert_eq!(shop.total(), total);
}

/// The answer is recorded, and nobody has read it: some callers have gone, and some are just about to read.
#[tokio::test]
async fn after_persisting() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &FLAGS);
    let proxy = place.proxy().await;
    let load = Load::start(proxy.address());
    let victims = fresh(ORDER_THEN_GATE, "persist", 2 * VICTIMS);
    let mut clients = send_unread(&proxy, &victims).await;
    shop.taken(keys(&victims)).await;
    clients.truncate(VICTIMS);
    let mut ids = HashSet::new();
    for victim in &victims {
        ids.insert(place.id(&victim.key).await);
    }
    shop.open_gate();
    until(async || {
        let completed: HashSet<String> = place.listed("completed").await.into_iter().collect();
        ids.is_subset(&completed).then_some(())
    })
    .await;
    proxy.kill().await.unwrap();
    drop(clients);

    let proxy = place.proxy().await;
    let mut sent = load.ended().await;
    sent.extend(unanswered(&victims));
    let unknown = retry_all(&place, &proxy, &shop, &sent).await;
    for victim in &victims {
        assert!(keys(&unknown).all(|key| key != victim.key));
        let replay = victim.ask.send(proxy.address()).await.unwrap();
        let serial = shop.orders(&victim.key)[0].serial;
        assert_eq!(replay.one("location"), Some(format!("/orders/{serial}").as_str()));
        assert_eq!(replay.one("idempotency-replayed"), Some("true"));
    }
}

/// A long answer is on its way when the connection breaks: the retry gets all of it.
#[tokio::test]
async fn amid_the_answer() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[&FLAGS[..], &["--capture-limit", "8MiB"]].concat());
    let proxy = place.proxy().await;
    let load = Load::start(proxy.address());
    let victims = fresh(LARGE_ORDERS, "amid", 3);
    let mut clients = Vec::new();
    for victim in &victims {
        let mut client = Client::connect_narrow(proxy.address()).await.unwrap();
        client.send(victim.ask.bytes()).await.unwrap();
        assert_eq!(client.head().await.unwrap().status(), 201);
        clients.push(client);
    }
    proxy.kill().await.unwrap();

    let proxy = place.proxy().await;
    let mut sent = load.ended().await;
    sent.extend(unanswered(&victims));
    retry_all(&place, &proxy, &shop, &sent).await;
    for (victim, mut client) in victims.iter().zip(clients) {
        let begun = client.rest().await.unwrap();
        assert!(begun.len() < LARGE, "the answer was whole before the crash");
        let replay = victim.ask.send(proxy.address()).await.unwrap();
        assert_eq!((replay.body.len(), replay.one("idempotency-replayed")), (LARGE, Some("true")));
        assert!(replay.body.starts_with(&begun));
        assert_eq!(shop.orders(&victim.key).len(), 1);
    }
}

/// With `takeover` a run that was killed is run again once its lease is over, and nothing else is.
#[tokio::test]
async fn takeover_repeats_what_was_killed_and_nothing_else() {
    let shop = Shop::open().await;
    let place = Place::new(&shop.url(), &[&FLAGS[..], &["--recovery", "takeover"]].concat());
    let proxy = place.proxy().await;
    let load = Load::start(proxy.address());
    let victims = fresh(ORDER_THEN_GATE, "takeover", VICTIMS);
    let clients = send_unread(&proxy, &victims).await;
    shop.taken(keys(&victims)).await;
    proxy.kill().await.unwrap();
    shop.open_gate();
    drop(clients);

    let proxy = place.proxy().await;
    let killed = [load.ended().await, unanswered(&victims)].concat();
    for (sent, first) in &killed {
        let retry = once_final(proxy.address(), &sent.ask).await;
        assert_eq!(retry.status(), 201, "{}", retry.text());
        let orders = shop.orders(&sent.key);
        match first {
            Some(first) => {
                assert_replay(first, &retry);
                assert_eq!(orders.len(), 1, "{}", sent.key);
            }
            None => assert!((1..=2).contains(&orders.len()), "{orders:?}"),
        }
        assert_replay_again(&proxy, sent, &retry).await;
    }
    for victim in &victims {
        let attempts: Vec<String> = shop.orders(&victim.key).into_iter().map(|order| order.attempt).collect();
        assert_eq!(attempts, ["1", "2"]);
    }
    assert!(place.listed("unknown").await.is_empty());
}

async fn assert_replay_again(proxy: &Proxy, sent: &Sent, answer: &Message) {
    assert_same(answer, &sent.ask.send(proxy.address()).await.unwrap());
}
