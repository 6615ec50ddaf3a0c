//! The work that time brings.

use std::time::Duration;

use semel_core::record::{Recovery, State, Timestamp};
use semel_core::store::Swept;
use semel_store_kit::drop_body;

use crate::error::Fault;
use crate::row::Row;
use crate::tx::Tx;

/// At most so many records are looked at by one sweep: the writer has other callers.
const ROWS: usize = 1024;

pub(crate) fn sweep(tx: &mut Tx<'_, '_>, limit: usize) -> Result<Swept, Fault> {
    let limit = limit.min(ROWS);
    let rows = tx.due(limit + 1)?;
    let mut swept = Swept { more: rows.len() > limit, ..Swept::default() };
    for row in rows.into_iter().take(limit) {
        sweep_one(tx, row, &mut swept)?;
    }
    Ok(swept)
}

fn sweep_one(tx: &mut Tx<'_, '_>, mut row: Row, swept: &mut Swept) -> Result<(), Fault> {
    match (row.record.written, row.record.recovery) {
        (State::Completed | State::Released, _) if row.record.is_over(tx.now) => {
            tx.delete(&row)?;
            swept.removed += 1;
        }
        (State::Completed, _) => {
            row.record.body_until = None;
            match tx.completion(&row)?.and_then(drop_body) {
                Some(blob) => {
                    row.record.body_bytes = 0;
                    tx.settle(&row, Some(&blob), None)?;
                    swept.bodies += 1;
                }
                // Damaged, or newer than this program: left as it is until the record's life is over.
                None => tx.save(&row)?,
            }
        }
        (State::InFlight, Recovery::Hold) => {
            row.end_lease();
            tx.save(&row)?;
            swept.unknown += 1;
        }
        (State::InFlight, Recovery::Takeover) => {
            row.record.written = State::Released;
            row.record.changed = tx.now;
            row.record.lease_until = None;
            row.record.expires = Some(released_until(tx.now, &row));
            tx.settle(&row, None, None)?;
            swept.released += 1;
        }
        (State::Released | State::Unknown, _) => {}
    }
    Ok(())
}

fn released_until(now: Timestamp, row: &Row) -> Timestamp {
    now.plus(Duration::from_millis(u64::try_from(row.released_life).unwrap_or(0)))
}
