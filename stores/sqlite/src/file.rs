//! Opens a file, makes sure that it is ours, and brings its schema up to date. Writes nothing to a file that it
//! refuses.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use semel_core::identity::Secret;
use semel_core::store::{Migrated, Migration, StoreError, StoreErrorKind};

use crate::Synchronous;
use crate::checkpoint::checkpoint;
use crate::clock::{Clock, FileTime};
use crate::error::{Failure, NAME};
use crate::network;

/// `Seml`: tells our files from others' (https://www.sqlite.org/fileformat.html#application_id).
const APPLICATION_ID: i64 = 0x5365_6d6c;
/// Each takes the schema from its place in this list to the next.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];
/// A page of SQLite's, as new files have it.
const PAGE: u64 = 4096;

/// How a file is opened, each time.
#[derive(Clone, Debug)]
pub(crate) struct File {
    path: PathBuf,
    pub(crate) busy_timeout: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) most_bytes: Option<u64>,
    /// Whether to make the schema and bring it up to date.
    pub(crate) migrates: bool,
    identity: Option<Identity>,
}

/// Device and number: which file a path leads to.
type Identity = (u64, u64);

impl File {
    pub(crate) fn new(path: &Path) -> Result<Self, StoreError> {
        // Absolute, so that SQLite takes neither `:memory:` nor the empty path for anything but a name.
        let path = std::path::absolute(path).map_err(|error| refused(path, "is no path", error))?;
        Ok(Self {
            path,
            busy_timeout: Duration::from_secs(5),
            synchronous: Synchronous::default(),
            most_bytes: None,
            migrates: true,
            identity: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The version that this program writes.
    pub(crate) const fn newest() -> usize {
        MIGRATIONS.len()
    }

    /// Makes it, or brings it up to date, and says what was done.
    pub(crate) fn bring_up_to_date(
        &mut self,
        configured: Option<&Secret>,
        clock: &Clock,
        network_allowed: bool,
    ) -> Result<Migrated, StoreError> {
        self.look(network_allowed)?;
        let connection = self.connect().map_err(|error| self.cannot_open(error))?;
        let migrated = self.migrate(&connection, configured, clock)?;
        self.secret(&connection, configured)?;
        Ok(migrated)
    }

    /// Opens it for the first time, and gives the secret of its identities.
    pub(crate) fn open(
        &mut self,
        configured: Option<&Secret>,
        clock: &Clock,
        network_allowed: bool,
    ) -> Result<(Connection, Secret), StoreError> {
        self.look(network_allowed)?;
        let connection = self.connect().map_err(|error| self.cannot_open(error))?;
        self.migrate(&connection, configured, clock)?;
        self.configure(&connection).map_err(|error| Failure::new(&self.path, error).error())?;
        let secret = self.secret(&connection, configured)?;
        self.identity = identity(&self.path);
        Ok((connection, secret))
    }

    /// Fails once the path no longer leads to the file that was opened: what is written to a file that was removed
    /// is lost with this process, and its requests would run again.
    pub(crate) fn in_place(&self) -> Result<(), Failure> {
        if self.identity == identity(&self.path) {
            return Ok(());
        }
        let what = "was removed or replaced while it was open: put it back, or start again";
        Err(Failure::unavailable(&self.path, what))
    }

    /// One more connection to a file that is open already. It waits for nobody.
    pub(crate) fn another(&self) -> Result<Connection, StoreError> {
        let connection = self.connect().map_err(|error| self.cannot_open(error))?;
        self.configure(&connection)
            .and_then(|()| connection.busy_timeout(Duration::ZERO))
            .map_err(|error| Failure::new(&self.path, error).error())?;
        Ok(connection)
    }

    /// Opens it after the disk failed. What readers see then has to be on the disk before anybody is told of
    /// it, so all of the log goes into the database first: a sync that failed once proves nothing when it is
    /// repeated on the same pages.
    pub(crate) fn reopen(&self) -> Result<Connection, Failure> {
        let failure = |error| Failure::new(&self.path, error);
        self.in_place()?;
        let connection = self.connect().map_err(failure)?;
        self.configure(&connection).map_err(failure)?;
        let progress = checkpoint(&connection, "TRUNCATE").map_err(failure)?;
        if progress.blocked {
            return Err(Failure::unavailable(
                &self.path,
                "failed, and others are in the way of looking at it",
            ));
        }
        Ok(connection)
    }

    /// Looks at the file from outside.
    fn look(&self, network_allowed: bool) -> Result<(), StoreError> {
        let folder = self.path.parent().filter(|folder| folder.is_dir()).ok_or_else(|| {
            self.config("is in a folder that does not exist: make the folder, or name another")
        })?;
        if !network_allowed && let Some(name) = network::name_of(folder) {
            return Err(self.config(format!(
                "is on {name}, where SQLite's locks cannot be relied on: use a local disk, or a store on a server",
            )));
        }
        let mut head = [0; 100];
        let length = match std::fs::File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.create(),
            Err(error) => return Err(refused(&self.path, "cannot be read: check its permissions", error)),
            Ok(file) => {
                if !file.metadata().is_ok_and(|meta| meta.is_file()) {
                    return Err(self.config("is not a file: name a file, such as semel.db in that folder"));
                }
                let mut file = file.take(100);
                let mut length = 0;
                while let Ok(read @ 1..) = file.read(&mut head[length..]) {
                    length += read;
                }
                length
            }
        };
        let hot = self.path.with_added("-journal").exists();
        if length == 0 || hot {
            // New, or somebody is at this moment making it: SQLite itself will tell.
            return Ok(());
        }
        if length < head.len() || !head.starts_with(b"SQLite format 3\0") {
            return Err(self.config("is not a SQLite database: name another file"));
        }
        let id = i64::from(u32::from_be_bytes([head[68], head[69], head[70], head[71]]));
        if id != APPLICATION_ID {
            return Err(self.foreign());
        }
        Ok(())
    }

    /// Readable by its owner alone: it holds answers, and the secret. SQLite gives the log the same mode.
    fn create(&self) -> Result<(), StoreError> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(refused(&self.path, "cannot be made: check the folder's permissions", error))
            }
            _ => Ok(()),
        }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok(connection)
    }

    fn migrate(
        &self,
        connection: &Connection,
        configured: Option<&Secret>,
        clock: &Clock,
    ) -> Result<Migrated, StoreError> {
        let failure = |error: rusqlite::Error| self.cannot_open(error);
        let (version, newest) = (self.version(connection)?, MIGRATIONS.len());
        let done = |from: usize| {
            let number = |version| u32::try_from(version).unwrap_or(u32::MAX);
            Migrated::new(number(from), number(newest))
        };
        if version == newest {
            return Ok(done(version));
        }
        if !self.migrates {
            return Err(self.config(format!(
                "has schema version {version} of {newest}: run `semel migrate`, or let this program migrate it"
            )));
        }
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failure)?;
        // Somebody else may have done it while this one waited.
        let version = self.version(connection)?;
        for migration in migrations().into_iter().skip(version) {
            connection.execute_batch(&migration.sql).map_err(failure)?;
            if migration.version == 1 {
                self.first_row(connection, configured, clock)?;
            }
        }
        connection.execute_batch("COMMIT").map_err(failure)?;
        Ok(done(version))
    }

    /// The schema's version, of a file that is ours or empty.
    fn version(&self, connection: &Connection) -> Result<usize, StoreError> {
        // In one statement: between two, somebody else may make the file.
        let marks = connection.query_row(include_str!("sql/marks.sql"), (), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let (id, version, tables) = marks.map_err(|error| self.cannot_open(error))?;
        if (id, version, tables) == (0, 0, 0) {
            return Ok(0);
        }
        if id != APPLICATION_ID {
            return Err(self.foreign());
        }
        match usize::try_from(version) {
            Ok(version @ 1..) if version <= MIGRATIONS.len() => Ok(version),
            _ => Err(StoreError::new(
                NAME,
                StoreErrorKind::NewerSchema,
                self.says(format!(
                    "has schema version {version}, this program knows up to {}: update this program",
                    MIGRATIONS.len()
                )),
            )),
        }
    }

    fn first_row(
        &self,
        connection: &Connection,
        configured: Option<&Secret>,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        let made = match configured {
            Some(_) => None,
            None => Some(random_secret()?),
        };
        let mut time = FileTime::default();
        time.at(&clock.read());
        // A configured secret is not written down: without it the file is no dictionary of keys.
        let kept = made.as_ref().map(|secret| &secret.expose()[..]);
        let check = configured.or(made.as_ref()).map(check_of).unwrap_or_default();
        connection
            .execute(
                "INSERT INTO meta (one, secret, secret_check, fence, seen, boot, base) VALUES (1, ?1, ?2, 0, ?3, ?4, ?5)",
                (kept, check, time.seen, time.boot, time.base),
            )
            .map(|_| ())
            .map_err(|error| self.cannot_open(error))
    }

    fn secret(&self, connection: &Connection, configured: Option<&Secret>) -> Result<Secret, StoreError> {
        let (kept, check): (Option<Vec<u8>>, Vec<u8>) = connection
            .query_row("SELECT secret, secret_check FROM meta", (), |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|error| Failure::new(&self.path, error).error())?;
        let secret = match (configured, kept) {
            (Some(configured), _) => configured.clone(),
            (None, Some(kept)) => {
                Secret::from_slice(&kept).ok_or_else(|| self.config("has a damaged secret"))?
            }
            (None, None) => {
                return Err(self.config("was made with a configured secret: configure the same one"));
            }
        };
        if check_of(&secret) != check {
            return Err(self.config("was made with another secret: its records would not be found"));
        }
        Ok(secret)
    }

    fn configure(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mode = self.use_log(connection)?;
        if mode != "wal" {
            return Err(rusqlite::Error::InvalidParameterName("journal_mode stays ".to_owned() + &mode));
        }
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {}; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF",
            self.synchronous.word()
        ))?;
        if let Some(bytes) = self.most_bytes {
            let sql = format!("PRAGMA max_page_count = {}", (bytes / PAGE).max(1));
            connection.query_row(&sql, (), |_| Ok(()))?;
        }
        Ok(())
    }

    /// SQLite does not wait by itself for those who open the file at the same time.
    fn use_log(&self, connection: &Connection) -> rusqlite::Result<String> {
        let give_up = Instant::now() + self.busy_timeout;
        loop {
            match connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0)) {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && Instant::now() < give_up =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                answer => return answer,
            }
        }
    }

    fn cannot_open(&self, error: rusqlite::Error) -> StoreError {
        let what = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => "is not a SQLite database: name another file",
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                "cannot be written: check its permissions and its folder's"
            }
            _ => return Failure::new(&self.path, error).error(),
        };
        refused(&self.path, what, error)
    }

    fn foreign(&self) -> StoreError {
        self.config("is another program's database: name another file")
    }

    fn config(&self, what: impl std::fmt::Display) -> StoreError {
        StoreError::new(NAME, StoreErrorKind::Config, self.says(what))
    }

    fn says(&self, what: impl std::fmt::Display) -> String {
        format!("{} {what}", self.path.display())
    }
}

