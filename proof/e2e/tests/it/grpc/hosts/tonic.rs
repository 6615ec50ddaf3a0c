//! The layer in tonic's own server.

use semel_tower::IdempotencyLayer;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::grpc::fixture::{Kind, listen};

pub(in crate::grpc) const HOST: Kind = Kind::new(|shop, idempotency| {
    Box::pin(async move {
        let (address, listener) = listen().await;
        let server = Server::builder()
            .layer(IdempotencyLayer::new(idempotency).for_any_body())
            .add_routes(shop.routes());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    })
});
