//! Brings a schema up to date, gives it its secret, and refuses what is not ours or newer.

use semel_core::identity::Secret;
use semel_core::store::{Migrated, Migration, StoreErrorKind};
use semel_store_kit::random;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::desk::Connections;
use crate::error::{Fault, NAME, Place};
use crate::row::bytes;
use crate::session::{Arg, Session, written};
use crate::sql::{Clock, Schema};

/// Each brings a schema from the version before it to its own.
///
/// A step only adds: programs that know the version before it go on. One that takes away what a program of version `n`
/// uses, once no such program runs any more, sets `meta.oldest` to `n + 1`.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001_records.sql"), include_str!("../migrations/0002_principal.sql")];

/// For tests: the clock that they move.
const SHIFTED: &str = "
CREATE TABLE IF NOT EXISTS {schema}.shift (one boolean PRIMARY KEY DEFAULT true CHECK (one), by interval NOT NULL);
INSERT INTO {schema}.shift (by) VALUES (interval '0') ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION {schema}.shifted_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT clock_timestamp() + by FROM {schema}.shift';";

/// Those of a schema, from its first version.
pub(crate) fn migrations(schema: &Schema) -> Vec<Migration> {
    (1..).zip(MIGRATIONS).map(|(version, sql)| Migration::new(version, schema.write(sql))).collect()
}

/// What opening a schema needs to know.
pub(crate) struct Opening {
    pub(crate) schema: Schema,
    pub(crate) clock: Clock,
    pub(crate) migrate: bool,
    pub(crate) secret: Option<Secret>,
}

impl Connections {
    /// Makes the schema ready and gives its secret.
    pub(crate) async fn open(&self, session: &mut Session, opening: &Opening) -> Result<Secret, Fault> {
        self.look(session).await?;
        let newest = MIGRATIONS.len();
        let mut found = find(&mut session.connection, &opening.schema, &self.place).await?;
        if found.version < newest && opening.migrate {
            migrate(&mut session.connection, &opening.schema, &self.place)
                .await
                .map_err(|fault| self.may_not_migrate(fault, opening))?;
            // Whoever was waited for may be newer than this program.
            found = find(&mut session.connection, &opening.schema, &self.place).await?;
        }
        self.known(&opening.schema, &found)?;
        if found.version < newest {
            let (name, version) = (opening.schema.name(), found.version);
            let what = format!(
                "schema {name} has version {version} of {newest}: run `semel migrate`, or let this program run the migrations"
            );
            return Err(Fault::Refused(self.place.error(StoreErrorKind::Config, what)));
        }
        if opening.clock == Clock::Shifted {
            let text = format!("BEGIN; {}; {SHIFTED} COMMIT", lock(&opening.schema));
            session.script(&opening.schema.write(&text)).await?;
        }
        self.check_shape(session, &opening.schema).await?;
        self.check_rights(session, &opening.schema).await?;
        self.secret(session, opening).await
    }

    /// Brings the schema up to date and does nothing else.
    pub(crate) async fn migrate(&self, session: &mut Session, opening: &Opening) -> Result<Migrated, Fault> {
        self.look(session).await?;
        let migrated = migrate(&mut session.connection, &opening.schema, &self.place)
            .await
            .map_err(|fault| self.may_not_migrate(fault, opening))?;
        let found = find(&mut session.connection, &opening.schema, &self.place).await?;
        self.known(&opening.schema, &found)?;
        Ok(migrated)
    }

    /// Refuses a schema that says that programs of this version do not know it.
    fn known(&self, schema: &Schema, found: &Found) -> Result<(), Fault> {
        let (name, newest, version) = (schema.name(), MIGRATIONS.len(), found.version);
        if version <= newest || found.oldest <= newest {
            return Ok(());
        }
        let what = format!(
            "schema {name} has version {version} and this program knows {newest}: update this program"
        );
        Err(Fault::Refused(self.place.error(StoreErrorKind::NewerSchema, what)))
    }

