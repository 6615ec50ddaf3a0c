//! Removing: what a sweep does, and what a full store gives up to take more.

use std::sync::PoisonError;

use semel_core::record::{NotKept, RecordId, Timestamp};
use semel_core::store::Swept;

use crate::budget::Reservation;
use crate::entry::Entry;
use crate::shard::{Books, Shard, Shards, hash, holds_body};

impl Shards {
    /// Does up to `limit` of the things that are due.
    pub(crate) fn sweep(&self, limit: usize) -> Swept {
        let now = self.now();
        let mut swept = Swept::default();
        let mut changed = Vec::new();
        for mut shard in self.each() {
            self.sweep_shard(&mut shard, limit, now, &mut swept, &mut changed);
            if swept.more {
                break;
            }
        }
        for id in changed {
            self.watchers.wake(&id);
        }
        swept
    }

    fn sweep_shard(
        &self,
        shard: &mut Shard,
        limit: usize,
        now: Timestamp,
        swept: &mut Swept,
        changed: &mut Vec<RecordId>,
    ) {
        let Shard { table, books } = shard;
        table.retain(|entry| {
            if swept.more {
                return true;
            }
            let Some(due) = Due::of(entry, now) else { return true };
            if swept.removed + swept.bodies + swept.unknown + swept.released >= limit {
                swept.more = true;
                return true;
            }
            match due {
                Due::Removal => {
                    swept.removed += 1;
                    self.forget(books, entry);
                }
                Due::Body => {
                    swept.bodies += 1;
                    self.drop_body(books, entry, NotKept::Expired);
                }
                Due::Lapse => {
                    swept.unknown += 1;
                    entry.lapse(now);
                    changed.push(entry.id);
                }
                Due::Release => {
                    swept.released += 1;
                    entry.release_unclaimed(now);
                    books.frees(entry);
                    changed.push(entry.id);
                }
            }
            due != Due::Removal
        });
    }

    /// Room for so much: first from what is over, then from the oldest bodies. `None`: there is none to be had.
    ///
    /// Bodies are dropped only if that brings enough, and never to make room for a record where it is records
    /// that are too many.
    pub(crate) fn make_room(&self, bytes: u64, entries: usize) -> Option<Reservation<'_>> {
        let _one_at_a_time = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_what_is_over();
        if let Some(room) = self.budget.reserve(bytes, entries) {
            return Some(room);
        }
        if self.budget.entries_are_full(entries) && entries > 0 {
            return None;
        }
        let bodies: u64 = self.each().map(|shard| shard.books.bodies).sum();
        if bodies < self.budget.lacks(bytes) {
            return None;
        }
        // Others reserve meanwhile, so it takes as many rounds as there are bodies at most.
        while self.drop_oldest_bodies(self.budget.lacks(bytes)) {
            if let Some(room) = self.budget.reserve(bytes, entries) {
                return Some(room);
            }
        }
        None
    }

    /// Removes every record and body whose life is over, in those shards where there may be one.
    pub(crate) fn remove_what_is_over(&self) {
        let now = self.now();
        for mut shard in self.each() {
            if shard.books.frees_at.is_none_or(|at| now < at) {
                continue;
            }
            let Shard { table, books } = &mut *shard;
            books.frees_at = None;
            table.retain(|entry| {
                if entry.is_over(now) {
                    self.forget(books, entry);
                    return false;
                }
                if entry.body_is_over(now) {
                    self.drop_body(books, entry, NotKept::Expired);
                }
                books.frees(entry);
                true
            });
        }
    }

    /// Drops bodies of the shard with the oldest one, as long as no other shard has an older one. Answers
    /// whether there was one.
    fn drop_oldest_bodies(&self, lacking: u64) -> bool {
        let mut oldest: Option<(u64, usize)> = None;
        let mut second = u64::MAX;
        for (number, mut shard) in self.each().enumerate() {
            let Some(order) = oldest_body(&mut shard) else { continue };
            match oldest {
                Some((first, _)) if order > first => second = second.min(order),
                _ => {
                    second = oldest.map_or(u64::MAX, |(first, _)| first);
                    oldest = Some((order, number));
                }
            }
        }
        let Some((_, number)) = oldest else { return false };
        let mut shard = self.numbered(number);
        let mut freed = 0;
        while let Some(order) = oldest_body(&mut shard).filter(|order| *order <= second && freed <= lacking) {
            let Shard { table, books } = &mut *shard;
            let Some((_, id)) = books.oldest.pop_front() else { break };
            if let Some(entry) = table.find_mut(hash(&id), |entry| entry.id == id && entry.holds_body(order))
            {
                freed += entry.weight().body;
                self.drop_body(books, entry, NotKept::NoRoom);
            }
            if freed >= lacking {
                break;
            }
        }
        true
    }
}

/// The front of a shard's queue, after what is gone was dropped from it.
fn oldest_body(shard: &mut Shard) -> Option<u64> {
    let Shard { table, books: Books { oldest, .. } } = shard;
    while let Some((order, id)) = oldest.front() {
        if holds_body(table, *order, id) {
            return Some(*order);
        }
        oldest.pop_front();
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Removal,
    Body,
    Lapse,
    Release,
}

impl Due {
    fn of(entry: &Entry, now: Timestamp) -> Option<Self> {
        if entry.is_over(now) {
            Some(Self::Removal)
        } else if entry.body_is_over(now) {
            Some(Self::Body)
        } else if entry.lapses(now) {
            Some(Self::Lapse)
        } else if entry.is_unclaimed(now) {
            Some(Self::Release)
        } else {
            None
        }
    }
}
