//! The steps of a claim's life. Each writes one row, found by its primary key, and compares what it was told with what
//! is there; only those who lost look at the record a second time.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use semel_core::record::{RecordId, Retention, State, Timestamp, codec};
use semel_core::store::{Begin, Begun, LeaseRef, ReleaseAs, ReleaseBy, Settled};
use semel_store_kit::{Encoded, Judged, Row, Sealed, Standing, int, recovery_to, state_to};
use sqlx::{AssertSqlSafe, query};

use crate::connect::Session;
use crate::desk::Step;
use crate::error::{Fault, churned};
use crate::row::{WIDTH, bytes, flag, long, now, record};
use crate::sql::{hex, maybe_hex, maybe_int};

/// How often a step looks again when others come and go meanwhile.
const ROUNDS: u32 = 16;
/// Leases that one transaction renews.
const CHUNK: usize = 256;
/// A thousand years: beyond any life.
const LONGEST: i64 = 1000 * 366 * 86_400_000;

/// What is read may be in memory and not on the disk yet, since InnoDB shows a commit before its log is written. A
/// commit of one's own writes the log up to there. What is older than this was written long ago, in milliseconds.
const RECENT: &str = "{now} - 10000";

/// A claim's answer.
pub(crate) enum Claimed {
    Settled(Sealed),
    Begun(Begun),
}

/// A claim as it is sent.
pub(crate) struct Claim {
    ask: Begin,
    request: Option<Vec<u8>>,
}

impl Claim {
    pub(crate) fn new(mut ask: Begin) -> Self {
        let request = ask.request.take().map(|request| codec::encode_request(&request));
        Self { ask, request }
    }

    fn principal(&self) -> String {
        maybe_hex(self.ask.principal.as_ref().map(|tag| &tag.as_bytes()[..]))
    }

    /// Begins the transaction; `@room` and `@old` are whether a new record may be made. Claims of one principal count
    /// one after the other: those who count at the same time all see room for one more.
    fn opening(&self) -> String {
        let ask = &self.ask;
        let mut text = String::from("START TRANSACTION; ");
        if let Some(quota) = ask.quota {
            let tag = ask.principal.as_ref().map_or([0; 2], |tag| [tag.as_bytes()[0], tag.as_bytes()[1]]);
            let slot = u16::from_be_bytes(tag) % 1024;
            let _ = write!(text, "INSERT INTO {{p}}slot (n) VALUES ({slot}) ON DUPLICATE KEY UPDATE n = n; ");
            let (records, bytes) = (maybe_int(quota.records.map(int)), maybe_int(quota.bytes.map(int)));
            let _ = write!(
                text,
                "SET @room = (SELECT ({records} IS NULL OR COUNT(*) < {records}) AND ({bytes} IS NULL OR \
                 COALESCE(SUM(CASE WHEN k.body_until > {{now}} THEN k.body_bytes END), 0) < {bytes}) \
                 FROM {{p}}record AS k WHERE k.principal <=> {} AND (k.expires IS NULL OR k.expires > {{now}})); ",
                self.principal()
            );
        } else {
            text.push_str("SET @room = 1; ");
        }
        let age = ask
            .minted
            .map(|minted| format!("{{now}} - ({}) > {}", minted.as_millis(), millis(ask.retention.record)));
        let _ = write!(text, "SET @old = ({}); ", age.as_deref().unwrap_or("0"));
        text
    }

    fn lease_and_life(&self) -> (i64, i64) {
        let lease = millis(self.ask.lease_for);
        let life = i64::from(recovery_to(self.ask.recovery)) * millis(self.ask.retention.record);
        (lease, lease + life)
    }
}

pub(crate) fn begin<'s>(session: &'s mut Session, claim: &'s Claim) -> Step<'s, Claimed> {
    Box::pin(async move {
        for _ in 0..ROUNDS {
            if let Some(claimed) = try_begin(session, claim).await? {
                return Ok(claimed);
            }
        }
        Err(churned())
    })
}

