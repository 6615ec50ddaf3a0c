//! Whether a recorded history of one key has an order that explains it.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993), with the memory of Lowe
//! ("Testing for linearizability", 2017): calls are put one behind the other, none before one that had returned when it
//! was sent, and the [`model`](crate::model) says which answers fit. A set of calls that led to the same key before is
//! not tried again. A call whose answer was lost may come at any time after it was sent, or never.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::model::{Answer, Call, Clock, Refusal, Room, Slot};

/// A call of a history, with when it was sent and when its answer came, by a counter that only grows.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "histories are also written down by hand")]
pub struct Event {
    /// Which of the callers sent it.
    pub caller: usize,
    /// When it was sent.
    pub sent: u64,
    /// When its answer came; `None`: it was lost, and the call may take effect at any later time, or never.
    pub returned: Option<u64>,
    /// What it was.
    pub what: What,
}

/// What happens to a key.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "histories are also written down by hand")]
#[expect(clippy::large_enum_variant, reason = "nearly all events are calls")]
pub enum What {
    /// A call on the record; no answer if it was lost.
    Call(Call, Option<Answer>),
    /// A sweep of the store. It may have come to this key, or have stopped before.
    Sweep,
    /// Time passes, for all.
    Advance(Duration),
}

/// Why no order explains a history.
#[derive(Debug)]
pub struct Unexplained {
    text: String,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The most calls a history may have.
pub const MOST_EVENTS: usize = 128;

/// How many different situations are looked at before the search is given up, which is a failure.
const MOST_SITUATIONS: usize = 2_000_000;

/// Looks for an order of the events of one key, from a key that was never used, that the model allows.
///
/// # Errors
///
/// The text shows the longest order that was found, and why none of the calls that could be next fits.
pub fn explain(start: Clock, events: &[Event]) -> Result<(), Unexplained> {
    if events.len() > MOST_EVENTS {
        return Err(Unexplained { text: format!("{} events, of at most {MOST_EVENTS}", events.len()) });
    }
    let mut search = Search {
        events,
        answered: 0,
        seen: HashSet::new(),
        order: Vec::new(),
        longest: Vec::new(),
        refused: Vec::new(),
    };
    for (at, event) in events.iter().enumerate() {
        if event.returned.is_some() {
            search.answered |= 1 << at;
        }
    }
    if search.go_on(0, &Slot::new(start)) { Ok(()) } else { Err(search.unexplained()) }
}

struct Search<'a> {
    events: &'a [Event],
    /// The events that have to be explained, by their place.
    answered: u128,
    /// Sets of placed events, and what the key was after them.
    seen: HashSet<(u128, Slot)>,
    order: Vec<usize>,
    longest: Vec<usize>,
    /// What did not fit after the longest order.
    refused: Vec<(usize, Refusal)>,
}

impl Search<'_> {
    fn go_on(&mut self, placed: u128, slot: &Slot) -> bool {
        if placed & self.answered == self.answered {
            return true;
        }
        if self.seen.len() > MOST_SITUATIONS || !self.seen.insert((placed, slot.clone())) {
            return false;
        }
        if self.order.len() > self.longest.len() {
            self.longest.clone_from(&self.order);
            self.refused.clear();
        }
        let open = |at: &usize| placed & (1 << at) == 0;
        let candidates: Vec<usize> = (0..self.events.len()).filter(open).collect();
        // Nothing may come before what had returned when it was sent.
        let first_return =
            candidates.iter().filter_map(|at| self.events[*at].returned).min().unwrap_or(u64::MAX);
        for at in candidates {
            let event = &self.events[at];
            if event.sent > first_return {
                continue;
            }
            match next(slot, &event.what) {
                Ok(after) => {
                    for after in after {
                        // A lost call that changes nothing is the same as one that never came.
                        if event.returned.is_none() && after == *slot {
                            continue;
                        }
                        self.order.push(at);
                        if self.go_on(placed | 1 << at, &after) {
                            return true;
                        }
                        self.order.pop();
                    }
                }
                Err(refusal) if self.order == self.longest => self.refused.push((at, refusal)),
                Err(_) => {}
            }
        }
        false
    }

    fn unexplained(&self) -> Unexplained {
        let mut lines = Vec::new();
        if self.seen.len() > MOST_SITUATIONS {
            lines.push("given up, not decided".to_owned());
        }
        lines.push(format!("{} of {} calls have an order:", self.longest.len(), self.events.len()));
        lines.extend(self.longest.iter().map(|at| told(&self.events[*at])));
        lines.push("after which none of these fits:".to_owned());
        for (at, refusal) in &self.refused {
            lines.push(format!("{}\n      {refusal}", told(&self.events[*at])));
        }
        lines.push("all that happened:".to_owned());
        lines.extend(self.events.iter().map(told));
        Unexplained { text: lines.join("\n") }
    }
}

fn next(slot: &Slot, what: &What) -> Result<Vec<Slot>, Refusal> {
    match what {
        What::Call(call, answer) => slot.after(call, answer.as_ref(), Room::Enough),
        What::Sweep => {
            let mut swept = slot.clone();
            Ok(if swept.sweep() { vec![swept, slot.clone()] } else { vec![slot.clone()] })
        }
        What::Advance(by) => {
            let mut later = slot.clone();
            later.advance(*by);
            Ok(vec![later])
        }
    }
}

fn told(event: &Event) -> String {
    let Event { caller, sent, returned, what } = event;
    let returned = returned.map_or_else(|| "  lost".to_owned(), |returned| format!("{returned:>6}"));
    let what = match what {
        What::Call(call, Some(answer)) => format!("{call:?}\n                        -> {answer:?}"),
        What::Call(call, None) => format!("{call:?}"),
        What::Sweep => "sweep".to_owned(),
        What::Advance(by) => format!("{by:?} pass"),
    };
    format!("  {sent:>6}..{returned} by {caller}: {what}")
}
