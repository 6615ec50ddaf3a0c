//! The steps of the contract, each under one lock of one shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{
    Completion, NotKept, Record, RecordId, RecordView, Recovery, Retention, State, Timestamp,
};
use semel_core::store::{
    Begin, Begun, Delete, Deleted, Differs, LeaseRef, Page, Query, ReleaseAs, ReleaseBy, Resolution,
    Resolved, Settled, StoreError, StoreErrorKind, Verdict,
};

use crate::NAME;
use crate::entry::{Answer, ENTRY_BYTES, Entry, Phase, len, weigh};
use crate::shard::{Books, Shard, Shards, hash};

impl Shards {
    pub(crate) fn begin(&self, ask: &Begin) -> Result<Begun, StoreError> {
        let hash = hash(&ask.id);
        let bytes = ENTRY_BYTES + len(ask.settings.len());
        let mut room = None;
        let mut made_room = false;
        let mut swept_for_quota = false;
        loop {
            let now = self.now();
            let mut shard = self.shard(hash);
            if let Some((entry, books)) = self.find(&mut shard, hash, &ask.id, now) {
                return Ok(self.judge(entry, books, ask, now));
            }
            let Shard { table, books } = &mut *shard;
            if ask.quota.is_some() && !books.counting {
                drop(shard);
                self.count_owners();
                continue;
            }
            let mut owner = books.counting.then(|| self.owners.of(ask.principal));
            if ask.quota.is_some_and(|quota| owner.as_ref().is_some_and(|owner| owner.is_over(quota))) {
                drop(owner);
                drop(shard);
                if swept_for_quota {
                    return Ok(Begun::OverQuota);
                }
                // Records whose life is over do not count, whether or not a sweep has come by.
                swept_for_quota = true;
                self.remove_what_is_over();
                continue;
            }
            if ask.minted.is_some_and(|minted| now.since(minted) > ask.retention.record) {
                return Ok(Begun::Expired);
            }
            let Some(reserved) = room.take().or_else(|| self.budget.reserve(bytes, 1)) else {
                drop(owner);
                drop(shard);
                if made_room {
                    return Err(full());
                }
                made_room = true;
                room = self.make_room(bytes, 1);
                continue;
            };
            reserved.used();
            let entry = Entry::claimed(ask, self.next_fence(), now);
            if let Some(owner) = &mut owner {
                owner.add(&entry);
            }
            let acquired = entry.acquired();
            table.insert_unique(hash, entry, |entry| crate::shard::hash(&entry.id));
            return Ok(Begun::Acquired(acquired));
        }
    }

    /// The contract's table for a record that exists, row by row.
    fn judge(&self, entry: &mut Entry, books: &mut Books, ask: &Begin, now: Timestamp) -> Begun {
        let released = matches!(entry.phase, Phase::Released { .. });
        let same_principal = released || entry.principal == ask.principal;
        if entry.fingerprint.is_some_and(|print| print != ask.fingerprint || !same_principal) {
            return Begun::Differs(Differs {
                fingerprint: entry.fingerprint,
                settings: Arc::clone(&entry.settings),
                same_principal,
            });
        }
        match &entry.phase {
            Phase::Completed(_) => {
                if let Some(record) = entry.record(now) {
                    return Begun::Settled(record);
                }
            }
            Phase::Unknown { .. } => return Begun::Unknown(entry.view(now)),
            Phase::InFlight { lease_until, .. } if *lease_until > now => {
                if entry.claim != ask.claim {
                    return Begun::Held { remaining: lease_until.since(now) };
                }
                return Begun::Acquired(entry.acquired());
            }
            Phase::Released { .. } if entry.claim == ask.claim => return Begun::Stale,
            Phase::InFlight { .. } | Phase::Released { .. } => {}
        }
        let before = entry.weight();
        let previous = entry.principal;
        entry.claim_again(ask, self.next_fence(), now);
        self.reweigh(before.total(), entry.weight().total());
        if books.counting && previous != entry.principal {
            self.owners.of(previous).remove(before);
            self.owners.of(entry.principal).add(entry);
        }
        Begun::Acquired(entry.acquired())
    }

    pub(crate) fn renew(&self, lease: LeaseRef, lease_for: Duration) -> Settled {
        self.settle(&lease.id, |entry, _, now| {
            if entry.fence != lease.fence {
                return Step::Superseded;
            }
            match &mut entry.phase {
                Phase::InFlight { lease_until, .. } => {
                    // A late heartbeat with a shorter lease takes nothing back.
                    *lease_until = now.plus(lease_for).max(*lease_until);
                    Step::Applied
                }
                _ => Step::Superseded,
            }
        })
    }

