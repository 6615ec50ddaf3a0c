//! A record as a row of the table.

use bytes::Bytes;
use semel_core::record::{ClaimId, Fence, Fingerprint, PrincipalTag, RecordId, Timestamp};
use semel_store_kit::{Row, recovery_from, state_from, status_from};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::{Fault, undecodable};

/// The columns of `columns.sql`.
const WIDTH: usize = 18;

/// The record that begins at a column; `None` where a join found none.
pub(crate) fn record(row: &PgRow, at: usize) -> Result<Option<Row>, Fault> {
    let Some(id) = bytes(row, at)? else { return Ok(None) };
    let time = |n: usize| Ok::<_, Fault>(long(row, at + n)?.map(Timestamp::from_millis));
    let some_time = |n: usize| time(n)?.ok_or_else(|| undecodable("time"));
    let claim = |n: usize| match bytes(row, at + n)? {
        None => Ok(None),
        Some(claim) => ClaimId::from_slice(&claim).map(Some).ok_or_else(|| undecodable("claim")),
    };
    let digest = |n: usize| match bytes(row, at + n)? {
        None => Ok(None),
        Some(digest) => <[u8; 32]>::try_from(digest).map(Some).map_err(|_| undecodable("name")),
    };
    let number = |n: usize| long(row, at + n)?.ok_or_else(|| undecodable("number"));
    let status = row.try_get::<Option<i32>, _>(at + 15)?;
    let status = status.map(|status| status_from(status.into()).ok_or_else(|| undecodable("status")));
    Ok(Some(Row {
        id: RecordId::from_slice(&id).ok_or_else(|| undecodable("name"))?,
        written: state_from(row.try_get::<i16, _>(at + 1)?.into()).ok_or_else(|| undecodable("state"))?,
        recovery: recovery_from(row.try_get::<i16, _>(at + 2)?.into())
            .ok_or_else(|| undecodable("recovery"))?,
        attempt: u32::try_from(number(3)?).map_err(|_| undecodable("attempt"))?,
        fence: fence(number(4)?)?,
        claim: claim(5)?.ok_or_else(|| undecodable("claim"))?,
        op: claim(6)?,
        fingerprint: digest(7)?.map(Fingerprint::from_bytes),
        settings: row.try_get::<&str, _>(at + 8)?.into(),
        principal: digest(9)?.map(PrincipalTag::from_bytes),
        created: some_time(10)?,
        changed: some_time(11)?,
        lease_until: time(12)?,
        expires: time(13)?,
        body_until: time(14)?,
        status: status.transpose()?,
        body_bytes: u64::try_from(number(16)?).map_err(|_| undecodable("size"))?,
        progress: bytes(row, at + 17)?.map(Bytes::from),
    }))
}

/// The column after the record that begins at `at`.
pub(crate) const fn after(at: usize) -> usize {
    at + WIDTH
}

pub(crate) fn bytes(row: &PgRow, at: usize) -> Result<Option<Vec<u8>>, Fault> {
    // Not borrowed: the simple protocol sends bytes as hexadecimal digits.
    Ok(row.try_get::<Option<Vec<u8>>, _>(at)?)
}

pub(crate) fn long(row: &PgRow, at: usize) -> Result<Option<i64>, Fault> {
    Ok(row.try_get::<Option<i64>, _>(at)?)
}

/// The server's clock, which every answer carries in its first column.
pub(crate) fn now(row: &PgRow) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(row.try_get::<i64, _>(0)?))
}

pub(crate) fn fence(number: i64) -> Result<Fence, Fault> {
    semel_store_kit::fence_from(number).ok_or_else(|| undecodable("fence"))
}