/// Each step of the schema, as it is run: in one transaction, with the marks of its version.
pub(crate) fn migrations() -> Vec<Migration> {
    let steps = MIGRATIONS.iter().enumerate();
    let step = |(at, sql): (usize, &&str)| {
        let version = u32::try_from(at + 1).unwrap_or(u32::MAX);
        Migration::new(version, format!("{sql}\n{};\n", marks(at + 1)))
    };
    steps.map(step).collect()
}

/// That a file is ours, and its version.
fn marks(version: usize) -> String {
    format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}")
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

fn refused(path: &Path, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Config, format!("{} {what}", path.display())).with_source(error)
}

fn random_secret() -> Result<Secret, StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::new(NAME, StoreErrorKind::Unavailable, "the system gives no random numbers")
            .with_source(error)
    })?;
    Ok(Secret::from_bytes(bytes))
}

/// A name under the secret: it tells two secrets apart and gives neither away.
fn check_of(secret: &Secret) -> Vec<u8> {
    secret.record_id("semel-store-sqlite/secret-check", None, None, "").as_bytes().to_vec()
}

trait WithAdded {
    fn with_added(&self, suffix: &str) -> PathBuf;
}

impl WithAdded for PathBuf {
    fn with_added(&self, suffix: &str) -> PathBuf {
        let mut name = self.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}