/// Looks first: a replay must not use up a number. Whoever is second at the same new key waits for the first at its
/// row, and then reads what the first has made.
fn claim_text(claim: &Claim) -> String {
    let ask = &claim.ask;
    let (id, number) = (hex(ask.id.as_bytes()), hex(&ask.claim.to_bytes()));
    let (print, principal) = (hex(ask.fingerprint.as_bytes()), claim.principal());
    let (settings, request) = (hex(ask.settings.as_bytes()), maybe_hex(claim.request.as_deref()));
    let (lease, due) = claim.lease_and_life();
    let (life, released) = (millis(ask.retention.record), millis(ask.retention.released));
    format!(
        "{opening}
        INSERT INTO {{p}}fence (n) SELECT NULL FROM DUAL
            WHERE @room AND NOT @old AND NOT EXISTS (SELECT 1 FROM {{p}}record AS e WHERE e.id = {id});
        SET @fence = IF(ROW_COUNT() = 1, CAST(LAST_INSERT_ID() AS SIGNED), 0);
        SET @now = {{now}};
        INSERT INTO {{p}}record (id, state, recovery, attempt, fence, claim, fingerprint, settings, principal, created,
                changed, lease_until, due, life, released_life, body_bytes, request)
            SELECT {id}, 0, {recovery}, 1, @fence, {number}, {print}, {settings}, {principal}, @now, @now,
                @now + {lease}, @now + {due}, {life}, {released}, 0, {request} FROM DUAL WHERE @fence > 0
            ON DUPLICATE KEY UPDATE fence = {{p}}record.fence;
        SELECT {{now}}, r.fence = @fence, @room, @old, {{columns}},
            CASE WHEN r.state = 1 AND r.fingerprint = {print} AND r.principal <=> {principal} THEN r.completion END
            FROM (SELECT 1) AS one LEFT JOIN {{p}}record AS r ON r.id = {id};
        INSERT INTO {{p}}fence (n) SELECT NULL FROM {{p}}record AS r WHERE r.id = {id} AND r.fence <> @fence
            AND r.changed > {RECENT} AND (r.state = 1 OR (r.state = 0 AND r.claim = {number}));
        COMMIT",
        opening = claim.opening(),
        recovery = recovery_to(ask.recovery),
    )
}

async fn try_begin(session: &mut Session, claim: &Claim) -> Result<Option<Claimed>, Fault> {
    let rows = session.script(&claim_text(claim)).await?;
    let answer = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let now = now(answer)?;
    let Some(row) = record(answer, 4)? else {
        let refused = if flag(answer, 2)? {
            flag(answer, 3)?.then_some(Begun::Expired)
        } else {
            Some(Begun::OverQuota)
        };
        return Ok(refused.map(Claimed::Begun));
    };
    if flag(answer, 1)? {
        return Ok(Some(Claimed::Begun(row.acquired())));
    }
    if row.is_over(now) {
        if !flag(answer, 2)? {
            return Ok(Some(Claimed::Begun(Begun::OverQuota)));
        }
        if flag(answer, 3)? {
            return Ok(Some(Claimed::Begun(Begun::Expired)));
        }
        return take(session, claim, &row, Life::New).await;
    }
    match row.judge(&claim.ask, now) {
        Judged::Answer(begun) => Ok(Some(Claimed::Begun(begun))),
        Judged::Settled => Ok(Some(Claimed::Settled(Sealed { blob: bytes(answer, 4 + WIDTH)?, row, now }))),
        Judged::Lapse => {
            let text = format!(
                "UPDATE {{p}}record SET changed = lease_until, state = 3, due = NULL WHERE id = {} AND fence = {} \
                 AND state = 0 AND recovery = 0 AND lease_until <= {{now}}",
                hex(row.id.as_bytes()),
                row.fence.get()
            );
            let written = session.change(&text).await? > 0;
            Ok(written.then(|| Claimed::Begun(Begun::Unknown(row.view(now)))))
        }
        Judged::Take => take(session, claim, &row, Life::Old).await,
    }
}

/// Whether the record that is taken had come to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    New,
    Old,
}

