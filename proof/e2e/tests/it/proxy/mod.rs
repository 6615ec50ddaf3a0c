//! `semel proxy` as users run it: a process of its own, before an application that knows nothing of it.

mod chaos;
mod crash;
mod express;
mod shop;
mod support;
