//! A gRPC service whose orders are made once, however often they are sent.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use semel::{BuildError, Builder, Idempotency, IdempotencyLayer, SqliteStore};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use shop::orders_server::{Orders, OrdersServer};
use shop::{Order, Placed, State};

#[allow(warnings, clippy::all, clippy::pedantic, reason = "generated: see orders.proto")]
mod shop;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let idempotency = guarding(Idempotency::builder(SqliteStore::open("orders.db")?))?;
    Server::builder()
        .layer(IdempotencyLayer::new(idempotency).for_any_body())
        .add_service(OrdersServer::new(Shop::default()))
        .serve("127.0.0.1:50051".parse()?)
        .await?;
    Ok(())
}

/// Every call of gRPC is a POST, so the unary ones that change something are named.
fn guarding(rules: Builder) -> Result<Idempotency, BuildError> {
    rules.namespace("shop").only_paths(["/shop.Orders/Place"]).require_key().build()
}

#[derive(Default)]
struct Shop {
    placed: AtomicU64,
}

#[tonic::async_trait]
impl Orders for Shop {
    async fn place(&self, _: Request<Order>) -> Result<Response<Placed>, Status> {
        let id = self.placed.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(Placed { id }))
    }

    type WatchStream = BoxStream<'static, Result<State, Status>>;

    async fn watch(&self, _: Request<Placed>) -> Result<Response<Self::WatchStream>, Status> {
        let states = ["placed", "packed", "sent"].map(|name| Ok(State { name: name.into() }));
        Ok(Response::new(stream::iter(states).boxed()))
    }
}

#[cfg(test)]
mod tests;