/// The next claim of a record that is over, released, or a takeover whose lease is over: as long as it is as it was seen.
async fn take(
    session: &mut Session,
    claim: &Claim,
    seen: &Row,
    life: Life,
) -> Result<Option<Claimed>, Fault> {
    let ask = &claim.ask;
    let anew = life == Life::New || seen.fingerprint.is_none();
    let recovery = if anew || seen.written == State::Released { ask.recovery } else { seen.recovery };
    let rule = i64::from(recovery_to(recovery));
    let (lease, record_life) = (millis(ask.lease_for), millis(ask.retention.record));
    let of = |time: Option<Timestamp>| maybe_int(time.map(Timestamp::as_millis));
    // What is set is read by what is set after it: `changed` is the time after the wait for the row.
    let text = format!(
        "{opening}
        INSERT INTO {{p}}fence (n) VALUES (NULL);
        SET @fence = CAST(LAST_INSERT_ID() AS SIGNED);
        UPDATE {{p}}record SET fence = GREATEST(fence + 1, @fence), changed = {{now}}, {fresh}
            attempt = {attempt}, state = 0, recovery = {rule}, claim = {number}, fingerprint = {print},
            settings = {settings}, principal = {principal}, lease_until = changed + {lease}, expires = NULL,
            body_until = NULL, due = changed + {due}, life = {record_life}, released_life = {released},
            status = NULL, body_bytes = 0, request = {request}, completion = NULL
            WHERE id = {id} AND fence = {seen_fence} AND state = {state} AND lease_until <=> {seen_lease}
                AND expires <=> {seen_end} AND ({condition});
        SET @took = ROW_COUNT();
        SELECT {{now}}, @took, {{columns}} FROM {{p}}record AS r WHERE r.id = {id};
        COMMIT",
        opening = claim.opening(),
        fresh = if anew { "created = changed, op = NULL, progress = NULL," } else { "" },
        attempt = if anew { "1" } else { "attempt + 1" },
        number = hex(&ask.claim.to_bytes()),
        print = hex(ask.fingerprint.as_bytes()),
        settings = hex(ask.settings.as_bytes()),
        principal = claim.principal(),
        due = lease.saturating_add(rule * record_life),
        released = millis(ask.retention.released),
        request = maybe_hex(claim.request.as_deref()),
        id = hex(ask.id.as_bytes()),
        seen_fence = seen.fence.get(),
        state = state_to(seen.written),
        seen_lease = of(seen.lease_until),
        seen_end = of(seen.expires),
        condition = match (life, seen.written) {
            (Life::New, _) => "@room AND NOT @old AND expires <= {now}",
            (Life::Old, State::InFlight) => "lease_until <= {now}",
            (Life::Old, _) => "expires > {now}",
        },
    );
    let rows = session.script(&text).await?;
    let Some(answer) = rows.first() else { return Ok(None) };
    // Else somebody else was faster.
    if !flag(answer, 1)? {
        return Ok(None);
    }
    Ok(record(answer, 2)?.map(|row| Claimed::Begun(row.acquired())))
}

/// Leases to renew.
pub(crate) struct Renewal {
    pub(crate) leases: Vec<LeaseRef>,
    pub(crate) by: Duration,
}

pub(crate) fn renew<'s>(session: &'s mut Session, renewal: &'s Renewal) -> Step<'s, Vec<Settled>> {
    Box::pin(async move {
        // In the order of ids: two heartbeats with the same leases must not wait for each other.
        let mut order: Vec<_> = (0..renewal.leases.len()).collect();
        order.sort_by_key(|at| renewal.leases[*at].id);
        let mut settled = vec![Settled::Absent; renewal.leases.len()];
        for chunk in order.chunks(CHUNK) {
            let mut text = String::from("START TRANSACTION; ");
            for at in chunk {
                let LeaseRef { id, fence, .. } = renewal.leases[*at];
                let id = hex(id.as_bytes());
                let _ = write!(
                    text,
                    "UPDATE {{p}}record SET lease_until = GREATEST(lease_until, {{now}} + {}) WHERE id = {id} AND \
                     fence = {} AND state = 0 AND (recovery = 1 OR lease_until > {{now}}); SET @found = ROW_COUNT(); \
                     SELECT {{now}}, @found, {{columns}} FROM (SELECT 1) AS one LEFT JOIN {{p}}record AS r \
                     ON r.id = {id} AND @found = 0; ",
                    millis(renewal.by),
                    fence.get()
                );
            }
            text.push_str("COMMIT");
            for (at, answer) in chunk.iter().zip(session.script(&text).await?) {
                let now = now(&answer)?;
                settled[*at] = if flag(&answer, 1)? {
                    Settled::Applied
                } else {
                    // One record that does not decode must not stop the renewal of all others.
                    match record(&answer, 2) {
                        Ok(Some(row)) if !row.is_over(now) => row.superseded(now),
                        Ok(_) | Err(Fault::Refused(_)) => Settled::Absent,
                        Err(fault) => return Err(fault),
                    }
                };
            }
        }
        Ok(settled)
    })
}