    fn may_not_migrate(&self, fault: Fault, opening: &Opening) -> Fault {
        match fault {
            Fault::Sqlx(error)
                if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("42501")) =>
            {
                let what = format!(
                    "this user may not make or change schema {}: grant CREATE on the database, or run the \
                     migrations as its owner",
                    opening.schema.name()
                );
                Fault::Refused(self.place.error(StoreErrorKind::Config, what).with_source(error))
            }
            fault => fault,
        }
    }

    /// Before the first payment, not at it.
    async fn check_rights(&self, session: &mut Session, schema: &Schema) -> Result<(), Fault> {
        let text = schema.write(
            "SELECT has_table_privilege(r, 'SELECT') AND has_table_privilege(r, 'INSERT')
                AND has_table_privilege(r, 'UPDATE') AND has_table_privilege(r, 'DELETE')
                AND has_sequence_privilege('{schema}.fence'::regclass, 'USAGE')
            FROM CAST('{schema}.record' AS regclass) AS r",
        );
        let may = session.script(&text).await?.first().map(|row| row.try_get::<bool, _>(0)).transpose()?;
        if may == Some(true) {
            return Ok(());
        }
        let name = schema.name();
        Err(Fault::Refused(self.place.error(
            StoreErrorKind::Config,
            format!(
                "this user has not the rights it needs: GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.record, \
                 SELECT, UPDATE ON {name}.meta, and USAGE ON SEQUENCE {name}.fence"
            ),
        )))
    }

    /// Made by whoever is first, by compare-and-set; or the configured one, which is not written down.
    async fn secret(&self, session: &mut Session, opening: &Opening) -> Result<Secret, Fault> {
        let refuse = |what: &str| {
            let what = format!("schema {} {what}", opening.schema.name());
            Err(Fault::Refused(self.place.error(StoreErrorKind::Config, what)))
        };
        let Kept { secret: mut kept, mut check, has_records } = kept_secret(session, &opening.schema).await?;
        if check.is_none() {
            let made = match (&opening.secret, &kept) {
                // Its check alone is lost: another secret would find no record, and their keys would run again.
                (None, Some(kept)) => match Secret::from_slice(kept) {
                    Some(secret) => Some(secret),
                    None => return refuse("has a damaged secret"),
                },
                (Some(_), Some(_)) => return refuse("has a secret of its own: configure none"),
                (Some(_), None) => None,
                (None, None) if has_records => {
                    return refuse(&format!("has lost the row in table meta, {SECRET_IS_LOST}"));
                }
                (None, None) => Some(Secret::from_bytes(random(NAME).map_err(Fault::Refused)?)),
            };
            let check_of_it = opening.secret.as_ref().or(made.as_ref()).map(check_of).unwrap_or_default();
            let text = opening.schema.write(
                "UPDATE {schema}.meta SET secret = $1::bytea, secret_check = $2::bytea WHERE secret_check IS NULL",
            );
            let args = [
                Arg::Bytes(made.as_ref().map(|secret| &secret.expose()[..])),
                Arg::Bytes(Some(&check_of_it)),
            ];
            session.script(&format!("SET LOCAL synchronous_commit = on; {}", written(&text, &args))).await?;
            Kept { secret: kept, check, .. } = kept_secret(session, &opening.schema).await?;
        }
        let secret = match (&opening.secret, kept) {
            (Some(configured), _) => configured.clone(),
            (None, Some(kept)) => match Secret::from_slice(&kept) {
                Some(secret) => secret,
                None => return refuse("has a damaged secret"),
            },
            (None, None) => return refuse("was made with a configured secret: configure the same one"),
        };
        if check.as_deref() != Some(&check_of(&secret)[..]) {
            return refuse("was made with another secret: its records would not be found");
        }
        Ok(secret)
    }
}

