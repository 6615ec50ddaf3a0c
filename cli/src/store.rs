//! A store from its URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use semel_core::store::{AnyStore, Migrated, Migration, StoreError, StoreErrorKind};
use semel_store_memory::MemoryStore;
#[cfg(feature = "mysql")]
use semel_store_mysql::MySqlStore;
#[cfg(feature = "postgres")]
use semel_store_postgres::PostgresStore;
#[cfg(feature = "redis")]
use semel_store_redis::RedisStore;
use semel_store_sqlite::SqliteStore;

use crate::exit::Fault;

/// The stores' own default for the largest body.
const DEFAULT_BODY: u64 = 64 << 20;

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// In this process.
    Memory,
    /// In a file.
    Sqlite(PathBuf),
    /// On a server. The URL may hold a password.
    #[cfg(feature = "redis")]
    Redis(String),
    /// In a database. The URL may hold a password.
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// In a database. The URL may hold a password.
    #[cfg(feature = "mysql")]
    MySql(String),
}

impl FromStr for StoreUrl {
    type Err = Fault;

    /// Only the scheme of an unknown URL is repeated: the rest may hold a password.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let known = known();
        let Some((scheme, rest)) = text.split_once(':') else {
            let hint = if text.is_empty() { "" } else { "; for a file write sqlite: before its path" };
            return Err(Fault::config(format!("--store: not a store URL: {known}{hint}")));
        };
        match (scheme, rest) {
            ("memory", "" | "//") => Ok(Self::Memory),
            ("memory", _) => Err(Fault::config("--store: memory: takes nothing behind its colon: remove it")),
            ("sqlite", "" | "//") => {
                Err(Fault::config("--store: sqlite: names no file: write for example sqlite:semel.db"))
            }
            // `sqlite:///var/lib/semel.db`, as some libraries write it.
            ("sqlite", path) => match path.strip_prefix("//") {
                // In a URL a host follows two slashes: `sqlite://var/lib/semel.db` means either of two files.
                Some(path) if !path.starts_with('/') => Err(Fault::config(format!(
                    "--store: sqlite://{path} could be the file /{path} or {path}: write sqlite:/{path} for the one, from \
                     the root, or sqlite:{path} for the other, from this folder"
                ))),
                path => Ok(Self::Sqlite(path.unwrap_or(rest).into())),
            },
            #[cfg(feature = "redis")]
            (
                "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
                | "rediss+cluster",
                _,
            ) => Ok(Self::Redis(text.to_owned())),
            #[cfg(feature = "postgres")]
            ("postgres" | "postgresql", _) => Ok(Self::Postgres(text.to_owned())),
            #[cfg(feature = "mysql")]
            ("mysql" | "mariadb", _) => Ok(Self::MySql(text.to_owned())),
            (scheme, _) => Err(Fault::config(format!("--store: unknown store {scheme:?}: {known}"))),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            #[cfg(feature = "redis")]
            Self::Redis(url) => f.write_str(&without_password(url)),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => f.write_str(&without_password(url)),
            #[cfg(feature = "mysql")]
            Self::MySql(url) => f.write_str(&without_password(url)),
        }
    }
}

impl StoreUrl {
    /// The store's own name, as its errors begin.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "redis")]
            Self::Redis(_) => "redis",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "mysql")]
            Self::MySql(_) => "mysql",
        }
    }
}

/// A store's URL, and which of the records there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    url: StoreUrl,
    /// The schema of a database, or the prefix of keys; `None`: the store's own default.
    #[cfg_attr(
        not(any(feature = "redis", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only stores on servers have one")
    )]
    schema: Option<String>,
}