    pub(crate) fn complete(
        &self,
        lease: LeaseRef,
        completion: &Arc<Completion>,
        keep: &Retention,
    ) -> Settled {
        let weight = weigh(completion);
        let hash = hash(&lease.id);
        let mut room = None;
        let mut made_room = false;
        loop {
            let now = self.now();
            let mut shard = self.shard(hash);
            let Some((entry, books)) = self.find(&mut shard, hash, &lease.id, now) else {
                return Settled::Absent;
            };
            if entry.fence != lease.fence {
                return Settled::Superseded(Box::new(entry.view(now)));
            }
            match entry.phase {
                Phase::InFlight { .. } | Phase::Unknown { .. } => {}
                Phase::Completed(_) => return Settled::Applied,
                Phase::Released { .. } => return Settled::Superseded(Box::new(entry.view(now))),
            }
            // The body's room is asked for; the rest is taken, for a completion is never refused.
            if room.is_none() && weight.body > 0 && !made_room {
                room = self.budget.reserve(weight.body, 0);
                if room.is_none() {
                    drop(shard);
                    made_room = true;
                    room = self.make_room(weight.body, 0);
                    continue;
                }
            }
            let mut answer = Answer::new(Arc::clone(completion), keep, self.next_completion(), now);
            if room.is_none() && weight.body > 0 {
                answer.drop_body(NotKept::NoRoom);
            }
            if let Some(room) = room.take() {
                room.used();
            }
            self.settle_as_completed(entry, books, answer, now);
            let queued = entry.queued();
            let Shard { table, books } = &mut *shard;
            if let Some((order, id)) = queued {
                books.queue(table, order, id);
            }
            drop(shard);
            self.watchers.wake(&lease.id);
            return Settled::Applied;
        }
    }

    /// The one transition into completed. The body's room is reserved already.
    fn settle_as_completed(&self, entry: &mut Entry, books: &mut Books, answer: Answer, now: Timestamp) {
        let before = entry.weight();
        entry.progress = None;
        entry.changed = now;
        entry.phase = Phase::Completed(answer);
        let after = entry.weight();
        self.reweigh(before.rest, after.rest);
        self.books_body(books, entry.principal, before, after);
        books.frees(entry);
    }

    pub(crate) fn release(&self, by: ReleaseBy, how: ReleaseAs, keep: &Retention) -> Settled {
        let id = match by {
            ReleaseBy::Lease(lease) => lease.id,
            ReleaseBy::Claim(id, _) => id,
        };
        self.settle(&id, |entry, books, now| {
            let its_own = match by {
                ReleaseBy::Lease(lease) => entry.fence == lease.fence,
                ReleaseBy::Claim(_, claim) => entry.claim == claim,
            };
            match entry.phase {
                Phase::InFlight { .. } | Phase::Unknown { .. } if its_own => {
                    let before = entry.weight().total();
                    entry.release(how, keep.released, now);
                    self.reweigh(before, entry.weight().total());
                    books.frees(entry);
                    Step::Changed
                }
                Phase::Released { .. } if its_own => Step::Applied,
                _ => Step::Superseded,
            }
        })
    }

    pub(crate) fn abandon(&self, lease: LeaseRef) -> Settled {
        self.settle(&lease.id, |entry, _, now| {
            if entry.fence != lease.fence {
                return Step::Superseded;
            }
            match (&entry.phase, entry.recovery) {
                (Phase::InFlight { lease_until, .. }, Recovery::Hold) => {
                    entry.phase = Phase::Unknown { lease_until: *lease_until };
                    entry.changed = now;
                    Step::Changed
                }
                (Phase::InFlight { .. }, Recovery::Takeover) | (Phase::Unknown { .. }, _) => Step::Applied,
                (Phase::Completed(_) | Phase::Released { .. }, _) => Step::Superseded,
            }
        })
    }

    pub(crate) fn note(&self, lease: LeaseRef, progress: &Bytes) -> Result<Settled, StoreError> {
        // Asked for before the lock, since making room needs other locks; what is not used is given back.
        let bytes = len(progress.len());
        let Some(room) = self.budget.reserve(bytes, 0).or_else(|| self.make_room(bytes, 0)) else {
            return Err(full());
        };
        let mut room = Some(room);
        Ok(self.settle(&lease.id, |entry, _, _| {
            if entry.fence != lease.fence || !matches!(entry.phase, Phase::InFlight { .. }) {
                return Step::Superseded;
            }
            if let Some(room) = room.take() {
                room.used();
            }
            let before = entry.progress.replace(progress.clone());
            self.budget.give_back(before.map_or(0, |old| len(old.len())), 0);
            Step::Applied
        }))
    }

    pub(crate) fn inspect(&self, id: &RecordId) -> Option<RecordView> {
        let now = self.now();
        let hash = hash(id);
        self.find(&mut self.shard(hash), hash, id, now).map(|(entry, _)| entry.view(now))
    }

