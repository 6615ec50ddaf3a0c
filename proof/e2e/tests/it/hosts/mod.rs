//! Hosts that scenarios run over. A new one is a file here with its `HOST`, its `mod`, and its line in `on_every_host!`;
//! one that has no line is dead code, and the compiler says so.

pub(crate) mod actix;
pub(crate) mod axum;
pub(crate) mod gateway;
pub(crate) mod hyper;
pub(crate) mod poem;
pub(crate) mod rocket;
pub(crate) mod salvo;
pub(crate) mod warp;

/// Runs scenarios over every kind of host.
macro_rules! on_every_host {
    ($($scenario:ident),* $(,)?) => {
        crate::fixture::on_host!(axum, $($scenario),*);
        crate::fixture::on_host!(hyper, $($scenario),*);
        crate::fixture::on_host!(actix, $($scenario),*);
        crate::fixture::on_host!(rocket, $($scenario),*);
        crate::fixture::on_host!(poem, $($scenario),*);
        crate::fixture::on_host!(salvo, $($scenario),*);
        crate::fixture::on_host!(warp, $($scenario),*);
        crate::fixture::on_host!(gateway, $($scenario),*);
    };
}
pub(crate) use on_every_host;
