//! The steps. Each looks first and writes once, so that a step that is refused has changed nothing.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use semel_core::record::{
    ClaimId, Completion, Fence, NotKept, RecordId, Recovery, Retention, State, StoredBody, Timestamp, codec,
};
use semel_core::store::{
    Acquired, Begin, Begun, Delete, Deleted, Differs, Lease, LeaseRef, Page, Query, ReleaseAs, ReleaseBy,
    Resolved, Settled,
};

use crate::error::Fault;
use crate::row::Row;
use crate::tx::Tx;

/// At most so many rows are looked at by one `list`: the writer has other callers.
const LIST_ROWS: usize = 4096;

/// A completed record whose answer is still in one piece: the caller decodes it on its own time.
pub(crate) struct Sealed {
    pub(crate) row: Row,
    pub(crate) blob: Option<Vec<u8>>,
    pub(crate) now: Timestamp,
}

/// A claim's answer.
pub(crate) enum Claimed {
    Settled(Sealed),
    Begun(Begun),
}

/// A completion as it is written, made before it gets in line.
pub(crate) struct Encoded {
    blob: Vec<u8>,
    status: Option<StatusCode>,
    body_bytes: Option<u64>,
}

impl Encoded {
    pub(crate) fn new(completion: &Completion) -> Self {
        let body_bytes = completion.response.as_ref().and_then(|response| match &response.body {
            StoredBody::Kept(body) => Some(body.len() as u64),
            StoredBody::NotKept(_) => None,
        });
        let status = completion.response.as_ref().map(|response| response.status);
        Self { blob: codec::encode(completion), status, body_bytes }
    }

    /// Of the kept body; 0 if there is none.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes.unwrap_or(0)
    }
}

pub(crate) fn begin(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>) -> Result<Claimed, Fault> {
    let begun = match tx.find(&ask.id)? {
        None => fresh(tx, ask, request, None)?,
        Some(row) if row.is_over(tx.now) => fresh(tx, ask, request, Some(row.n))?,
        Some(row) if row.written == State::Released && row.fingerprint.is_none() => {
            if row.claim == ask.claim { Begun::Stale } else { take_new(tx, ask, request, Some(row.n))? }
        }
        Some(row) => return known(tx, ask, request, row),
    };
    Ok(Claimed::Begun(begun))
}

fn fresh(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    place: Option<i64>,
) -> Result<Begun, Fault> {
    if let Some(quota) = ask.quota {
        let (records, bytes) = tx.kept_by(ask.principal.as_ref().map(|tag| &tag.as_bytes()[..]))?;
        if quota.records.is_some_and(|most| records >= most) || quota.bytes.is_some_and(|most| bytes >= most)
        {
            return Ok(Begun::OverQuota);
        }
    }
    if ask.minted.is_some_and(|minted| tx.now.since(minted) > ask.retention.record) {
        return Ok(Begun::Expired);
    }
    take_new(tx, ask, request, place)
}

/// A first attempt, in the row that nobody needs any more or in a new one.
fn take_new(
    tx: &mut Tx<'_, '_>,
    ask: &Begin,
    request: Option<&[u8]>,
    place: Option<i64>,
) -> Result<Begun, Fault> {
    let row = Row {
        n: place.unwrap_or(0),
        id: ask.id,
        written: State::InFlight,
        recovery: ask.recovery,
        attempt: 1,
        fence: tx.next_fence()?,
        claim: ask.claim,
        op: None,
        fingerprint: Some(ask.fingerprint),
        settings: ask.settings.clone(),
        principal: ask.principal,
        created: tx.now,
        changed: tx.now,
        lease_until: Some(tx.now.plus(ask.lease_for)),
        expires: None,
        body_until: None,
        life: millis(ask.retention.record),
        released_life: millis(ask.retention.released),
        status: None,
        body_bytes: 0,
        progress: None,
    };
    match place {
        None => tx.insert(&row, request)?,
        Some(_) => tx.settle(&row, None, request)?,
    }
    Ok(acquired(row))
}

fn known(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>, mut row: Row) -> Result<Claimed, Fault> {
    let now = tx.now;
    let same_principal = row.written == State::Released || row.principal == ask.principal;
    if row.fingerprint != Some(ask.fingerprint) || !same_principal {
        return Ok(Claimed::Begun(Begun::Differs(Differs {
            fingerprint: row.fingerprint,
            settings: row.settings,
            same_principal,
        })));
    }
    let begun = match row.state_at(now) {
        State::Completed => {
            let blob = tx.completion(&row)?;
            return Ok(Claimed::Settled(Sealed { row, blob, now }));
        }
        State::Unknown => {
            if row.written == State::InFlight {
                row.end_lease();
                tx.save(&row)?;
            }
            Begun::Unknown(row.view(now))
        }
        State::InFlight if row.lease_over(now) => retake(tx, ask, request, row)?,
        State::InFlight if row.claim == ask.claim => acquired(row),
        State::InFlight => Begun::Held { remaining: row.view(now).lease_remaining() },
        State::Released if row.claim == ask.claim => Begun::Stale,
        State::Released => {
            row.principal = ask.principal;
            row.recovery = ask.recovery;
            retake(tx, ask, request, row)?
        }
    };
    Ok(Claimed::Begun(begun))
}

