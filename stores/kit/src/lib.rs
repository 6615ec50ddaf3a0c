//! What Semel's stores have in common, for those who write another one.
//!
//! A backend that keeps a record as a row reads it into a [`Row`]. The row says what it is at a moment, and what a step
//! may do to it: [`Row::judge`] for a claim, and a [`Standing`] for every step that settles. The step itself, atomic and
//! by the backend's clock, is the store's own. [`Encoded`] and [`Sealed`] are answers on their way in and out, and
//! [`Watchers`] wakes those who wait in this process. [`shape`] says how tables differ from what statements need.
//! [`random`] and [`blocking`] are for opening a store.
//!
//! What a store owes is said by [`Store`](semel_core::store::Store), and proven by the laws of `semel-conformance`.

mod answer;
mod judge;
mod number;
mod row;
pub mod shape;
mod system;
mod watch;

pub use answer::{Encoded, Sealed, drop_body};
pub use judge::{Judged, Standing, is_expired};
pub use number::{fence_from, int, recovery_from, recovery_to, state_from, state_to, status_from};
pub use row::Row;
pub use system::{blocking, random};
pub use watch::Watchers;
