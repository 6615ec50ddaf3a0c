//! The tower host, from outside.

mod axum_host;