/// An answer and how long it is kept.
pub(crate) struct Completing {
    pub(crate) lease: LeaseRef,
    pub(crate) answer: Encoded,
    pub(crate) keep: Retention,
}

/// What a completion sets, with `?` for life, body's life, the earlier of them, status, bytes and answer.
pub(crate) const COMPLETED: &str = "changed = {now}, state = 1, lease_until = NULL, expires = changed + ?, \
    body_until = changed + ?, due = changed + ?, status = ?, body_bytes = ?, progress = NULL, request = NULL, \
    completion = ?";

/// The first five of them.
pub(crate) struct Lives {
    pub(crate) life: i64,
    pub(crate) body: Option<i64>,
    pub(crate) due: i64,
    pub(crate) status: Option<i64>,
    pub(crate) bytes: i64,
}

impl Lives {
    pub(crate) fn new(answer: &Encoded, keep: &Retention) -> Self {
        let life = millis(keep.record);
        let body = answer.body_bytes.map(|_| millis(keep.body));
        let status = answer.status.map(|status| status.as_u16().into());
        let bytes = answer.body_bytes.map_or(0, int);
        Self { life, body, due: body.map_or(life, |body| body.min(life)), status, bytes }
    }
}

pub(crate) fn complete<'s>(session: &'s mut Session, step: &'s Completing) -> Step<'s, Settled> {
    Box::pin(async move {
        let Completing { lease, answer, keep } = step;
        let text =
            format!("UPDATE {{p}}record SET {COMPLETED} WHERE id = ? AND fence = ? AND state IN (0, 3)");
        let text = session.names.write(&text);
        let lives = Lives::new(answer, keep);
        for _ in 0..ROUNDS {
            let done = query(AssertSqlSafe(text.clone()))
                .bind(lives.life)
                .bind(lives.body)
                .bind(lives.due)
                .bind(lives.status)
                .bind(lives.bytes)
                .bind(&answer.blob[..])
                .bind(&lease.id.as_bytes()[..])
                .bind(int(lease.fence.get()))
                .execute(&mut session.connection)
                .await?;
            if done.rows_affected() > 0 {
                return Ok(Settled::Applied);
            }
            if let Some(settled) = lost(session, &lease.id, |row, _| row.completes(lease)).await? {
                return Ok(settled);
            }
        }
        Err(churned())
    })
}

/// A release.
pub(crate) struct Releasing {
    pub(crate) by: ReleaseBy,
    pub(crate) how: ReleaseAs,
    pub(crate) keep: Retention,
}

pub(crate) fn release<'s>(session: &'s mut Session, step: &'s Releasing) -> Step<'s, Settled> {
    Box::pin(async move {
        let (id, whose) = match &step.by {
            ReleaseBy::Lease(lease) => (&lease.id, format!("fence = {}", lease.fence.get())),
            ReleaseBy::Claim(id, claim) => (id, format!("claim = {}", hex(&claim.to_bytes()))),
        };
        let forgets = match step.how {
            ReleaseAs::Retry => "",
            ReleaseAs::Forgotten => "fingerprint = NULL, settings = '', principal = NULL, progress = NULL,",
        };
        let text = format!(
            "UPDATE {{p}}record SET changed = {{now}}, state = 2, lease_until = NULL, {forgets} \
             expires = changed + {}, due = expires, request = NULL \
             WHERE id = {} AND {whose} AND state IN (0, 3)",
            millis(step.keep.released),
            hex(id.as_bytes()),
        );
        for _ in 0..ROUNDS {
            if session.change(&text).await? > 0 {
                return Ok(Settled::Applied);
            }
            if let Some(settled) = lost(session, id, |row, _| row.releases(&step.by)).await? {
                return Ok(settled);
            }
        }
        Err(churned())
    })
}

