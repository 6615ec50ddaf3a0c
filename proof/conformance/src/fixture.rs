//! What a law needs of the store it judges.

use std::future::Future;
use std::time::Duration;

use semel_core::store::AnyStore;

/// An opened, empty store under test, and the hand on its clock.
///
/// Each law gets a fixture of its own. Where laws share a server, `open` gives each one a table, a prefix or a
/// database to itself.
pub trait Fixture: Send + Sync + Sized + 'static {
    /// Whether there is a server to open a store on. Where it says `false`, having told why, the laws are not judged.
    fn available() -> bool {
        true
    }

    /// Opens an empty store.
    fn open() -> impl Future<Output = Self> + Send;

    /// The store. Each call gives a handle to the same records.
    fn store(&self) -> AnyStore;

    /// Returns once the store's clock shows a time at least `by` later: by moving an injected clock, or by
    /// waiting.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;

    /// Closes the store and opens it again over what it has kept; a store that keeps nothing beyond its
    /// process returns itself. Where [`Capabilities::durable`] is set, records have to be there afterwards.
    ///
    /// [`Capabilities::durable`]: semel_core::store::Capabilities::durable
    fn reopen(self) -> impl Future<Output = Self> + Send;

    /// How long leases and lives are, that laws wait for.
    fn times(&self) -> Times {
        Times::injected()
    }

    /// Whether [`advance`](Self::advance) moves an injected clock, by any time and at once. Where it waits, laws that
    /// play with hours leave time out.
    fn moves_its_clock(&self) -> bool {
        self.times() == Times::injected()
    }

    /// Whether [`Store::watch`](semel_core::store::Store::watch) wakes within seconds for a change through the
    /// same handle. A store whose watches are [`Watch::never`](semel_core::store::Watch::never) says `false`.
    fn notifies(&self) -> bool {
        true
    }

    /// Whether it keeps [quotas](semel_core::store::Begin::quota). A store that does not has to refuse claims that carry
    /// one (`Config`), which is judged instead.
    fn quotas(&self) -> bool {
        true
    }
}

/// How long the leases and lives are, that laws wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a fixture may need other times than the two sets here")]
pub struct Times {
    /// A lease that a law lets run out.
    pub lease: Duration,
    /// A body's life; longer than `lease`.
    pub body: Duration,
    /// A record's life; longer than `body`.
    pub record: Duration,
    /// A released record's life.
    pub released: Duration,
    /// Longer than anything: what must not end by time is still there after it.
    pub ages: Duration,
    /// What is added to each wait, for a clock that is not exact.
    pub slack: Duration,
}

impl Times {
    /// The contract's own times, for a clock that is moved by hand.
    pub const fn injected() -> Self {
        Self {
            lease: Duration::from_secs(30),
            body: Duration::from_hours(24),
            record: Duration::from_hours(7 * 24),
            released: Duration::from_mins(10),
            ages: Duration::from_hours(10 * 365 * 24),
            slack: Duration::from_millis(1),
        }
    }

    /// Short ones, for a server's real clock.
    pub const fn real() -> Self {
        Self {
            lease: Duration::from_millis(400),
            body: Duration::from_millis(600),
            record: Duration::from_secs(2),
            released: Duration::from_millis(500),
            ages: Duration::from_secs(4),
            slack: Duration::from_millis(50),
        }
    }
}