impl Place {
    /// From `--store` and `--schema`.
    pub(crate) fn of(store: &str, schema: Option<&str>) -> Result<Self, Fault> {
        let url: StoreUrl = store.parse()?;
        let contradiction = |why| {
            let text = format!("--schema and --store {url} contradict each other: {why}; remove --schema");
            Err(Fault::config(text))
        };
        match (&url, schema) {
            (StoreUrl::Memory, Some(_)) => contradiction("it lives and dies with this process"),
            (StoreUrl::Sqlite(_), Some(_)) => {
                contradiction("a file holds one set of records: name another file")
            }
            _ => Ok(Self { url, schema: schema.map(str::to_owned) }),
        }
    }

    /// The same where the URL is not behind a flag.
    pub(crate) fn positional(store: &str, schema: Option<&str>) -> Result<Self, Fault> {
        Self::of(store, schema)
            .map_err(|fault| Fault::new(fault.exit(), fault.to_string().replace("--store", "STORE_URL")))
    }

    pub(crate) const fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Whether it is reached over a network, as a rule.
    pub(crate) const fn is_on_a_server(&self) -> bool {
        !matches!(self.url, StoreUrl::Memory | StoreUrl::Sqlite(_))
    }

    /// Opens the store, or makes it; it has to take bodies of `largest_body` bytes.
    pub(crate) fn open(&self, largest_body: usize) -> Result<AnyStore, StoreError> {
        self.open_with(DEFAULT_BODY.max(largest_body as u64), true)
    }

    /// Opens a store as it is: makes no file and changes no schema.
    pub(crate) fn open_as_it_is(&self) -> Result<AnyStore, StoreError> {
        let missing = |what| {
            let text = format!("{} {what}: give the --store that `semel proxy` was started with", self.url);
            Err(StoreError::new("sqlite", StoreErrorKind::Config, text))
        };
        if let StoreUrl::Sqlite(path) = &self.url {
            match std::fs::metadata(path) {
                Ok(file) if file.len() == 0 => return missing("is an empty file"),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return missing("does not exist");
                }
                // Of all else the store itself says what is wrong.
                _ => {}
            }
        }
        self.open_with(DEFAULT_BODY, false)
    }

    /// Opens a store that is there already, to look at its records.
    pub(crate) fn open_existing(&self) -> Result<AnyStore, Fault> {
        if self.url == StoreUrl::Memory {
            return Err(Fault::config(
                "--store: memory: lives inside a running process and cannot be looked at from here: \
                 run the proxy with --store sqlite:PATH",
            ));
        }
        Ok(self.open_as_it_is()?)
    }

    fn open_with(&self, max_body: u64, migrate: bool) -> Result<AnyStore, StoreError> {
        match &self.url {
            StoreUrl::Memory => Ok(AnyStore::new(MemoryStore::new())),
            StoreUrl::Sqlite(path) => {
                Ok(AnyStore::new(SqliteStore::builder(path).max_body(max_body).migrate(migrate).open()?))
            }
            #[cfg(feature = "redis")]
            StoreUrl::Redis(url) => {
                let mut builder = RedisStore::builder(url).max_body(max_body);
                if let Some(prefix) = &self.schema {
                    builder = builder.prefix(prefix);
                }
                Ok(AnyStore::new(builder.open_blocking()?))
            }
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(url) => {
                let builder = self.postgres(url).max_body(max_body).migrate(migrate);
                Ok(AnyStore::new(builder.open_blocking()?))
            }
            #[cfg(feature = "mysql")]
            StoreUrl::MySql(url) => {
                let builder = self.mysql(url).migrate(migrate);
                // The default is what the server's packets take.
                let builder = if max_body > DEFAULT_BODY { builder.max_body(max_body) } else { builder };
                Ok(AnyStore::new(builder.open_blocking()?))
            }
        }
    }

    /// Brings the schema up to date; `None`: it has none.
    pub(crate) fn migrate(&self) -> Result<Option<Migrated>, StoreError> {
        match &self.url {
            StoreUrl::Memory => Ok(None),
            StoreUrl::Sqlite(path) => SqliteStore::builder(path).bring_up_to_date().map(Some),
            #[cfg(feature = "redis")]
            StoreUrl::Redis(_) => Ok(None),
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(url) => self.postgres(url).bring_up_to_date_blocking().map(Some),
            #[cfg(feature = "mysql")]
            StoreUrl::MySql(url) => self.mysql(url).bring_up_to_date_blocking().map(Some),
        }
    }

    /// What [`migrate`](Self::migrate) runs, from the first version on; `None`: it has no schema.
    pub(crate) fn script(&self) -> Result<Option<String>, StoreError> {
        match &self.url {
            StoreUrl::Memory => Ok(None),
            StoreUrl::Sqlite(_) => {
                let note =
                    "-- To read: `semel migrate` also writes the row of settings, whose secret is random.\n";
                Ok(Some(note.to_owned() + &in_transactions(&SqliteStore::migrations())))
            }
            #[cfg(feature = "redis")]
            StoreUrl::Redis(_) => Ok(None),
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(_) => {
                let schema = self.schema.as_deref().unwrap_or(PostgresStore::DEFAULT_SCHEMA);
                Ok(Some(in_transactions(&PostgresStore::migrations(schema)?)))
            }
            #[cfg(feature = "mysql")]
            StoreUrl::MySql(_) => {
                let prefix = self.schema.as_deref().unwrap_or(MySqlStore::DEFAULT_PREFIX);
                // What defines a table commits by itself there.
                let step = |step: &Migration| {
                    format!("-- semel: to version {}\n{}\n", step.version, step.sql.trim_end())
                };
                Ok(Some(MySqlStore::migrations(prefix)?.iter().map(step).collect()))
            }
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self, url: &str) -> semel_store_postgres::Builder {
        let builder = PostgresStore::builder(url);
        match &self.schema {
            Some(schema) => builder.schema(schema),
            None => builder,
        }
    }

    #[cfg(feature = "mysql")]
    fn mysql(&self, url: &str) -> semel_store_mysql::Builder {
        let builder = MySqlStore::builder(url);
        match &self.schema {
            Some(prefix) => builder.prefix(prefix),
            None => builder,
        }
    }
}