/// A step's progress.
pub(crate) struct Noting {
    pub(crate) lease: LeaseRef,
    pub(crate) progress: Bytes,
}

pub(crate) fn note<'s>(session: &'s mut Session, step: &'s Noting) -> Step<'s, Settled> {
    Box::pin(async move {
        let text = session.names.write(
            "UPDATE {p}record SET progress = ? WHERE id = ? AND fence = ? AND state = 0 \
             AND (recovery = 1 OR lease_until > {now})",
        );
        let done = query(AssertSqlSafe(text))
            .bind(&step.progress[..])
            .bind(&step.lease.id.as_bytes()[..])
            .bind(int(step.lease.fence.get()))
            .execute(&mut session.connection)
            .await?;
        if done.rows_affected() > 0 {
            return Ok(Settled::Applied);
        }
        // A lease that was running when the statement looked, and is over now, was not noted either.
        let settled = lost(session, &step.lease.id, |_, _| Standing::Lost).await?;
        settled.ok_or_else(churned)
    })
}

pub(crate) fn abandon<'s>(session: &'s mut Session, lease: &'s LeaseRef) -> Step<'s, Settled> {
    Box::pin(async move {
        let text = format!(
            "UPDATE {{p}}record SET changed = LEAST(lease_until, {{now}}), state = 3, due = NULL \
             WHERE id = {} AND fence = {} AND state = 0 AND recovery = 0",
            hex(lease.id.as_bytes()),
            lease.fence.get(),
        );
        for _ in 0..ROUNDS {
            if session.change(&text).await? > 0 {
                return Ok(Settled::Applied);
            }
            if let Some(settled) = lost(session, &lease.id, |row, _| row.abandons(lease)).await? {
                return Ok(settled);
            }
        }
        Err(churned())
    })
}

/// What to say to somebody whose statement found nothing; `None`: it should have, so the record changed between the two
/// looks.
async fn lost(
    session: &mut Session,
    id: &RecordId,
    judge: impl Fn(&Row, Timestamp) -> Standing,
) -> Result<Option<Settled>, Fault> {
    let (row, now, _) = find(session, id).await?;
    let Some(row) = row.filter(|row| !row.is_over(now)) else { return Ok(Some(Settled::Absent)) };
    Ok(match judge(&row, now) {
        Standing::Done => Some(Settled::Applied),
        Standing::Lost => Some(row.superseded(now)),
        Standing::Open => None,
    })
}

/// The record as it is, over or not, the server's clock, and the answer.
pub(crate) async fn find(
    session: &mut Session,
    id: &RecordId,
) -> Result<(Option<Row>, Timestamp, Option<Vec<u8>>), Fault> {
    let id = hex(id.as_bytes());
    let text = format!(
        "SELECT {{now}}, {{columns}}, CASE WHEN r.state = 1 THEN r.completion END \
         FROM (SELECT 1) AS one LEFT JOIN {{p}}record AS r ON r.id = {id}; \
         INSERT INTO {{p}}fence (n) SELECT NULL FROM {{p}}record AS r WHERE r.id = {id} AND r.changed > {RECENT}"
    );
    let rows = session.script(&text).await?;
    let answer = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((record(answer, 1)?, now(answer)?, bytes(answer, 1 + WIDTH)?))
}

/// The next number, in the transaction that is open.
pub(crate) async fn next_fence(session: &mut Session) -> Result<i64, Fault> {
    let rows = session
        .script("INSERT INTO {p}fence (n) VALUES (NULL); SELECT CAST(LAST_INSERT_ID() AS SIGNED)")
        .await?;
    let number = rows.first().map(|row| long(row, 0)).transpose()?.flatten();
    number.ok_or(Fault::Sqlx(sqlx::Error::RowNotFound))
}

/// As the server takes it.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}
