//! Settings of a store.

use std::sync::Arc;

use semel_core::identity::Secret;

use crate::MemoryStore;
use crate::clock::Clock;
use crate::shard::Shards;

/// Settings of a [`MemoryStore`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    max_bytes: u64,
    max_entries: usize,
    clock: Clock,
    secret: Option<Secret>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_entries: 1_000_000, clock: Clock::default(), secret: None }
    }
}

impl Builder {
    /// At most so many bytes: answers, progress, and a flat sum for each record. Default 256 MiB.
    ///
    /// Only the headers of answers whose runs were already under way can go beyond it, since a completion is
    /// never refused.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// At most so many records. Default one million.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Another clock: a [`ManualClock`](crate::ManualClock) in tests.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// A configured secret, where names of records have to stay the same. Default: a random one.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The store.
    ///
    /// # Panics
    ///
    /// Where no secret is configured and the operating system gives no random numbers.
    pub fn build(self) -> MemoryStore {
        let secret = self.secret.unwrap_or_else(random_secret);
        MemoryStore(Arc::new(Shards::new(self.max_bytes, self.max_entries, self.clock, secret)))
    }
}

#[expect(
    clippy::expect_used,
    reason = "without randomness there is no secret, and nothing safe to fall back to"
)]
fn random_secret() -> Secret {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    Secret::from_bytes(bytes)
}
