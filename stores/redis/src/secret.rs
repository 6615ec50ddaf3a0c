//! The secret of a store's identities, made by compare-and-set.

use redis::Value;
use redis::aio::MultiplexedConnection;
use semel_core::identity::Secret;
use semel_core::store::{StoreError, StoreErrorKind};

use crate::dial::Server;
use crate::error::{error, failed, unexpected};
use crate::link::Agreement;

/// A secret that Redis holds, and the mark of one that it does not hold.
const HELD: u8 = b's';
const MARK: u8 = b'm';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Ours.
    Ours,
    /// None: ours was written.
    Nothing,
    /// The secret is on another node of the cluster.
    Elsewhere,
}

/// Writes a secret where there is none. Answers the one that is there.
pub(crate) async fn take(
    connection: &mut MultiplexedConnection,
    server: &Server,
    key: &str,
    configured: Option<&Secret>,
) -> Result<Secret, StoreError> {
    let offered = match configured {
        Some(secret) => secret.clone(),
        None => random()?,
    };
    let answer = ask(connection, server, key, &written(&offered, configured)).await?;
    let Some(there) = previous(server, answer)? else {
        return Ok(offered);
    };
    match (there.split_first(), configured) {
        (Some((&HELD, bytes)), None) => Secret::from_slice(bytes).ok_or_else(|| damaged(server)),
        (Some((&MARK, _)), None) => Err(error(
            StoreErrorKind::Config,
            format!("{server}: this prefix was made with a configured secret: configure the same one"),
        )),
        (_, Some(secret)) if there == written(secret, configured) => Ok(offered),
        (Some((&(HELD | MARK), _)), Some(_)) => Err(another(server)),
        _ => Err(damaged(server)),
    }
}

/// The same on a later connection, where ours has to be there: with another one every key would name another record.
pub(crate) async fn agree(
    connection: &mut MultiplexedConnection,
    server: &Server,
    agreement: &Agreement,
) -> Result<Found, StoreError> {
    let Agreement { key, secret, configured } = agreement;
    let ours = written(secret, Some(secret).filter(|_| *configured));
    match ask(connection, server, key, &ours).await? {
        Value::ServerError(error) if matches!(error.code(), "MOVED" | "ASK") => Ok(Found::Elsewhere),
        value => match previous(server, value)? {
            None => Ok(Found::Nothing),
            Some(there) if there == ours => Ok(Found::Ours),
            Some(_) => Err(another(server)),
        },
    }
}

async fn ask(
    connection: &mut MultiplexedConnection,
    server: &Server,
    key: &str,
    value: &[u8],
) -> Result<Value, StoreError> {
    let mut cmd = redis::cmd("SET");
    cmd.arg(key).arg(value).arg("NX").arg("GET");
    let failed = |error| failed(server, error);
    let answer = connection.send_packed_command(&cmd).await.map_err(failed)?;
    if !is_full(&answer) {
        return Ok(answer);
    }
    // A full server refuses the command also where it would write nothing.
    let there = connection.send_packed_command(redis::cmd("GET").arg(key)).await.map_err(failed)?;
    Ok(if there == Value::Nil { answer } else { there })
}

fn is_full(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "OOM")
}

/// What was there before.
fn previous(server: &Server, value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(there) => Ok(Some(there)),
        Value::ServerError(error) => Err(failed(server, error.into())),
        _ => Err(unexpected(server)),
    }
}

/// A configured secret is not written: only what it makes of a fixed name.
fn written(secret: &Secret, configured: Option<&Secret>) -> Vec<u8> {
    let (kind, bytes) = match configured {
        None => (HELD, *secret.expose()),
        Some(_) => (MARK, *secret.record_id("semel-store-redis/mark", None, None, "").as_bytes()),
    };
    [&[kind][..], &bytes].concat()
}

fn random() -> Result<Secret, StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|source| {
        error(StoreErrorKind::Unavailable, "the operating system gives no random numbers").with_source(source)
    })?;
    Ok(Secret::from_bytes(bytes))
}

fn another(server: &Server) -> StoreError {
    error(
        StoreErrorKind::Config,
        format!(
            "{server}: the records under this prefix have another secret: configure theirs, use another prefix, or \
             open the store again"
        ),
    )
}

fn damaged(server: &Server) -> StoreError {
    error(StoreErrorKind::Undecodable, format!("{server}: the secret under this prefix is damaged"))
}
