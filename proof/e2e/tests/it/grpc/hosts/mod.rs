//! Hosts of gRPC. A new one is a file here with its `HOST`, its `mod`, and its line in `on_every_host!`.

pub(super) mod axum;
pub(super) mod gateway;
pub(super) mod tonic;

/// Runs scenarios over every host of gRPC.
macro_rules! on_every_host {
    ($($scenario:ident),* $(,)?) => {
        crate::fixture::on_host!(grpc::hosts: tonic, $($scenario),*);
        crate::fixture::on_host!(grpc::hosts: axum, $($scenario),*);
        crate::fixture::on_host!(grpc::hosts: gateway, $($scenario),*);
    };
}
pub(super) use on_every_host;
