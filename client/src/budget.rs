use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all calls of a client may spend on further tries: a bucket of tokens without a clock.
///
/// It begins full. A further try takes one token, and none is made without; a call that gets a final answer puts a
/// part of one back. While a server is down nothing is earned, so that the tries of a whole outage are bounded by the
/// bucket: `calls + capacity + earned × answered calls` requests at most, however many callers wait.
///
/// Clones are the same bucket. Give one to every client of the same server.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// In thousandths of a token, as all of them.
    tokens: AtomicU64,
    capacity: u64,
    earned: u64,
}

const TOKEN: u64 = 1000;

impl Budget {
    /// A full bucket. `earned_per_mille` is what an answered call earns, in thousandths of a further try: 100 lets
    /// one call in ten be tried once more, for as long as the server answers. More than 1000 counts as 1000.
    pub fn new(capacity: u32, earned_per_mille: u16) -> Self {
        let capacity = u64::from(capacity) * TOKEN;
        let earned = u64::from(earned_per_mille).min(TOKEN);
        Self(Arc::new(Bucket { tokens: AtomicU64::new(capacity), capacity, earned }))
    }

    /// Further tries that could be made now.
    pub fn left(&self) -> u64 {
        self.0.tokens.load(Ordering::Relaxed) / TOKEN
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&self) -> bool {
        let less = |tokens: u64| tokens.checked_sub(TOKEN);
        self.0.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Puts back what an answered call earns.
    pub(crate) fn earn(&self) {
        let more = |tokens: u64| Some((tokens + self.0.earned).min(self.0.capacity));
        let _always_some = self.0.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Default for Budget {
    /// 100 further tries, and one more for ten answered calls.
    fn default() -> Self {
        Self::new(100, 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_answers_alone_and_never_above_the_capacity() {
        let budget = Budget::new(2, 500);
        assert!(budget.take() && budget.clone().take());
        assert!(!budget.take(), "two tokens, whoever takes them");
        budget.earn();
        assert!(!budget.take(), "half a token is none");
        budget.earn();
        assert!(budget.take());
        for _ in 0..10 {
            budget.earn();
        }
        assert_eq!(budget.left(), 2);
        let eager = Budget::new(1, 9000);
        assert!(eager.take());
        eager.earn();
        assert_eq!(eager.left(), 1);
    }

    #[test]
    fn an_empty_bucket_stays_empty() {
        let budget = Budget::new(0, 1000);
        budget.earn();
        assert!(!budget.take());
    }
}