/// The next attempt of the same request.
fn retake(tx: &mut Tx<'_, '_>, ask: &Begin, request: Option<&[u8]>, mut row: Row) -> Result<Begun, Fault> {
    row.written = State::InFlight;
    row.attempt = row.attempt.saturating_add(1);
    row.fence = tx.next_fence()?;
    row.claim = ask.claim;
    row.changed = tx.now;
    row.lease_until = Some(tx.now.plus(ask.lease_for));
    row.expires = None;
    row.life = millis(ask.retention.record);
    row.released_life = millis(ask.retention.released);
    tx.settle(&row, None, request)?;
    Ok(acquired(row))
}

fn acquired(row: Row) -> Begun {
    let lease = Lease::new(row.id, row.claim, row.fence);
    Begun::Acquired(Acquired { lease, attempt: row.attempt, progress: row.progress })
}

pub(crate) fn renew(tx: &mut Tx<'_, '_>, leases: &[LeaseRef], by: Duration) -> Result<Vec<Settled>, Fault> {
    leases.iter().map(|lease| renew_one(tx, *lease, by)).collect()
}

fn renew_one(tx: &mut Tx<'_, '_>, lease: LeaseRef, by: Duration) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    if row.fence != lease.fence || row.state_at(tx.now) != State::InFlight {
        return Ok(superseded(tx, &row));
    }
    // Never shortens: a renewal that was delayed must not end a lease that a later one extended.
    row.lease_until = row.lease_until.max(Some(tx.now.plus(by)));
    tx.save(&row)?;
    Ok(Settled::Applied)
}

pub(crate) fn complete(
    tx: &mut Tx<'_, '_>,
    lease: LeaseRef,
    answer: &Encoded,
    keep: &Retention,
) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    match row.written {
        State::Completed if row.fence == lease.fence => Ok(Settled::Applied),
        State::InFlight | State::Unknown if row.fence == lease.fence => {
            write_completion(tx, &mut row, answer, keep)?;
            Ok(Settled::Applied)
        }
        _ => Ok(superseded(tx, &row)),
    }
}

fn write_completion(
    tx: &mut Tx<'_, '_>,
    row: &mut Row,
    answer: &Encoded,
    keep: &Retention,
) -> Result<(), Fault> {
    row.written = State::Completed;
    row.changed = tx.now;
    row.lease_until = None;
    row.expires = Some(tx.now.plus(keep.record));
    row.body_until = answer.body_bytes.map(|_| tx.now.plus(keep.body));
    row.status = answer.status;
    row.body_bytes = answer.body_bytes();
    row.progress = None;
    tx.settle(row, Some(&answer.blob), None)
}

pub(crate) fn release(
    tx: &mut Tx<'_, '_>,
    by: ReleaseBy,
    how: ReleaseAs,
    keep: &Retention,
) -> Result<Settled, Fault> {
    let id = match &by {
        ReleaseBy::Lease(lease) => &lease.id,
        ReleaseBy::Claim(id, _) => id,
    };
    let Some(mut row) = tx.live(id)? else { return Ok(Settled::Absent) };
    let its_own = match by {
        ReleaseBy::Lease(lease) => row.fence == lease.fence,
        ReleaseBy::Claim(_, claim) => row.claim == claim,
    };
    match row.written {
        State::Released if its_own => Ok(Settled::Applied),
        State::InFlight | State::Unknown if its_own => {
            write_release(tx, &mut row, how, keep.released)?;
            Ok(Settled::Applied)
        }
        _ => Ok(superseded(tx, &row)),
    }
}

fn write_release(tx: &mut Tx<'_, '_>, row: &mut Row, how: ReleaseAs, life: Duration) -> Result<(), Fault> {
    row.written = State::Released;
    row.changed = tx.now;
    row.lease_until = None;
    row.expires = Some(tx.now.plus(life));
    if how == ReleaseAs::Forgotten {
        row.fingerprint = None;
        row.settings = "".into();
        row.principal = None;
        row.progress = None;
    }
    tx.settle(row, None, None)
}