/// Asks the catalog itself: a look-up by name may answer from before a wait for the lock.
const THERE: &str =
    "SELECT coalesce(bool_or(c.relname = 'meta'), false), coalesce(bool_or(c.relname = 'record'), false)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = '{name}' AND c.relkind <> 'i'";

const SECRET_IS_LOST: &str =
    "which holds the secret by which records are found, and record is there: restore it from a backup";

/// What a schema says of itself.
struct Found {
    /// 0: there is none.
    version: usize,
    /// What a program has to know at least.
    oldest: usize,
}

async fn find(connection: &mut PgConnection, schema: &Schema, place: &Place) -> Result<Found, Fault> {
    let there = first(connection, schema.write(THERE)).await?.ok_or(sqlx::Error::RowNotFound)?;
    let refuse = |what: String| {
        let what = format!("schema {}: {what}", schema.name());
        Err(Fault::Refused(place.error(StoreErrorKind::Config, what)))
    };
    // Made anew, it would come with another secret, under which no record of before is found: their keys would run again.
    let (meta, record) = (there.try_get::<bool, _>(0)?, there.try_get::<bool, _>(1)?);
    if record && !meta {
        return refuse(format!("table meta is missing, {SECRET_IS_LOST}"));
    }
    if !meta {
        return Ok(Found { version: 0, oldest: 0 });
    }
    // Version 1 has no such column.
    let text = "SELECT version, (to_jsonb(m) ->> 'oldest')::integer FROM {schema}.meta AS m";
    let Some(row) = first(connection, schema.write(text)).await? else {
        return refuse(format!("table meta is empty, {SECRET_IS_LOST}"));
    };
    let number = |at: usize| {
        let number = row.try_get::<Option<i32>, _>(at)?;
        Ok::<_, sqlx::Error>(number.and_then(|number| usize::try_from(number).ok()))
    };
    let Some(version) = number(0)? else {
        let what = format!("schema {} is not one of ours: choose another name for it", schema.name());
        return Err(Fault::Refused(place.error(StoreErrorKind::Config, what)));
    };
    Ok(Found { version, oldest: number(1)?.unwrap_or(version) })
}

async fn first(connection: &mut PgConnection, text: String) -> Result<Option<PgRow>, Fault> {
    Ok(sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await?.into_iter().next())
}

/// Whoever comes second waits for the first, and then finds its work done. What fails is rolled back as a whole.
async fn migrate(connection: &mut PgConnection, schema: &Schema, place: &Place) -> Result<Migrated, Fault> {
    let mut open = connection.begin().await?;
    first(&mut open, lock(schema)).await?;
    let version = find(&mut open, schema, place).await?.version;
    let from = u32::try_from(version).unwrap_or(u32::MAX);
    let mut to = from;
    for migration in migrations(schema).into_iter().skip(version) {
        first(&mut open, migration.sql).await?;
        to = migration.version;
    }
    open.commit().await?;
    Ok(Migrated::new(from, to))
}

fn lock(schema: &Schema) -> String {
    format!(
        "SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = 0; \
         SELECT pg_advisory_xact_lock(hashtextextended('semel migration {}', 0))",
        schema.name()
    )
}

/// What is written down of the secret.
struct Kept {
    secret: Option<Vec<u8>>,
    check: Option<Vec<u8>>,
    has_records: bool,
}

async fn kept_secret(session: &mut Session, schema: &Schema) -> Result<Kept, Fault> {
    // By one statement: another instance that opens it meanwhile has written its secret before its first record.
    let text = "SELECT secret, secret_check, (SELECT id FROM {schema}.record LIMIT 1) FROM {schema}.meta";
    let rows = session.script(&schema.write(text)).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Kept { secret: bytes(row, 0)?, check: bytes(row, 1)?, has_records: bytes(row, 2)?.is_some() })
}

/// A name under the secret: it tells two secrets apart and gives neither away.
fn check_of(secret: &Secret) -> Vec<u8> {
    secret.record_id("semel-store-postgres/secret-check", None, None, "").as_bytes().to_vec()
}
