//! The layer in axum, around tonic's routes.

use semel_tower::IdempotencyLayer;

use crate::grpc::fixture::{Kind, listen};

pub(in crate::grpc) const HOST: Kind = Kind::new(|shop, idempotency| {
    Box::pin(async move {
        let (address, listener) = listen().await;
        let router = shop.routes().into_axum_router().layer(IdempotencyLayer::new(idempotency));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    })
});
