//! Two gateways over one store, on every store that machines can share.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use semel_testkit::postgres::free_port;
use semel_testkit::skip::skip;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::support::gateway;
use crate::proxy::shop::{ORDERS, Shop, WORK};
use crate::proxy::support::{assert_problem, assert_same, fresh, keys, until};

const PAIRS: usize = 1000;

/// Both of a pair are sent at once, one to each gateway. Middlewares that look before they insert run a quarter of
/// such keys twice.
async fn no_key_of_a_thousand_pairs_runs_twice(store: &str) {
    let shop = Shop::open().await;
    let gateways = [gateway(store, &shop.url()).await, gateway(store, &shop.url()).await];
    let [one, other] = [gateways[0].address(), gateways[1].address()];
    let mut lanes = JoinSet::new();
    let (mut quick, slow) = (fresh(ORDERS, "pair", PAIRS - 200), fresh(WORK, "slow-pair", 200));
    quick.extend(slow);
    for lane in quick.chunks(PAIRS / 20).map(<[_]>::to_vec) {
        lanes.spawn(async move {
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
    let sent = lanes.join_all().await.concat();
    assert_eq!(keys(&sent).collect::<HashSet<_>>().len(), PAIRS);
    assert!(keys(&sent).all(|key| shop.orders(key).len() == 1));
    assert_eq!(shop.total(), PAIRS);
}

macro_rules! on_every_shared_store {
    ($($store:ident: $server:ty),* $(,)?) => {
        $(
            mod $store {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn no_key_of_a_thousand_pairs_at_two_gateways_runs_twice() {
                    if let Some(server) = <$server>::there().await {
                        super::no_key_of_a_thousand_pairs_runs_twice(&super::SharedStore::url(&server)).await;
                    }
                }
                use super::SharedStore as _;
            }
        )*
    };
}

on_every_shared_store! {
    mysql: semel_testkit::mysql::Server,
    postgres: semel_testkit::postgres::Server,
    redis: super::Redis,
}

/// A server that a test has for itself.
trait SharedStore: Sized {
    /// `None`, and a note, where it is not installed.
    async fn there() -> Option<Self>;

    fn url(&self) -> String;
}

impl SharedStore for semel_testkit::mysql::Server {
    async fn there() -> Option<Self> {
        Self::start(&[]).await.unwrap()
    }

    fn url(&self) -> String {
        Self::url(self)
    }
}

impl SharedStore for semel_testkit::postgres::Server {
    async fn there() -> Option<Self> {
        Self::start(&["fsync=off"]).await.unwrap()
    }

    fn url(&self) -> String {
        Self::url(self)
    }
}

struct Redis {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl SharedStore for Redis {
    async fn there() -> Option<Self> {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
        ]);
        command.args(["--maxmemory-policy", "noeviction"]).current_dir(folder.path());
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            skip("two gateways over Redis", "no program redis-server").unwrap();
            return None;
        };
        let there = Self { child, port, _folder: folder };
        until(async || {
            tokio::time::sleep(Duration::from_millis(5)).await;
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .await;
        Some(there)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