/// Each step as the store runs it: as a whole, or not at all.
fn in_transactions(migrations: &[Migration]) -> String {
    let step = |step: &Migration| {
        format!("-- semel: to version {}\nBEGIN;\n{}\nCOMMIT;\n", step.version, step.sql.trim_end())
    };
    migrations.iter().map(step).collect()
}

/// Whether a store that could not be opened may be there later: it is waited for. Everything else somebody has to change.
pub(crate) const fn may_come(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Unavailable | StoreErrorKind::Timeout | StoreErrorKind::Contended)
}

/// What `--store` may say in this build.
fn known() -> String {
    let mut known = String::from("this program has sqlite:PATH (a file), ");
    if cfg!(feature = "redis") {
        known.push_str("redis://HOST:PORT/DATABASE, redis+sentinel://HOST,HOST/?service=NAME, redis+cluster://HOST,HOST, ");
    }
    if cfg!(feature = "postgres") {
        known.push_str("postgres://USER@HOST:PORT/DATABASE, ");
    }
    if cfg!(feature = "mysql") {
        known.push_str("mysql://USER@HOST:PORT/DATABASE, ");
    }
    known.push_str("memory: (lost at restart)");
    known
}

/// The user is left out with the password, and so is whatever follows the address.
#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    format!("{scheme}://{}", rest.split_once('?').map_or(rest, |(address, _)| address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn parse(text: &str) -> Result<StoreUrl, Fault> {
        text.parse()
    }

    #[test]
    fn files_in_every_spelling() {
        for (url, path) in [
            ("sqlite:semel.db", "semel.db"),
            ("sqlite:/var/lib/semel.db", "/var/lib/semel.db"),
            ("sqlite:///var/lib/semel.db", "/var/lib/semel.db"),
            ("sqlite:a:b.db", "a:b.db"),
        ] {
            assert_eq!(parse(url), Ok(StoreUrl::Sqlite(path.into())), "{url}");
        }
        assert_eq!(parse("memory:"), Ok(StoreUrl::Memory));
    }

    // Somebody's records were in a folder `var` below the one that the program was started in.
    #[test]
    fn a_file_behind_two_slashes_could_be_two_files() {
        let said = parse("sqlite://var/lib/semel.db").unwrap_err().to_string();
        assert!(said.contains("sqlite:/var/lib/semel.db for the one"), "{said}");
        assert!(said.contains("sqlite:var/lib/semel.db for the other"), "{said}");
    }

    // A password in a URL that this build does not know once ended up in a log.
    #[test]
    fn an_unknown_url_is_not_repeated() {
        let fault = parse("nosuch://semel:hunter2@db/x").unwrap_err();
        assert_eq!(fault.exit(), Exit::Config);
        assert!(fault.to_string().contains("\"nosuch\""), "{fault}");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
        assert!(!parse("hunter2").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn urls_that_name_nothing_say_what_to_write() {
        for url in ["", "semel.db", "sqlite:", "memory:x", "sqlite://semel.db"] {
            let fault = parse(url).unwrap_err();
            assert!(fault.to_string().starts_with("--store: "), "{fault}");
            assert_eq!(fault.exit(), Exit::Config);
        }
    }

    // What a flag cannot do has to be said, or somebody relies on it.
    #[test]
    fn a_schema_where_there_is_none_is_refused_and_names_both() {
        for url in ["memory:", "sqlite:semel.db"] {
            let fault = Place::of(url, Some("orders")).unwrap_err();
            assert_eq!(fault.exit(), Exit::Config);
            assert!(fault.to_string().contains("--schema") && fault.to_string().contains(url), "{fault}");
        }
        let fault = Place::positional("memory:x", None).unwrap_err();
        assert!(fault.to_string().starts_with("STORE_URL: memory:"), "{fault}");
    }

    // A statement that people run and the store does not makes two kinds of schemas.
    #[cfg(feature = "postgres")]
    #[test]
    fn what_is_printed_is_what_the_store_runs() {
        let place = Place::of("postgres://db/app", Some("orders")).unwrap();
        let script = place.script().unwrap().unwrap();
        let migrations = PostgresStore::migrations("orders").unwrap();
        assert!(!migrations.is_empty());
        for migration in migrations {
            assert!(script.contains(migration.sql.trim_end()), "version {}", migration.version);
        }
        assert!(script.contains("CREATE TABLE \"orders\".record"), "{script}");
    }

    // The banner once showed the password of the store to everybody who reads the log.
    #[cfg(feature = "redis")]
    #[test]
    fn a_password_is_not_shown() {
        for url in
            ["redis://semel:hunter2@db:6380/1", "redis://:hun@ter2@db:6380/1", "redis://db:6380/1?x=hunter2"]
        {
            assert_eq!(parse(url).unwrap().to_string(), "redis://db:6380/1");
        }
        let url = "redis+sentinel://:hunter2@a,b:5000/0?service=pay&sentinel_password=hunter2";
        assert_eq!(parse(url).unwrap().to_string(), "redis+sentinel://a,b:5000/0");
        assert_eq!(parse("rediss+cluster://:hunter2@a,b").unwrap().to_string(), "rediss+cluster://a,b");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn nor_is_that_of_a_database() {
        for url in [
            "postgres://semel:hunter2@db:5432/app",
            "postgres://semel:hun@ter2@db:5432/app?sslmode=disable",
            "postgres://db:5432/app?password=hunter2",
        ] {
            assert_eq!(parse(url).unwrap().to_string(), "postgres://db:5432/app");
        }
    }

    #[cfg(feature = "mysql")]
    #[test]
    fn nor_is_that_of_mysql() {
        for url in ["mysql://semel:hunter2@db:3306/app", "mysql://u:hun@ter2@db:3306/app?ssl-mode=REQUIRED"] {
            assert_eq!(parse(url).unwrap().to_string(), "mysql://db:3306/app");
        }
    }
}
