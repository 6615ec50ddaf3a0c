//! The steps of a claim's life. Each writes by one statement that compares what it was told with what is there;
//! only those who lost look at the record a second time.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{Fence, RecordId, Retention, Timestamp, codec};
use semel_core::store::{Acquired, Begin, Begun, Lease, LeaseRef, ReleaseAs, ReleaseBy, Settled};
use semel_store_kit::{Encoded, Judged, Row, Sealed, Standing, int, is_expired, recovery_to};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::batch::Batched;
use crate::desk::Step;
use crate::error::{Fault, churned};
use crate::row::{bytes, fence, long, now, record};
use crate::session::{Arg, Session, written};

/// How often a step looks again when others come and go meanwhile.
const ROUNDS: u32 = 16;
/// Leases that one statement renews.
const CHUNK: usize = 1000;
/// A thousand years: beyond any life, and within PostgreSQL's.
const LONGEST: i64 = 1000 * 366 * 86_400_000;

/// A claim's answer.
pub(crate) enum Claimed {
    Settled(Sealed),
    Begun(Begun),
}

/// A claim as it is sent.
pub(crate) struct Claim {
    pub(crate) ask: Begin,
    number: [u8; 16],
    request: Option<Vec<u8>>,
    /// What a batch found, for the step that it takes alone.
    found: OnceLock<Found>,
}

enum Found {
    /// A record that it may take.
    Free,
    /// A record that is unknown, which nobody has written yet.
    Lapsed(Box<Row>, Timestamp),
}

impl Claim {
    /// Whether it is of the plain kind, of which many go in one statement.
    pub(crate) fn is_plain(&self) -> bool {
        self.ask.quota.is_none() && self.ask.minted.is_none() && self.request.is_none()
    }

    /// By its next statement, alone.
    fn goes_on(&self, found: Found) -> Option<Claimed> {
        // What was found first is as good: the statement compares it with what is there by then.
        let _first = self.found.set(found);
        None
    }

    pub(crate) fn new(mut ask: Begin) -> Self {
        let request = ask.request.take().map(|request| codec::encode_request(&request));
        Self { number: ask.claim.to_bytes(), ask, request, found: OnceLock::new() }
    }
}

pub(crate) fn begin<'s>(session: &'s mut Session, claim: &'s Claim) -> Step<'s, Claimed> {
    Box::pin(async move {
        let claimed = match claim.found.get() {
            Some(Found::Free) => take(session, claim, &claim_args(claim)).await?,
            Some(Found::Lapsed(row, now)) => lapse(session, row, *now).await?,
            None => None,
        };
        if let Some(claimed) = claimed {
            return Ok(claimed);
        }
        for _ in 0..ROUNDS {
            if let Some(claimed) = try_begin(session, claim).await? {
                return Ok(claimed);
            }
        }
        Err(churned())
    })
}

/// What to do after the claim's statement.
#[expect(clippy::large_enum_variant, reason = "one at a time, for as long as it takes to answer")]
enum Next {
    Known(Row, Judged),
    Answer(Begun),
    /// The record's life is over.
    Anew,
    /// It is not there, and was when the claim was sent.
    Again,
}

async fn try_begin(session: &mut Session, claim: &Claim) -> Result<Option<Claimed>, Fault> {
    let args = claim_args(claim);
    let answer = claim_row(session, claim, &args).await?;
    if let Some(number) = long(&answer, 1)? {
        return Ok(Some(granted(claim, fence(number)?)));
    }
    let (now, room) = (now(&answer)?, flag(&answer, 2)?);
    match judge(&claim.ask, record(&answer, 3)?, now, room) {
        Next::Answer(begun) | Next::Known(_, Judged::Answer(begun)) => Ok(Some(Claimed::Begun(begun))),
        Next::Known(row, Judged::Settled) => {
            let blob = bytes(&answer, 4)?;
            Ok(Some(Claimed::Settled(Sealed { row, blob, now })))
        }
        Next::Anew | Next::Known(_, Judged::Take) => take(session, claim, &args).await,
        Next::Known(row, Judged::Lapse) => lapse(session, &row, now).await,
        Next::Again => Ok(None),
    }
}

