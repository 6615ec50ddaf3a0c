//! The server's clock, and what tests add to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The clock that records are judged by: always the server's own.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The server's `TIME`.
    pub fn server() -> Self {
        Self::default()
    }

    /// The server's `TIME` and so many milliseconds more, for tests that move a clock by hand. Keys still end by the
    /// server's own time.
    pub fn shifted(by: Arc<AtomicI64>) -> Self {
        Self(Some(by))
    }

    pub(crate) fn offset(&self) -> i64 {
        self.0.as_ref().map_or(0, |by| by.load(Ordering::SeqCst))
    }
}
