//! A kind of host: how it is started, and where its records are.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use semel_core::store::AnyStore;
use semel_tower::Idempotency;
use tokio::net::TcpListener;

use super::call::{Answer, Call};
use super::shop::Shop;
use crate::client::PATIENCE;
use crate::fixture::Rules;
use crate::records::Records;

/// A server with the shop behind Semel, which guards `/shop.Orders/` and not `/shop.Streams/`.
pub(in crate::grpc) struct Host {
    pub(in crate::grpc) address: SocketAddr,
    pub(in crate::grpc) shop: Shop,
    _records: Option<Box<dyn Send>>,
}

impl Host {
    pub(in crate::grpc) async fn send(&self, call: &Call) -> Answer {
        call.send(self.address).await
    }

    /// Sends in the background.
    pub(in crate::grpc) fn start(&self, call: &Call) -> tokio::task::JoinHandle<Answer> {
        let (to, call) = (self.address, call.clone());
        tokio::spawn(async move { call.send(to).await })
    }

    pub(in crate::grpc) fn effects(&self) -> usize {
        self.shop.effects()
    }

    /// Waits until the shop has done this much.
    pub(in crate::grpc) async fn reaches(&self, effects: usize) {
        let reached = async {
            while self.effects() < effects {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the shop was not reached in time");
    }
}

#[derive(Clone, Copy)]
pub(in crate::grpc) struct Kind {
    start: fn(Shop, Idempotency) -> Starting,
    pub(crate) records: Records,
}

type Starting = Pin<Box<dyn Future<Output = SocketAddr> + Send>>;

impl Kind {
    pub(in crate::grpc) const fn new(start: fn(Shop, Idempotency) -> Starting) -> Self {
        Self { start, records: Records::Memory }
    }

    pub(in crate::grpc) const fn over(self, records: Records) -> Self {
        Self { records, ..self }
    }

    pub(in crate::grpc) async fn start(self) -> Host {
        self.start_with(|rules| rules).await
    }

    pub(in crate::grpc) async fn start_with(self, rules: Rules) -> Host {
        let (store, lie_in) = self.records.open().await;
        let host = self.start_on(store, rules).await;
        Host { _records: Some(lie_in), ..host }
    }

    pub(in crate::grpc) async fn start_on(self, store: AnyStore, rules: Rules) -> Host {
        let idempotency = Idempotency::builder_any(store).only_paths(["/shop.Orders/"]).build().unwrap();
        let shop = Shop::new();
        let address = (self.start)(shop.clone(), idempotency.route(rules).unwrap()).await;
        Host { address, shop, _records: None }
    }
}

pub(in crate::grpc) async fn listen() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}