/// Writes what a record is by the clock; `None` if it is something else by now.
async fn lapse(session: &mut Session, row: &Row, now: Timestamp) -> Result<Option<Claimed>, Fault> {
    let sql = session.sql.lapse.clone();
    let args = [Arg::Bytes(Some(row.id.as_bytes())), Arg::Long(Some(int(row.fence.get())))];
    let written = session.maybe(&sql, &args).await?.is_some();
    Ok(written.then(|| Claimed::Begun(Begun::Unknown(row.view(now)))))
}

fn granted(claim: &Claim, fence: Fence) -> Claimed {
    let lease = Lease::new(claim.ask.id, claim.ask.claim, fence);
    Claimed::Begun(Begun::Acquired(Acquired { lease, attempt: 1, progress: None }))
}

/// `room`: whether the principal may keep one more.
fn judge(ask: &Begin, row: Option<Row>, now: Timestamp, room: bool) -> Next {
    match row {
        Some(row) if !row.is_over(now) => {
            let judged = row.judge(ask, now);
            Next::Known(row, judged)
        }
        _ if !room => Next::Answer(Begun::OverQuota),
        _ if is_expired(ask, now) => Next::Answer(Begun::Expired),
        Some(_) => Next::Anew,
        None => Next::Again,
    }
}

impl Batched for Claim {
    type Answer = Claimed;

    fn alone<'s>(session: &'s mut Session, claim: &'s Self) -> Step<'s, Claimed> {
        begin(session, claim)
    }

    fn together<'s>(session: &'s mut Session, claims: &'s [Self]) -> Step<'s, Vec<Option<Claimed>>> {
        Box::pin(async move {
            let sql = session.sql.claim_many.clone();
            let asks = || claims.iter().map(|claim| &claim.ask);
            let args = [
                Arg::ManyBytes(asks().map(|ask| Some(&ask.id.as_bytes()[..])).collect()),
                Arg::ManyLongs(asks().map(|ask| Some(recovery_to(ask.recovery).into())).collect()),
                Arg::ManyBytes(claims.iter().map(|claim| Some(&claim.number[..])).collect()),
                Arg::ManyBytes(asks().map(|ask| Some(&ask.fingerprint.as_bytes()[..])).collect()),
                Arg::ManyTexts(asks().map(|ask| &*ask.settings).collect()),
                Arg::ManyBytes(
                    asks().map(|ask| ask.principal.as_ref().map(|tag| &tag.as_bytes()[..])).collect(),
                ),
                Arg::ManyLongs(asks().map(|ask| Some(millis(ask.lease_for))).collect()),
                Arg::ManyLongs(asks().map(|ask| Some(millis(ask.retention.record))).collect()),
                Arg::ManyLongs(asks().map(|ask| Some(millis(ask.retention.released))).collect()),
            ];
            let rows = session.rows(&sql, &args).await?;
            let made = made(rows.first())?;
            claims.iter().zip(&rows).map(|(claim, row)| first_look(claim, row, &made)).collect()
        })
    }

    fn goes_alone(&self) -> bool {
        self.found.get().is_some()
    }

    fn id(&self) -> &[u8; 32] {
        self.ask.id.as_bytes()
    }

    fn bytes(&self) -> usize {
        self.request.as_ref().map_or(0, Vec::len)
    }
}

/// The fences that a batch granted, by record and claim.
fn made(first: Option<&PgRow>) -> Result<HashMap<Vec<u8>, i64>, Fault> {
    let Some(row) = first else { return Ok(HashMap::new()) };
    let names: Option<Vec<Vec<u8>>> = row.try_get(1)?;
    let fences: Option<Vec<i64>> = row.try_get(2)?;
    Ok(names.unwrap_or_default().into_iter().zip(fences.unwrap_or_default()).collect())
}

