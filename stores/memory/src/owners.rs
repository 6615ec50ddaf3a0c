//! What each principal keeps, for quotas.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use semel_core::record::PrincipalTag;
use semel_core::store::Quota;

use crate::entry::{Entry, Weight};

/// Counted from the first claim that has a quota; until then a claim pays nothing for it.
#[derive(Default)]
pub(crate) struct Owners([Mutex<Part>; PARTS]);

const PARTS: usize = 16;

type Part = HashMap<Option<PrincipalTag>, Kept>;

#[derive(Clone, Copy, Default)]
struct Kept {
    records: u64,
    bytes: u64,
}

impl Owners {
    /// One principal's count. While it is held, no other claim of that principal is judged.
    pub(crate) fn of(&self, principal: Option<PrincipalTag>) -> Owner<'_> {
        let part = principal.map_or(0, |tag| usize::from(tag.as_bytes()[0]) % PARTS);
        Owner { part: self.0[part].lock().unwrap_or_else(PoisonError::into_inner), principal }
    }
}

pub(crate) struct Owner<'a> {
    part: MutexGuard<'a, Part>,
    principal: Option<PrincipalTag>,
}

impl Owner<'_> {
    pub(crate) fn is_over(&self, quota: Quota) -> bool {
        let kept = self.part.get(&self.principal).copied().unwrap_or_default();
        quota.records.is_some_and(|most| kept.records >= most)
            || quota.bytes.is_some_and(|most| kept.bytes >= most)
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        let kept = self.part.entry(self.principal).or_default();
        kept.records += 1;
        kept.bytes += entry.weight().body;
    }

    pub(crate) fn remove(&mut self, weight: Weight) {
        let Some(kept) = self.part.get_mut(&self.principal) else { return };
        kept.records = kept.records.saturating_sub(1);
        kept.bytes = kept.bytes.saturating_sub(weight.body);
        if kept.records == 0 {
            self.part.remove(&self.principal);
        }
    }

    pub(crate) fn body(&mut self, before: u64, after: u64) {
        if let Some(kept) = self.part.get_mut(&self.principal) {
            kept.bytes = kept.bytes.saturating_sub(before).saturating_add(after);
        }
    }
}
