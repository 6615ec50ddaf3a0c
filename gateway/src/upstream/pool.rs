//! Idle connections to the application: last in, first out, bounded in number and age.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A stack of idle connections of one worker.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    idle: Mutex<VecDeque<(Instant, C)>>,
    capacity: usize,
    max_idle: Duration,
}

impl<C> Pool<C> {
    pub(crate) fn new(capacity: usize, max_idle: Duration) -> Self {
        Self { idle: Mutex::new(VecDeque::new()), capacity, max_idle }
    }

    /// The connection that was used last, if it is not too old.
    pub(crate) fn take(&self) -> Option<C> {
        let mut idle = self.lock();
        let (since, connection) = idle.pop_back()?;
        if since.elapsed() < self.max_idle {
            return Some(connection);
        }
        // All others are older.
        let old = std::mem::take(&mut *idle);
        drop(idle);
        drop((connection, old));
        None
    }

    /// Keeps a connection; when full, the one that has been idle longest makes room.
    pub(crate) fn put(&self, connection: C) {
        if self.capacity == 0 {
            return;
        }
        let mut idle = self.lock();
        let dropped = if idle.len() >= self.capacity { idle.pop_front() } else { None };
        idle.push_back((Instant::now(), connection));
        drop(idle);
        drop(dropped);
    }

    /// Closes what is too old.
    pub(crate) fn reap(&self) {
        let mut old = Vec::new();
        let mut idle = self.lock();
        while idle.front().is_some_and(|(since, _)| since.elapsed() >= self.max_idle) {
            old.extend(idle.pop_front());
        }
        drop(idle);
    }

    pub(crate) fn max_idle(&self) -> Duration {
        self.max_idle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, C)>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_back_is_the_first_one_out_and_the_oldest_makes_room() {
        let pool = Pool::new(2, Duration::from_mins(1));
        for connection in 1..=3 {
            pool.put(connection);
        }
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(3), Some(2), None]);
    }

    /// An application that closes after 5 s must never meet a connection older than that.
    #[test]
    fn nothing_too_old_comes_out() {
        let pool = Pool::new(2, Duration::ZERO);
        pool.put(1);
        assert_eq!(pool.take(), None);
        pool.put(2);
        pool.reap();
        assert!(pool.lock().is_empty());
    }
}
