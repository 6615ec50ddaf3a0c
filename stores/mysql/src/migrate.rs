//! Brings the tables up to date, gives them their secret, and refuses what is not ours or newer.

use std::time::Duration;

use semel_core::identity::Secret;
use semel_core::store::{Migrated, Migration, StoreErrorKind};
use semel_store_kit::random;
use semel_store_kit::shape::told;

use crate::connect::Session;
use crate::desk::Step;
use crate::error::{Fault, NAME, Place, number};
use crate::exam::Server;
use crate::row::{bytes, long};
use crate::shape::{TABLES, differences};
use crate::sql::{Clock, Names, hex, maybe_hex};

/// How long opening may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);
/// How long one instance waits for another one's migration, in seconds.
const LOCK: u32 = 25;

/// Each brings the tables from the version before it to its own.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001_records.sql"), include_str!("../migrations/0002_marks.sql")];

/// For tests: the clock that they move.
const SHIFTED: &str = "
CREATE TABLE IF NOT EXISTS {p}shift (one TINYINT NOT NULL PRIMARY KEY, ahead BIGINT NOT NULL) ENGINE=InnoDB;
INSERT INTO {p}shift (one, ahead) VALUES (1, 0) ON DUPLICATE KEY UPDATE ahead = ahead";

/// Those of a prefix, from its first version.
pub(crate) fn migrations(names: &Names) -> Vec<Migration> {
    (1..).zip(MIGRATIONS).map(|(version, sql)| Migration::new(version, names.write(sql))).collect()
}

/// What opening needs to know.
pub(crate) struct Opening {
    pub(crate) clock: Clock,
    pub(crate) migrate: bool,
    pub(crate) secret: Option<Secret>,
    /// `None`: what the server takes.
    pub(crate) max_body: Option<u64>,
    pub(crate) place: Place,
}

/// What was found.
pub(crate) struct Opened {
    pub(crate) secret: Secret,
    pub(crate) server: Server,
    pub(crate) max_body: u64,
}

impl Opening {
    fn refuse<T>(&self, kind: StoreErrorKind, what: impl AsRef<str>) -> Result<T, Fault> {
        Err(Fault::Refused(self.place.error(kind, what)))
    }
}

pub(crate) fn open<'s>(session: &'s mut Session, opening: &'s Opening) -> Step<'s, Opened> {
    Box::pin(async move {
        let newest = MIGRATIONS.len();
        let found = version(session, opening).await?;
        let found = if found < newest && opening.migrate { migrate(session, opening).await? } else { found };
        let prefix = session.names.prefix().to_owned();
        if found > newest {
            let what = format!(
                "the tables {prefix}* have version {found} and this program knows {newest}: update this program"
            );
            return opening.refuse(StoreErrorKind::NewerSchema, what);
        }
        if found < newest {
            let what = format!(
                "the tables {prefix}* have version {found} of {newest}: run `semel migrate`, or let this program run the migrations"
            );
            return opening.refuse(StoreErrorKind::Config, what);
        }
        if opening.clock == Clock::Shifted {
            locked(session, opening, SHIFTED).await?;
        }
        let server = Server::ask(session).await?;
        if let Some(what) = server.is_unfit() {
            return opening.refuse(StoreErrorKind::Config, what);
        }
        check_shape(session, opening).await?;
        check_rights(session, opening).await?;
        let fits = server.largest_body();
        let max_body = match opening.max_body {
            Some(most) if most > fits => {
                let what = format!(
                    "bodies of {most} bytes do not fit into its max_allowed_packet of {}: raise that, or keep at most \
                     {fits}",
                    server.packet
                );
                return opening.refuse(StoreErrorKind::Config, what);
            }
            Some(most) => most,
            None => fits,
        };
        Ok(Opened { secret: secret(session, opening).await?, server, max_body })
    })
}

/// The schema alone, for those who migrate before they start anything.
pub(crate) fn bring_up_to_date<'s>(session: &'s mut Session, opening: &'s Opening) -> Step<'s, Migrated> {
    Box::pin(async move {
        let from = version(session, opening).await?;
        let to = if from < MIGRATIONS.len() { migrate(session, opening).await? } else { from };
        if to > MIGRATIONS.len() {
            return opening.refuse(StoreErrorKind::NewerSchema, "the tables are newer than this program");
        }
        let number = |version: usize| u32::try_from(version).unwrap_or(u32::MAX);
        Ok(Migrated::new(number(from), number(to)))
    })
}