pub(crate) fn abandon(tx: &mut Tx<'_, '_>, lease: LeaseRef) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    if row.fence != lease.fence {
        return Ok(superseded(tx, &row));
    }
    match (row.written, row.recovery) {
        (State::Unknown, _) | (State::InFlight, Recovery::Takeover) => Ok(Settled::Applied),
        (State::InFlight, Recovery::Hold) => {
            if row.lease_over(tx.now) {
                row.end_lease();
            } else {
                row.written = State::Unknown;
                row.changed = tx.now;
            }
            tx.save(&row)?;
            Ok(Settled::Applied)
        }
        (State::Completed | State::Released, _) => Ok(superseded(tx, &row)),
    }
}

pub(crate) fn note(tx: &mut Tx<'_, '_>, lease: LeaseRef, progress: &Bytes) -> Result<Settled, Fault> {
    let Some(mut row) = tx.live(&lease.id)? else { return Ok(Settled::Absent) };
    if row.fence != lease.fence || row.state_at(tx.now) != State::InFlight {
        return Ok(superseded(tx, &row));
    }
    row.progress = Some(progress.clone());
    tx.save(&row)?;
    Ok(Settled::Applied)
}

pub(crate) fn read(tx: &mut Tx<'_, '_>, id: &RecordId) -> Result<Option<Sealed>, Fault> {
    let now = tx.now;
    match tx.live(id)? {
        Some(row) if row.written == State::Completed => {
            let blob = tx.completion(&row)?;
            Ok(Some(Sealed { row, blob, now }))
        }
        _ => Ok(None),
    }
}

pub(crate) fn list(tx: &mut Tx<'_, '_>, query: &Query) -> Result<Page, Fault> {
    let mut page = Page::default();
    let mut after = query.after;
    let mut looked_at = 0;
    while page.records.len() < query.limit && looked_at < LIST_ROWS {
        let wanted = (query.limit - page.records.len()).clamp(16, 256);
        let rows = tx.after(after.as_ref(), wanted)?;
        let last = rows.len() < wanted;
        for row in rows {
            if page.records.len() == query.limit {
                page.next = after;
                return Ok(page);
            }
            after = Some(row.id);
            looked_at += 1;
            if !row.is_over(tx.now) && query.state.is_none_or(|state| row.state_at(tx.now) == state) {
                page.records.push(row.view(tx.now));
            }
        }
        if last {
            return Ok(page);
        }
    }
    page.next = after;
    Ok(page)
}

/// A resolution as it is written, made before it gets in line.
pub(crate) struct Ruling {
    pub(crate) op: ClaimId,
    pub(crate) expect: Option<Fence>,
    pub(crate) retention: Retention,
    /// What was done; `None`: nothing was.
    pub(crate) done: Option<Encoded>,
}

pub(crate) fn resolve(tx: &mut Tx<'_, '_>, id: &RecordId, ruling: &Ruling) -> Result<Resolved, Fault> {
    let Some(mut row) = tx.live(id)? else { return Ok(Resolved::Absent) };
    let now = tx.now;
    if row.op == Some(ruling.op) {
        return Ok(Resolved::Applied(Box::new(row.view(now))));
    }
    let expected = ruling.expect.is_none_or(|fence| fence == row.fence);
    if row.state_at(now) != State::Unknown || !expected {
        return Ok(Resolved::Refused(Box::new(row.view(now))));
    }
    row.fence = tx.next_fence()?;
    row.op = Some(ruling.op);
    match &ruling.done {
        Some(answer) => write_completion(tx, &mut row, answer, &ruling.retention)?,
        None => write_release(tx, &mut row, ReleaseAs::Retry, ruling.retention.released)?,
    }
    Ok(Resolved::Applied(Box::new(row.view(now))))
}

pub(crate) fn delete(tx: &mut Tx<'_, '_>, id: &RecordId, which: Delete) -> Result<Deleted, Fault> {
    let Some(row) = tx.live(id)? else { return Ok(Deleted::Absent) };
    if which == Delete::Settled && matches!(row.written, State::InFlight | State::Unknown) {
        return Ok(Deleted::Refused(Box::new(row.view(tx.now))));
    }
    tx.delete(&row)?;
    Ok(Deleted::Gone)
}

fn superseded(tx: &Tx<'_, '_>, row: &Row) -> Settled {
    Settled::Superseded(Box::new(row.view(tx.now)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The same answer without the body, as it is written; `None` if it does not decode.
pub(crate) fn drop_body(blob: Vec<u8>) -> Option<Vec<u8>> {
    let completion = codec::decode(&Bytes::from(blob)).ok()?;
    Some(codec::encode(&codec::without_body(&completion, NotKept::Expired)))
}
