//! What there is room for: bytes and records, reserved before they are used.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicU64,
    entries: AtomicUsize,
    max_bytes: u64,
    max_entries: usize,
}

impl Budget {
    pub(crate) fn new(max_bytes: u64, max_entries: usize) -> Self {
        Self { bytes: AtomicU64::new(0), entries: AtomicUsize::new(0), max_bytes, max_entries }
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Room for so much, or `None` and nothing changed.
    pub(crate) fn reserve(&self, bytes: u64, entries: usize) -> Option<Reservation<'_>> {
        let reservation = self.take(bytes, entries);
        let fits = (bytes == 0 || self.bytes() <= self.max_bytes)
            && (entries == 0 || self.entries() <= self.max_entries);
        fits.then_some(reservation)
    }

    /// Room for what must not be refused, whatever the bounds say.
    pub(crate) fn take(&self, bytes: u64, entries: usize) -> Reservation<'_> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if entries > 0 {
            self.entries.fetch_add(entries, Ordering::Relaxed);
        }
        Reservation { budget: self, bytes, entries }
    }

    pub(crate) fn give_back(&self, bytes: u64, entries: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if entries > 0 {
            self.entries.fetch_sub(entries, Ordering::Relaxed);
        }
    }

    pub(crate) fn entries_are_full(&self, more: usize) -> bool {
        self.entries().saturating_add(more) > self.max_entries
    }

    /// By how much the bytes are too many for `more`.
    pub(crate) fn lacks(&self, more: u64) -> u64 {
        self.bytes().saturating_add(more).saturating_sub(self.max_bytes)
    }
}

/// Room that is given back unless it is used.
#[must_use]
pub(crate) struct Reservation<'a> {
    budget: &'a Budget,
    bytes: u64,
    entries: usize,
}

impl Reservation<'_> {
    /// From now on the record that takes the room answers for it.
    pub(crate) fn used(mut self) {
        self.bytes = 0;
        self.entries = 0;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, self.entries);
    }
}