/// 0: there is none.
async fn version(session: &mut Session, opening: &Opening) -> Result<usize, Fault> {
    let rows = match session.script("SELECT version FROM {p}meta WHERE one = 1").await {
        Ok(rows) => rows,
        Err(Fault::Sqlx(error)) if number(&error) == Some(1146) => {
            return none_yet(session, opening).await.map(|()| 0);
        }
        Err(Fault::Sqlx(error)) if number(&error) == Some(1054) => {
            return opening.refuse(
                StoreErrorKind::Config,
                format!("the table {}meta is not one of ours: choose another prefix", session.names.prefix()),
            );
        }
        Err(fault) => return Err(fault),
    };
    let version = rows.first().map(|row| long(row, 0)).transpose()?.flatten().unwrap_or(0);
    if rows.is_empty() {
        no_row(session, opening).await?;
    }
    Ok(usize::try_from(version).unwrap_or(0))
}

/// A first migration that was cut off leaves no row either, but no records.
async fn no_row(session: &mut Session, opening: &Opening) -> Result<(), Fault> {
    match session.script("SELECT 1 FROM {p}record LIMIT 1").await {
        Err(Fault::Sqlx(error)) if number(&error) == Some(1146) => Ok(()),
        Err(fault) => Err(fault),
        Ok(rows) if rows.is_empty() => Ok(()),
        Ok(_) => {
            let p = session.names.prefix();
            let what = format!(
                "table {p}meta is empty, which holds the secret by which records are found, and {p}record has some: \
                 restore its row from a backup"
            );
            opening.refuse(StoreErrorKind::Config, what)
        }
    }
}

/// Tables that were made anew would come with another secret, under which no record of before is found: their keys would
/// run a second time.
async fn none_yet(session: &mut Session, opening: &Opening) -> Result<(), Fault> {
    match session.script("SELECT 1 FROM {p}record WHERE 1 = 0").await {
        // 1142: whoever has rights on single tables is not told which there are.
        Err(Fault::Sqlx(error)) if matches!(number(&error), Some(1146 | 1142)) => Ok(()),
        Err(fault) => Err(fault),
        Ok(_) => {
            let p = session.names.prefix();
            let what = format!(
                "table {p}meta is missing, which holds the secret by which records are found, and {p}record is there: \
                 restore it from a backup"
            );
            opening.refuse(StoreErrorKind::Config, what)
        }
    }
}

/// Refuses tables that lack something, and names every difference with the statement that mends it. What is there beside is
/// nobody's concern, as long as it hinders no claim.
async fn check_shape(session: &mut Session, opening: &Opening) -> Result<(), Fault> {
    let names = session.names.clone();
    let found = differences(&mut session.connection, &names, TABLES).await?;
    match told(&format!("the schema of the tables {}*", names.prefix()), &found) {
        None => Ok(()),
        Some(what) => opening.refuse(StoreErrorKind::Config, what),
    }
}

/// Whoever comes second waits for the first, and then finds its work done. A step that was cut off is run again.
async fn migrate(session: &mut Session, opening: &Opening) -> Result<usize, Fault> {
    lock(session, opening).await?;
    let done = async {
        let mut at = version(session, opening).await?;
        for sql in MIGRATIONS.iter().skip(at) {
            session.script(sql).await.map_err(|fault| may_not(fault, opening))?;
            at += 1;
        }
        Ok(at)
    }
    .await;
    unlock(session).await?;
    done
}

async fn locked(session: &mut Session, opening: &Opening, sql: &str) -> Result<(), Fault> {
    lock(session, opening).await?;
    let done = session.script(sql).await.map(|_| ());
    unlock(session).await?;
    done
}

/// A name of at most 64 characters, of this database and prefix.
const NAME_OF_LOCK: &str = "CONCAT('semel ', MD5(CONCAT(DATABASE(), '.{p}')))";

async fn lock(session: &mut Session, opening: &Opening) -> Result<(), Fault> {
    let rows = session.script(&format!("SELECT GET_LOCK({NAME_OF_LOCK}, {LOCK})")).await?;
    if rows.first().map(|row| long(row, 0)).transpose()?.flatten() == Some(1) {
        return Ok(());
    }
    opening.refuse(StoreErrorKind::Timeout, "another instance has been migrating for too long")
}

async fn unlock(session: &mut Session) -> Result<(), Fault> {
    session.script(&format!("SELECT RELEASE_LOCK({NAME_OF_LOCK})")).await.map(|_| ())
}

