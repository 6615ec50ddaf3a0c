//! `semel proxy` as users run it: a process of its own, before an application that knows nothing of it.

mod callers;
mod chaos;
mod crash;
mod express;
mod lifecycle;
mod luck;
mod npm;
pub(crate) mod shop;
mod store;
mod stripe;
pub(crate) mod support;
