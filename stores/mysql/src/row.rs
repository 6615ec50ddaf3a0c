//! A record as a row of the table.

use bytes::Bytes;
use semel_core::record::{ClaimId, Fingerprint, PrincipalTag, RecordId, Timestamp};
use semel_store_kit::{Row, fence_from, recovery_from, state_from, status_from};
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::error::{Fault, undecodable};

/// How many columns a record has.
pub(crate) const WIDTH: usize = 18;

/// The record that begins at a column; `None` where a join found none.
pub(crate) fn record(row: &MySqlRow, at: usize) -> Result<Option<Row>, Fault> {
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
    let settings = bytes(row, at + 8)?.and_then(|text| String::from_utf8(text).ok());
    let status = long(row, at + 15)?;
    let status = status.map(|status| status_from(status).ok_or_else(|| undecodable("status")));
    Ok(Some(Row {
        id: RecordId::from_slice(&id).ok_or_else(|| undecodable("name"))?,
        written: state_from(number(1)?).ok_or_else(|| undecodable("state"))?,
        recovery: recovery_from(number(2)?).ok_or_else(|| undecodable("recovery"))?,
        attempt: u32::try_from(number(3)?).map_err(|_| undecodable("attempt"))?,
        fence: fence_from(number(4)?).ok_or_else(|| undecodable("fence"))?,
        claim: claim(5)?.ok_or_else(|| undecodable("claim"))?,
        op: claim(6)?,
        fingerprint: digest(7)?.map(Fingerprint::from_bytes),
        settings: settings.ok_or_else(|| undecodable("setting"))?.into(),
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

/// Whatever type the server gave it: what it computes has other types than what it keeps.
pub(crate) fn bytes(row: &MySqlRow, at: usize) -> Result<Option<Vec<u8>>, Fault> {
    Ok(row.try_get_unchecked::<Option<Vec<u8>>, _>(at)?)
}

pub(crate) fn long(row: &MySqlRow, at: usize) -> Result<Option<i64>, Fault> {
    Ok(row.try_get_unchecked::<Option<i64>, _>(at)?)
}

pub(crate) fn flag(row: &MySqlRow, at: usize) -> Result<bool, Fault> {
    Ok(long(row, at)?.unwrap_or(0) != 0)
}

/// The server's clock, which every answer carries in its first column.
pub(crate) fn now(row: &MySqlRow) -> Result<Timestamp, Fault> {
    long(row, 0)?.map(Timestamp::from_millis).ok_or_else(|| undecodable("time"))
}
