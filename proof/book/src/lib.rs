//! The pages of the book whose Rust code is not a part of an example: `cargo test --doc -p semel-book` compiles it,
//! and runs what can run by itself. `cargo xtask tidy` names a page that is missing here.

#[cfg(doctest)]
#[doc = include_str!("../../../docs/layer-order.md")]
mod layer_order {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosts/axum.md")]
mod axum {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosts/tower.md")]
mod tower {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosts/actix.md")]
mod actix {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosts/rocket.md")]
mod rocket {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosts/gateway.md")]
mod gateway {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/memory.md")]
mod memory {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/sqlite.md")]
mod sqlite {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/postgres.md")]
mod postgres {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/mysql.md")]
mod mysql {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/redis.md")]
mod redis {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/layers.md")]
mod layers {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores/your-own.md")]
mod your_own {}
