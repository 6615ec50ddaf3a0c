//! The table: shards of a mutex each, and the books kept about them.
//!
//! Locks are taken in this order and never the other way: room, shards by their number, one principal's count.
//! None is held across an await, since no step has one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use semel_core::identity::Secret;
use semel_core::record::{Fence, NotKept, PrincipalTag, RecordId, Timestamp};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::entry::{Entry, Weight};
use crate::owners::Owners;
use crate::watchers::Watchers;

/// A power of two, well above the number of cores that meet here.
const SHARDS: usize = 64;

pub(crate) struct Shards {
    parts: Box<[Mutex<Shard>]>,
    pub(crate) budget: Budget,
    pub(crate) owners: Owners,
    pub(crate) watchers: Watchers,
    pub(crate) clock: Clock,
    pub(crate) secret: Secret,
    /// Held by the one caller that makes room.
    pub(crate) room: Mutex<()>,
    fences: AtomicU64,
    completions: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) table: HashTable<Entry>,
    pub(crate) books: Books,
}

/// What is kept about a shard's records, beside them.
#[derive(Default)]
pub(crate) struct Books {
    /// Bytes of kept bodies: what dropping them all would free.
    pub(crate) bodies: u64,
    /// Whether the principals' counts include this shard.
    pub(crate) counting: bool,
    /// No record of the shard frees room by its age before this; it may be later than that.
    pub(crate) frees_at: Option<Timestamp>,
    /// Completions with a body, oldest first; some are gone or have lost their body since.
    pub(crate) oldest: VecDeque<(u64, RecordId)>,
}

/// The bytes of a record's id are a keyed hash already. Folding them keeps ids that a test made by hand apart.
pub(crate) fn hash(id: &RecordId) -> u64 {
    let mut folded = 0_u64;
    for word in id.as_bytes().chunks_exact(8) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        folded ^= u64::from_le_bytes(bytes);
    }
    let mixed = folded.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

impl Shards {
    pub(crate) fn new(max_bytes: u64, max_entries: usize, clock: Clock, secret: Secret) -> Self {
        // Below 2^53 until the year 2248, so that JSON readers who know only doubles read it right.
        let millis = u64::try_from(clock.now().as_millis()).unwrap_or(0);
        Self {
            parts: (0..SHARDS).map(|_| Mutex::default()).collect(),
            budget: Budget::new(max_bytes, max_entries),
            owners: Owners::default(),
            watchers: Watchers::default(),
            clock,
            secret,
            room: Mutex::new(()),
            fences: AtomicU64::new(millis.saturating_mul(1024)),
            completions: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table uses the lowest and the highest bits.
        let number = usize::try_from((hash >> 40) % 64).unwrap_or(0) % SHARDS;
        lock(&self.parts[number])
    }

    /// Each shard in turn.
    pub(crate) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.parts.iter().map(lock)
    }

    pub(crate) fn numbered(&self, number: usize) -> MutexGuard<'_, Shard> {
        lock(&self.parts[number % SHARDS])
    }

    pub(crate) fn next_fence(&self) -> Fence {
        loop {
            let last = self.fences.fetch_add(1, Ordering::Relaxed);
            if let Some(fence) = Fence::new(last.wrapping_add(1)) {
                return fence;
            }
        }
    }

    pub(crate) fn next_completion(&self) -> u64 {
        self.completions.fetch_add(1, Ordering::Relaxed)
    }

    /// The record, unless its life is over: then it is removed. What time did to it is written down.
    pub(crate) fn find<'a>(
        &self,
        shard: &'a mut Shard,
        hash: u64,
        id: &RecordId,
        now: Timestamp,
    ) -> Option<(&'a mut Entry, &'a mut Books)> {
        let Shard { table, books } = shard;
        let found = table.find_entry(hash, |entry| entry.id == *id).ok()?;
        if found.get().is_over(now) {
            let (entry, _) = found.remove();
            self.forget(books, &entry);
            return None;
        }
        let entry = found.into_mut();
        entry.lapse(now);
        if entry.body_is_over(now) {
            self.drop_body(books, entry, NotKept::Expired);
        }
        Some((entry, books))
    }

    /// Puts down that a record has been removed from the table.
    pub(crate) fn forget(&self, books: &mut Books, entry: &Entry) {
        let weight = entry.weight();
        self.budget.give_back(weight.total(), 1);
        books.bodies = books.bodies.saturating_sub(weight.body);
        if books.counting {
            self.owners.of(entry.principal).remove(weight);
        }
    }

    pub(crate) fn drop_body(&self, books: &mut Books, entry: &mut Entry, why: NotKept) {
        let before = entry.weight();
        entry.drop_body(why);
        self.budget.give_back(before.body, 0);
        self.books_body(books, entry.principal, before, entry.weight());
    }

    /// Puts down that a record's body has another weight.
    pub(crate) fn books_body(
        &self,
        books: &mut Books,
        owner: Option<PrincipalTag>,
        before: Weight,
        after: Weight,
    ) {
        if before.body == after.body {
            return;
        }
        books.bodies = books.bodies.saturating_sub(before.body).saturating_add(after.body);
        if books.counting {
            self.owners.of(owner).body(before.body, after.body);
        }
    }

    /// Starts to count what each principal keeps.
    pub(crate) fn count_owners(&self) {
        let mut shards: Vec<_> = self.each().collect();
        for shard in &mut shards {
            if !shard.books.counting {
                shard.books.counting = true;
                for entry in &shard.table {
                    self.owners.of(entry.principal).add(entry);
                }
            }
        }
    }
}

impl Books {
    /// Puts down when a record that was settled will free room.
    pub(crate) fn frees(&mut self, entry: &Entry) {
        if let Some(at) = entry.frees_at() {
            self.frees_at = Some(self.frees_at.map_or(at, |earliest| earliest.min(at)));
        }
    }

    /// Puts a completion into the queue of bodies.
    pub(crate) fn queue(&mut self, table: &HashTable<Entry>, order: u64, id: RecordId) {
        // What is gone is dropped before the queue is twice as long as the table.
        if self.oldest.len() > 2 * table.len() + 64 {
            self.oldest.retain(|(order, id)| holds_body(table, *order, id));
        }
        self.oldest.push_back((order, id));
    }
}

/// Whether this completion still keeps its body.
pub(crate) fn holds_body(table: &HashTable<Entry>, order: u64, id: &RecordId) -> bool {
    table.find(hash(id), |entry| entry.id == *id).is_some_and(|entry| entry.holds_body(order))
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic in the middle of a step is a bug; the other records are still worth more than a second panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
