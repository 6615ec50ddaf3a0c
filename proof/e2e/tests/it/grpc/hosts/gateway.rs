//! The gateway, over HTTP/2 to a server of tonic that knows nothing of keys.

use std::num::NonZeroUsize;

use semel_gateway::{Gateway, GatewayConfig};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::grpc::fixture::{Kind, listen};

pub(in crate::grpc) const HOST: Kind = Kind::new(|shop, idempotency| {
    Box::pin(async move {
        let (upstream, listener) = listen().await;
        let server = Server::builder().add_routes(shop.routes());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let mut config = GatewayConfig::new(format!("h2c://{upstream}").parse().unwrap());
        config.listen = ([127, 0, 0, 1], 0).into();
        config.workers = NonZeroUsize::MIN;
        let gateway = Gateway::bind(config).unwrap();
        let address = gateway.local_addr();
        tokio::spawn(gateway.run_guarded(idempotency, std::future::pending()));
        address
    })
});
