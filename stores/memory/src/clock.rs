//! The store's clock: the only one that judges leases and lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use semel_core::record::Timestamp;

/// Where a [`MemoryStore`](crate::MemoryStore) takes its time from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Clock {
    /// The machine's.
    System(SystemClock),
    /// One moved by hand, for tests.
    Manual(ManualClock),
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System(clock) => clock.now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::System(SystemClock::new())
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::Manual(clock)
    }
}

/// The wall clock as it was when this was made, carried on by the monotonic clock.
///
/// So a wall clock that is stepped by an hour, either way, neither ends a lease nor prolongs it.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    wall: Timestamp,
    at: Instant,
}

impl SystemClock {
    /// Reads the wall clock, once.
    pub fn new() -> Self {
        // Before 1970 the clock is not set at all; leases need only that time goes on.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::from_millis(0).plus(since), at: Instant::now() }
    }

    /// The time now. Never goes back.
    pub fn now(&self) -> Timestamp {
        self.wall.plus(self.at.elapsed())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

/// A clock that stands still until it is moved. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use semel_store_memory::{ManualClock, MemoryStore};
///
/// let clock = ManualClock::new();
/// let store = MemoryStore::builder().clock(clock.clone()).build();
/// clock.advance(Duration::from_secs(31)); // leases of 30 s are over
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Starts at 2026-01-01T00:00:00Z, the same in every test.
    pub fn new() -> Self {
        Self::at(Timestamp::from_millis(1_767_225_600_000))
    }

    /// Starts at this instant.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.as_millis())))
    }

    /// Moves it forward, by whole milliseconds. There is no way back.
    pub fn advance(&self, by: Duration) {
        let _: Result<i64, i64> = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |millis| {
            Some(Timestamp::from_millis(millis).plus(by).as_millis())
        });
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}