    pub(crate) fn read(&self, id: &RecordId) -> Option<Record> {
        let now = self.now();
        let hash = hash(id);
        self.find(&mut self.shard(hash), hash, id, now).and_then(|(entry, _)| entry.record(now))
    }

    pub(crate) fn list(&self, query: &Query) -> Page {
        let now = self.now();
        // One more than asked for tells whether there are more.
        let most = query.limit.saturating_add(1);
        let mut first: BTreeMap<RecordId, RecordView> = BTreeMap::new();
        for mut shard in self.each() {
            for entry in &mut shard.table {
                entry.lapse(now);
                let wanted = !entry.is_over(now)
                    && query.state.is_none_or(|state| state == entry.state())
                    && query.after.is_none_or(|after| entry.id > after);
                if !wanted {
                    continue;
                }
                let full = first.len() >= most;
                if full && first.last_key_value().is_some_and(|(last, _)| entry.id > *last) {
                    continue;
                }
                first.insert(entry.id, entry.view(now));
                if full {
                    first.pop_last();
                }
            }
        }
        let more = first.len() > query.limit;
        if more {
            first.pop_last();
        }
        let records: Vec<_> = first.into_values().collect();
        let next = records.last().map(|view| view.id).filter(|_| more);
        Page { records, next }
    }

    pub(crate) fn resolve(&self, id: &RecordId, resolution: &Resolution) -> Resolved {
        let now = self.now();
        let hash = hash(id);
        let mut shard = self.shard(hash);
        let Some((entry, books)) = self.find(&mut shard, hash, id, now) else { return Resolved::Absent };
        if entry.resolved == Some(resolution.op) {
            return Resolved::Applied(Box::new(entry.view(now)));
        }
        let expected = resolution.expect.is_none_or(|fence| fence == entry.fence);
        if !matches!(entry.phase, Phase::Unknown { .. }) || !expected {
            return Resolved::Refused(Box::new(entry.view(now)));
        }
        entry.fence = self.next_fence();
        entry.resolved = Some(resolution.op);
        match &resolution.verdict {
            Verdict::Applied(completion) => {
                let mut answer =
                    Answer::new(Arc::clone(completion), &resolution.retention, self.next_completion(), now);
                match self.budget.reserve(answer.weight.body, 0) {
                    Some(room) => room.used(),
                    None => answer.drop_body(NotKept::NoRoom),
                }
                self.settle_as_completed(entry, books, answer, now);
            }
            Verdict::NotApplied => {
                entry.release(ReleaseAs::Retry, resolution.retention.released, now);
                books.frees(entry);
            }
        }
        let view = entry.view(now);
        let queued = entry.queued();
        let Shard { table, books } = &mut *shard;
        if let Some((order, id)) = queued {
            books.queue(table, order, id);
        }
        drop(shard);
        self.watchers.wake(id);
        Resolved::Applied(Box::new(view))
    }

    pub(crate) fn delete(&self, id: &RecordId, which: Delete) -> Deleted {
        let now = self.now();
        let hash = hash(id);
        let mut shard = self.shard(hash);
        let Some((entry, _)) = self.find(&mut shard, hash, id, now) else { return Deleted::Absent };
        let settled = matches!(entry.state(), State::Completed | State::Released);
        if which == Delete::Settled && !settled {
            return Deleted::Refused(Box::new(entry.view(now)));
        }
        let Shard { table, books } = &mut *shard;
        if let Ok(found) = table.find_entry(hash, |entry| entry.id == *id) {
            let (entry, _) = found.remove();
            self.forget(books, &entry);
        }
        drop(shard);
        self.watchers.wake(id);
        Deleted::Gone
    }

    fn settle(&self, id: &RecordId, step: impl FnOnce(&mut Entry, &mut Books, Timestamp) -> Step) -> Settled {
        let now = self.now();
        let hash = hash(id);
        let mut shard = self.shard(hash);
        let Some((entry, books)) = self.find(&mut shard, hash, id, now) else { return Settled::Absent };
        match step(entry, books, now) {
            Step::Applied => Settled::Applied,
            Step::Superseded => Settled::Superseded(Box::new(entry.view(now))),
            Step::Changed => {
                drop(shard);
                self.watchers.wake(id);
                Settled::Applied
            }
        }
    }

    fn reweigh(&self, before: u64, after: u64) {
        if after > before {
            self.budget.take(after - before, 0).used();
        } else {
            self.budget.give_back(before - after, 0);
        }
    }
}

/// What a settling step did to its record.
enum Step {
    /// Nothing that a waiter waits for.
    Applied,
    /// It changed state: waiters are woken.
    Changed,
    Superseded,
}

fn full() -> StoreError {
    StoreError::new(
        NAME,
        StoreErrorKind::Full,
        "no room for another record; raise max_bytes or max_entries, or use a store on disk",
    )
}