fn may_not(fault: Fault, opening: &Opening) -> Fault {
    match fault {
        Fault::Sqlx(error) if matches!(number(&error), Some(1142 | 1044)) => {
            let what = "this user may not make the tables: grant CREATE on the database, or run the migrations as \
                        somebody who may";
            Fault::Refused(opening.place.error(StoreErrorKind::Config, what).with_source(error))
        }
        fault => fault,
    }
}

/// Before the first payment, not at it. None of them finds a row.
async fn check_rights(session: &mut Session, opening: &Opening) -> Result<(), Fault> {
    let tried = "INSERT INTO {p}record SELECT * FROM {p}record WHERE 1 = 0;
        UPDATE {p}record SET due = due WHERE 1 = 0; DELETE FROM {p}record WHERE 1 = 0;
        INSERT INTO {p}fence SELECT * FROM {p}fence WHERE 1 = 0; DELETE FROM {p}fence WHERE 1 = 0;
        INSERT INTO {p}slot SELECT * FROM {p}slot WHERE 1 = 0; UPDATE {p}slot SET n = n WHERE 1 = 0;
        UPDATE {p}meta SET version = version WHERE 1 = 0";
    match session.script(tried).await {
        Err(Fault::Sqlx(error)) if matches!(number(&error), Some(1142 | 1143)) => {
            let p = session.names.prefix();
            let what = format!(
                "this user has not the rights it needs: GRANT SELECT, INSERT, UPDATE, DELETE ON {p}record, SELECT, \
                 INSERT, DELETE ON {p}fence, SELECT, INSERT, UPDATE ON {p}slot, and SELECT, UPDATE ON {p}meta"
            );
            Err(Fault::Refused(opening.place.error(StoreErrorKind::Config, what).with_source(error)))
        }
        other => other.map(|_| ()),
    }
}

/// Made by whoever is first, by compare-and-set; or the configured one, which is not written down.
async fn secret(session: &mut Session, opening: &Opening) -> Result<Secret, Fault> {
    let refuse = |what: &str| opening.refuse(StoreErrorKind::Config, what);
    let Kept { secret: mut kept, mut check, has_records } = kept_secret(session).await?;
    if check.is_none() {
        let made = match (&opening.secret, &kept) {
            // Its check alone is lost: another secret would find no record, and their keys would run again.
            (None, Some(kept)) => match Secret::from_slice(kept) {
                Some(secret) => Some(secret),
                None => return refuse("the tables have a damaged secret"),
            },
            (Some(_), Some(_)) => return refuse("the tables have a secret of their own: configure none"),
            (Some(_), None) => None,
            (None, None) if has_records => {
                return refuse(
                    "the tables have lost their secret, and there are records: restore it from a backup",
                );
            }
            (None, None) => Some(Secret::from_bytes(random(NAME).map_err(Fault::Refused)?)),
        };
        let check_of_it = opening.secret.as_ref().or(made.as_ref()).map(check_of).unwrap_or_default();
        let text = format!(
            "UPDATE {{p}}meta SET secret = {}, secret_check = {} WHERE one = 1 AND secret_check IS NULL",
            maybe_hex(made.as_ref().map(|secret| &secret.expose()[..])),
            hex(&check_of_it),
        );
        session.script(&text).await?;
        Kept { secret: kept, check, .. } = kept_secret(session).await?;
    }
    let secret = match (&opening.secret, kept) {
        (Some(configured), _) => configured.clone(),
        (None, Some(kept)) => match Secret::from_slice(&kept) {
            Some(secret) => secret,
            None => return refuse("the tables have a damaged secret"),
        },
        (None, None) => {
            return refuse("the tables were made with a configured secret: configure the same one");
        }
    };
    if check.as_deref() != Some(&check_of(&secret)[..]) {
        return refuse("the tables were made with another secret: their records would not be found");
    }
    Ok(secret)
}

/// What is written down of the secret.
struct Kept {
    secret: Option<Vec<u8>>,
    check: Option<Vec<u8>>,
    has_records: bool,
}

async fn kept_secret(session: &mut Session) -> Result<Kept, Fault> {
    // By one statement: another instance that opens it meanwhile has written its secret before its first record.
    let text = "SELECT secret, secret_check, (SELECT id FROM {p}record LIMIT 1) FROM {p}meta WHERE one = 1";
    let rows = session.script(text).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Kept { secret: bytes(row, 0)?, check: bytes(row, 1)?, has_records: bytes(row, 2)?.is_some() })
}

/// A name under the secret: it tells two secrets apart and gives neither away.
fn check_of(secret: &Secret) -> Vec<u8> {
    secret.record_id("semel-store-mysql/secret-check", None, None, "").as_bytes().to_vec()
}
