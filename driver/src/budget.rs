//! What may be under way at once: bytes, runs, and claims of one peer. Judged before any claim.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A request extension by which a host names the peer, so that one peer cannot take every place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a name for an address")]
pub struct Peer(pub IpAddr);

/// The limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) runs: usize,
    pub(crate) detached: usize,
    pub(crate) per_peer: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 * 1024 * 1024, runs: 10_000, detached: 1_000, per_peer: None }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Budget {
    limits: Limits,
    bytes: AtomicUsize,
    runs: AtomicUsize,
    detached: AtomicUsize,
    // Bounded: an entry lives while its peer has a place, and places are bounded by `runs`.
    peers: Mutex<HashMap<IpAddr, usize>>,
    idle: tokio::sync::Notify,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Peer,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes a place for a request with a body of up to `bytes`.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize, peer: Option<IpAddr>) -> Result<Place, Refused> {
        // Each part is given back by `Place` if a later one is refused.
        let mut place = Place { budget: Arc::clone(self), bytes: 0, peer: None };
        if self.runs.fetch_add(1, Ordering::Relaxed) >= self.limits.runs
            || self.detached.load(Ordering::Relaxed) >= self.limits.detached
        {
            return Err(Refused::Full);
        }
        place.bytes = bytes;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.limits.bytes {
            return Err(Refused::Full);
        }
        if let (Some(limit), Some(peer)) = (self.limits.per_peer, peer) {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked up before it is entered: a refusal leaves no entry behind.
            if peers.get(&peer).copied().unwrap_or(0) >= limit {
                return Err(Refused::Peer);
            }
            *peers.entry(peer).or_insert(0) += 1;
            place.peer = Some(peer);
        }
        Ok(place)
    }

    /// Requests under way: being read, claimed, run or settled.
    pub(crate) fn running(&self) -> usize {
        self.runs.load(Ordering::Acquire)
    }

    /// Runs whose client has gone.
    pub(crate) fn detached(&self) -> usize {
        self.detached.load(Ordering::Relaxed)
    }

    /// Waits until nothing is under way.
    pub(crate) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            // Registered before looking, so that the last place given back between the two is not missed.
            idle.as_mut().enable();
            if self.running() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place {
    budget: Arc<Budget>,
    bytes: usize,
    peer: Option<IpAddr>,
}

impl Place {
    /// Gives back what was reserved and is not needed: the body turned out smaller.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.budget.bytes.fetch_sub(surplus, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(peer) = self.peer {
            let mut peers = self.budget.peers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(taken) = peers.get_mut(&peer) {
                *taken -= 1;
                if *taken == 0 {
                    peers.remove(&peer);
                }
            }
        }
        if self.budget.runs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.budget.idle.notify_waiters();
        }
    }
}

/// A run whose client has gone, counted until it ends.
#[derive(Debug)]
pub(crate) struct Detached(Arc<Budget>);

impl Detached {
    pub(crate) fn count(budget: &Arc<Budget>) -> Self {
        budget.detached.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(budget))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.detached.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limits: Limits) -> Arc<Budget> {
        Arc::new(Budget::new(limits))
    }

    // A refused request once kept the places it had taken before the refusal, until nothing was admitted.
    #[test]
    fn a_refusal_gives_back_what_it_took() {
        let budget = budget(Limits { bytes: 10, ..Limits::default() });
        for _ in 0..3 {
            assert_eq!(budget.take(11, None).err(), Some(Refused::Full));
        }
        assert_eq!(budget.running(), 0);
        assert!(budget.take(10, None).is_ok());
    }

    #[test]
    fn one_peer_cannot_take_every_place() {
        let budget = budget(Limits { per_peer: Some(1), ..Limits::default() });
        let peer = |last| Some(IpAddr::from([127, 0, 0, last]));
        let first = budget.take(0, peer(1));
        assert!(first.is_ok());
        assert_eq!(budget.take(0, peer(1)).err(), Some(Refused::Peer));
        assert!(budget.take(0, peer(2)).is_ok());
        drop(first);
        assert!(budget.take(0, peer(1)).is_ok());
        assert!(budget.peers.lock().unwrap().is_empty());
    }

    // A limit of none once kept an entry for every address that was ever refused.
    #[test]
    fn a_refused_peer_leaves_no_entry_behind() {
        let budget = budget(Limits { per_peer: Some(0), ..Limits::default() });
        assert_eq!(budget.take(0, Some(IpAddr::from([127, 0, 0, 1]))).err(), Some(Refused::Peer));
        assert!(budget.peers.lock().unwrap().is_empty());
    }
}