/// What can be said to a claim after the batch's statement; `None` where it takes another one.
fn first_look(claim: &Claim, answer: &PgRow, made: &HashMap<Vec<u8>, i64>) -> Result<Option<Claimed>, Fault> {
    if let Some(number) = made.get(&[&claim.ask.id.as_bytes()[..], &claim.number].concat()) {
        return Ok(Some(granted(claim, fence(*number)?)));
    }
    let now = now(answer)?;
    let row = match record(answer, 3) {
        Ok(row) => row,
        // Its claimant is told alone, so that the others of the batch do not suffer for it.
        Err(Fault::Refused(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    Ok(match judge(&claim.ask, row, now, true) {
        Next::Answer(begun) | Next::Known(_, Judged::Answer(begun)) => Some(Claimed::Begun(begun)),
        Next::Known(row, Judged::Settled) => {
            Some(Claimed::Settled(Sealed { row, blob: bytes(answer, 4)?, now }))
        }
        Next::Known(row, Judged::Lapse) => claim.goes_on(Found::Lapsed(Box::new(row), now)),
        Next::Known(_, Judged::Take) | Next::Anew => claim.goes_on(Found::Free),
        Next::Again => None,
    })
}

fn claim_args(claim: &Claim) -> Vec<Arg<'_>> {
    let ask = &claim.ask;
    let mut args = vec![
        Arg::Bytes(Some(ask.id.as_bytes())),
        Arg::Short(recovery_to(ask.recovery)),
        Arg::Bytes(Some(&claim.number)),
        Arg::Bytes(Some(ask.fingerprint.as_bytes())),
        Arg::Text(&ask.settings),
        Arg::Bytes(ask.principal.as_ref().map(|tag| &tag.as_bytes()[..])),
        Arg::Long(Some(millis(ask.lease_for))),
        Arg::Long(Some(millis(ask.retention.record))),
        Arg::Long(Some(millis(ask.retention.released))),
        Arg::Bytes(claim.request.as_deref()),
        Arg::Long(ask.minted.map(Timestamp::as_millis)),
    ];
    if let Some(quota) = ask.quota {
        args.push(Arg::Long(quota.records.map(int)));
        args.push(Arg::Long(quota.bytes.map(int)));
    }
    args
}

async fn claim_row(session: &mut Session, claim: &Claim, args: &[Arg<'_>]) -> Result<PgRow, Fault> {
    if claim.ask.quota.is_none() {
        let sql = session.sql.claim.clone();
        return session.one(&sql, args).await;
    }
    let sql = session.sql.claim_within.clone();
    let rows = session.script(&one_by_one(&sql, claim, args)).await?;
    rows.into_iter().next_back().ok_or(Fault::Sqlx(sqlx::Error::RowNotFound))
}

/// Claims of one principal count one after the other: those who count at the same time all see room for one more.
/// Two statements, since the second has to see what was committed while the first waited.
fn one_by_one(sql: &str, claim: &Claim, args: &[Arg<'_>]) -> String {
    let whose = claim.ask.principal.as_ref().map_or([0; 8], |tag| {
        let mut first = [0; 8];
        first.copy_from_slice(&tag.as_bytes()[..8]);
        first
    });
    let lock = i64::from_be_bytes(whose);
    format!("SELECT pg_advisory_xact_lock({lock}); {}", written(sql, args))
}

async fn take(session: &mut Session, claim: &Claim, args: &[Arg<'_>]) -> Result<Option<Claimed>, Fault> {
    let row = if claim.ask.quota.is_none() {
        let sql = session.sql.take.clone();
        session.maybe(&sql, args).await?
    } else {
        let sql = session.sql.take_within.clone();
        let rows = session.script(&one_by_one(&sql, claim, args)).await?;
        rows.into_iter().nth(1)
    };
    // Else somebody else was faster.
    let Some(row) = row else { return Ok(None) };
    let attempt = long(&row, 1)?.and_then(|attempt| u32::try_from(attempt).ok());
    let lease = Lease::new(claim.ask.id, claim.ask.claim, fence(long(&row, 0)?.unwrap_or(0))?);
    let acquired = Acquired {
        lease,
        attempt: attempt.ok_or_else(|| crate::error::undecodable("attempt"))?,
        progress: bytes(&row, 2)?.map(Bytes::from),
    };
    Ok(Some(Claimed::Begun(Begun::Acquired(acquired))))
}

/// Leases to renew.
pub(crate) struct Renewal {
    pub(crate) leases: Vec<LeaseRef>,
    pub(crate) by: Duration,
}

pub(crate) fn renew<'s>(session: &'s mut Session, renewal: &'s Renewal) -> Step<'s, Vec<Settled>> {
    Box::pin(async move {
        let mut settled = Vec::with_capacity(renewal.leases.len());
        for leases in renewal.leases.chunks(CHUNK) {
            renew_chunk(session, leases, renewal.by, &mut settled).await?;
        }
        Ok(settled)
    })
}

async fn renew_chunk(
    session: &mut Session,
    leases: &[LeaseRef],
    by: Duration,
    settled: &mut Vec<Settled>,
) -> Result<(), Fault> {
    let sql = session.sql.renew.clone();
    let ids = leases.iter().map(|lease| Some(&lease.id.as_bytes()[..])).collect();
    let fences = leases.iter().map(|lease| Some(int(lease.fence.get()))).collect();
    let args = [Arg::ManyBytes(ids), Arg::ManyLongs(fences), Arg::Long(Some(millis(by)))];
    let mut renewed = HashSet::new();
    for row in session.rows(&sql, &args).await? {
        renewed.extend(bytes(&row, 0)?);
    }
    let lost = leases.iter().map(|lease| &lease.id.as_bytes()[..]).filter(|id| !renewed.contains(*id));
    let lost: Vec<_> = lost.map(Some).collect();
    let mut found = HashMap::new();
    if !lost.is_empty() {
        let sql = session.sql.find_many.clone();
        for answer in session.rows(&sql, &[Arg::ManyBytes(lost)]).await? {
            let now = now(&answer)?;
            // One record that does not decode must not stop the renewal of all others.
            match record(&answer, 1) {
                Ok(Some(row)) => {
                    found.insert(row.id, (row, now));
                }
                Ok(None) | Err(Fault::Refused(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
    for lease in leases {
        settled.push(match found.get(&lease.id) {
            _ if renewed.contains(&lease.id.as_bytes()[..]) => Settled::Applied,
            Some((row, now)) if !row.is_over(*now) => row.superseded(*now),
            _ => Settled::Absent,
        });
    }
    Ok(())
}

/// An answer and how long it is kept.
pub(crate) struct Completing {
    pub(crate) lease: LeaseRef,
    pub(crate) answer: Encoded,
    pub(crate) keep: Retention,
}

pub(crate) fn complete<'s>(session: &'s mut Session, step: &'s Completing) -> Step<'s, Settled> {
    Box::pin(async move {
        let sql = session.sql.complete.clone();
        let Completing { lease, answer, keep } = step;
        let args = [
            Arg::Bytes(Some(lease.id.as_bytes())),
            Arg::Long(Some(int(lease.fence.get()))),
            Arg::Long(Some(millis(keep.record))),
            Arg::Long(Some(millis(keep.body))),
            Arg::Long(answer.body_bytes.map(int)),
            Arg::Int(answer.status.map(|status| status.as_u16().into())),
            Arg::Bytes(Some(&answer.blob)),
        ];
        settle(session, &lease.id, &sql, &args, |row| row.completes(lease)).await
    })
}

impl Batched for Completing {
    type Answer = Settled;

    fn alone<'s>(session: &'s mut Session, step: &'s Self) -> Step<'s, Settled> {
        complete(session, step)
    }

    fn together<'s>(session: &'s mut Session, steps: &'s [Self]) -> Step<'s, Vec<Option<Settled>>> {
        Box::pin(async move {
            let sql = session.sql.complete_many.clone();
            let long =
                |value: &dyn Fn(&Self) -> Option<i64>| Arg::ManyLongs(steps.iter().map(value).collect());
            let args = [
                Arg::ManyBytes(steps.iter().map(|step| Some(&step.lease.id.as_bytes()[..])).collect()),
                long(&|step| Some(int(step.lease.fence.get()))),
                long(&|step| Some(millis(step.keep.record))),
                long(&|step| Some(millis(step.keep.body))),
                long(&|step| step.answer.body_bytes.map(int)),
                long(&|step| step.answer.status.map(|status| status.as_u16().into())),
                Arg::ManyBytes(steps.iter().map(|step| Some(&step.answer.blob[..])).collect()),
            ];
            let mut done = HashSet::new();
            for row in session.rows(&sql, &args).await? {
                done.insert((bytes(&row, 0)?, crate::row::long(&row, 1)?));
            }
            let done = |step: &Self| {
                let name = (Some(step.lease.id.as_bytes().to_vec()), Some(int(step.lease.fence.get())));
                done.contains(&name).then_some(Settled::Applied)
            };
            Ok(steps.iter().map(done).collect())
        })
    }

    fn id(&self) -> &[u8; 32] {
        self.lease.id.as_bytes()
    }

    fn bytes(&self) -> usize {
        self.answer.blob.len()
    }
}

/// A release.
pub(crate) struct Releasing {
    pub(crate) by: ReleaseBy,
    pub(crate) how: ReleaseAs,
    pub(crate) keep: Retention,
}

pub(crate) fn release<'s>(session: &'s mut Session, step: &'s Releasing) -> Step<'s, Settled> {
    Box::pin(async move {
        let sql = session.sql.release.clone();
        let (id, fence, claim) = match &step.by {
            ReleaseBy::Lease(lease) => (&lease.id, Some(lease.fence), None),
            ReleaseBy::Claim(id, claim) => (id, None, Some(*claim)),
        };
        let number = claim.map(semel_core::record::ClaimId::to_bytes);
        let args = [
            Arg::Bytes(Some(id.as_bytes())),
            Arg::Long(fence.map(|fence| int(fence.get()))),
            Arg::Bytes(number.as_ref().map(|number| &number[..])),
            Arg::Long(Some(millis(step.keep.released))),
            Arg::Flag(step.how == ReleaseAs::Forgotten),
        ];
        settle(session, id, &sql, &args, |row| row.releases(&step.by)).await
    })
}

/// A step's progress.
pub(crate) struct Noting {
    pub(crate) lease: LeaseRef,
    pub(crate) progress: Bytes,
}

pub(crate) fn note<'s>(session: &'s mut Session, step: &'s Noting) -> Step<'s, Settled> {
    Box::pin(async move {
        let sql = session.sql.note.clone();
        let lease = &step.lease;
        let args = [
            Arg::Bytes(Some(lease.id.as_bytes())),
            Arg::Long(Some(int(lease.fence.get()))),
            Arg::Bytes(Some(&step.progress)),
        ];
        // A lease that was running when the statement looked, and is over now, was not noted either.
        settle(session, &lease.id, &sql, &args, |_| Standing::Lost).await
    })
}

pub(crate) fn abandon<'s>(session: &'s mut Session, lease: &'s LeaseRef) -> Step<'s, Settled> {
    Box::pin(async move {
        let sql = session.sql.abandon.clone();
        let args = [Arg::Bytes(Some(lease.id.as_bytes())), Arg::Long(Some(int(lease.fence.get())))];
        for _ in 0..ROUNDS {
            let answer = session.one(&sql, &args).await?;
            if answer_applied(&answer)? {
                return Ok(Settled::Applied);
            }
            let now = now(&answer)?;
            let Some(row) = record(&answer, 2)?.filter(|row| !row.is_over(now)) else {
                return Ok(Settled::Absent);
            };
            match row.abandons(lease) {
                Standing::Done => return Ok(Settled::Applied),
                Standing::Lost => return Ok(row.superseded(now)),
                Standing::Open => {}
            }
        }
        Err(churned())
    })
}

async fn settle(
    session: &mut Session,
    id: &RecordId,
    sql: &std::sync::Arc<str>,
    args: &[Arg<'_>],
    judge: impl Fn(&Row) -> Standing,
) -> Result<Settled, Fault> {
    for _ in 0..ROUNDS {
        if session.maybe(sql, args).await?.is_some() {
            return Ok(Settled::Applied);
        }
        let (row, now) = find(session, id).await?;
        let Some(row) = row.filter(|row| !row.is_over(now)) else { return Ok(Settled::Absent) };
        match judge(&row) {
            Standing::Done => return Ok(Settled::Applied),
            Standing::Lost => return Ok(row.superseded(now)),
            // It should have taken effect: the record changed between the two looks.
            Standing::Open => {}
        }
    }
    Err(churned())
}

/// The record as it is, over or not, and the server's clock.
pub(crate) async fn find(session: &mut Session, id: &RecordId) -> Result<(Option<Row>, Timestamp), Fault> {
    let sql = session.sql.find.clone();
    let answer = session.one(&sql, &[Arg::Bytes(Some(id.as_bytes()))]).await?;
    Ok((record(&answer, 1)?, now(&answer)?))
}

fn flag(row: &PgRow, at: usize) -> Result<bool, Fault> {
    Ok(row.try_get(at)?)
}

fn answer_applied(row: &PgRow) -> Result<bool, Fault> {
    Ok(row.try_get::<Option<bool>, _>(1)?.unwrap_or(false))
}

/// As the server takes it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}
