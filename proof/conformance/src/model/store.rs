//! All keys of a store: what spans them is the clock, quotas, lists and sweeps.

use std::collections::BTreeMap;
use std::time::Duration;

use semel_core::record::{PrincipalTag, RecordId, RecordView, State};
use semel_core::store::{Begin, Quotas, Swept};

use super::answer::{Refusal, Room, demanded};
use super::{Answer, Call, Clock, Slot};

/// A store as the contract has it, while nobody else uses it.
#[derive(Clone, Debug)]
pub struct Model {
    clock: Clock,
    quotas: Quotas,
    slots: BTreeMap<RecordId, Slot>,
}

impl Model {
    /// An empty store, whose clock shows this, and whose quotas count these records.
    pub const fn new(clock: Clock, quotas: Quotas) -> Self {
        Self { clock, quotas, slots: BTreeMap::new() }
    }

    /// Its time.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Moves its time.
    pub fn advance(&mut self, by: Duration) {
        self.clock.millis = self.clock.after(by);
        for slot in self.slots.values_mut() {
            slot.advance(by);
        }
    }

    /// Judges what a store answered to a call, and follows it.
    pub fn answered(&mut self, call: &Call, answer: &Answer) -> Result<(), Refusal> {
        let room = if let Call::Begin(ask) = call { self.room(ask) } else { Room::Enough };
        let slot = self.slots.entry(call.id()).or_insert_with(|| Slot::new(self.clock));
        let mut after = slot.after(call, Some(answer), room)?;
        if let Some(after) = after.pop() {
            *slot = after;
        }
        Ok(())
    }

    /// Judges a whole list: all records in this state, in the order of their ids, and each as it is.
    pub fn listed(&mut self, state: Option<State>, views: &[RecordView]) -> Result<(), Refusal> {
        let wanted: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.state().is_some_and(|is| state.is_none_or(|state| state == is)))
            .map(|(id, _)| *id)
            .collect();
        let listed: Vec<_> = views.iter().map(|view| view.id).collect();
        if wanted != listed {
            return Err(demanded(&format!("the list {wanted:?}")));
        }
        for view in views {
            if let Some(slot) = self.slots.get_mut(&view.id) {
                slot.shows(view)?;
            }
        }
        Ok(())
    }

    /// Judges sweeps that went on until nothing was left to do, added up. A store may have removed, dropped or written
    /// down by the way what a sweep would have, so of these it may count fewer; `gone` is how many records a store may
    /// have to remove that are absent already.
    pub fn swept(&mut self, swept: &Swept, gone: usize) -> Result<(), Refusal> {
        let released = self.slots.values_mut().map(Slot::sweep).filter(|released| *released).count();
        if swept.released != released {
            return Err(demanded(&format!("{released} released takeovers")));
        }
        let most = Swept {
            removed: gone,
            bodies: self.slots.values().filter(|slot| slot.state() == Some(State::Completed)).count(),
            unknown: self.slots.values().filter(|slot| slot.state() == Some(State::Unknown)).count(),
            released,
            more: false,
        };
        if swept.removed > most.removed || swept.bodies > most.bodies || swept.unknown > most.unknown {
            return Err(demanded(&format!("at most {most:?}")));
        }
        Ok(())
    }

    /// How many keys have a record.
    pub fn records(&self) -> usize {
        self.slots.values().filter(|slot| slot.kept.is_some()).count()
    }

    /// Every key that was ever used.
    pub fn ids(&self) -> impl Iterator<Item = RecordId> + '_ {
        self.slots.keys().copied()
    }

    fn room(&self, ask: &Begin) -> Room {
        let Some(quota) = ask.quota else { return Room::Enough };
        let (sure, perhaps) = (self.keeps(ask.principal, false), self.keeps(ask.principal, true));
        let over = |kept: (u64, u64)| {
            quota.records.is_some_and(|most| kept.0 >= most) || quota.bytes.is_some_and(|most| kept.1 >= most)
        };
        match (over(sure), over(perhaps)) {
            (true, _) => Room::None,
            (false, true) => Room::Perhaps,
            (false, false) => Room::Enough,
        }
    }

    /// Records and bytes of kept bodies of a principal: those that count in any store, or those that may count in some.
    /// A record that is bound to nothing may count for its last principal or for none at all.
    fn keeps(&self, principal: Option<PrincipalTag>, perhaps: bool) -> (u64, u64) {
        let kept = self.slots.values().filter_map(|slot| slot.kept.as_ref());
        kept.filter(|kept| {
            let bound = kept.fingerprint.is_some();
            let may = kept.principal == principal || !bound && principal.is_none();
            may && (perhaps || bound && (kept.limited || self.quotas == Quotas::All))
        })
        .fold((0, 0), |(records, bytes), kept| (records + 1, bytes + kept.body_bytes(self.clock)))
    }
}
