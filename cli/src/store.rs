//! A store from its URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use semel_core::store::AnyStore;
use semel_store_memory::MemoryStore;
#[cfg(feature = "postgres")]
use semel_store_postgres::PostgresStore;
#[cfg(feature = "redis")]
use semel_store_redis::RedisStore;
use semel_store_sqlite::SqliteStore;

use crate::exit::{Exit, Fault};

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
            ("sqlite", path) => Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into())),
            #[cfg(feature = "redis")]
            (
                "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
                | "rediss+cluster",
                _,
            ) => Ok(Self::Redis(text.to_owned())),
            #[cfg(feature = "postgres")]
            ("postgres" | "postgresql", _) => Ok(Self::Postgres(text.to_owned())),
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
        }
    }
}

impl StoreUrl {
    /// Opens the store, or makes it; it has to take bodies of `largest_body` bytes.
    pub(crate) fn open(&self, largest_body: usize) -> Result<AnyStore, Fault> {
        match self {
            Self::Memory => Ok(AnyStore::new(MemoryStore::new())),
            Self::Sqlite(path) => {
                let most = DEFAULT_BODY.max(largest_body as u64);
                Ok(AnyStore::new(SqliteStore::builder(path).max_body(most).open()?))
            }
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                let most = DEFAULT_BODY.max(largest_body as u64);
                Ok(AnyStore::new(RedisStore::builder(url).max_body(most).open_blocking()?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let most = DEFAULT_BODY.max(largest_body as u64);
                Ok(AnyStore::new(PostgresStore::builder(url).max_body(most).open_blocking()?))
            }
        }
    }

    /// Opens a store that is there already, to look at its records.
    pub(crate) fn open_existing(&self) -> Result<AnyStore, Fault> {
        let missing = |what| {
            let text =
                format!("--store: {self} {what}: give the --store that `semel proxy` was started with");
            Fault::new(Exit::Store, text)
        };
        match self {
            Self::Memory => Err(Fault::config(
                "--store: memory: lives inside a running process and cannot be looked at from here: \
                 run the proxy with --store sqlite:PATH",
            )),
            Self::Sqlite(path) => match std::fs::metadata(path) {
                Ok(file) if file.len() == 0 => Err(missing("is an empty file")),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing("does not exist")),
                // Of all else the store itself says what is wrong.
                _ => self.open(0),
            },
            #[cfg(feature = "redis")]
            Self::Redis(_) => self.open(0),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                Ok(AnyStore::new(PostgresStore::builder(url).migrate(false).open_blocking()?))
            }
        }
    }
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
    known.push_str("memory: (lost at restart)");
    known
}

/// The user is left out with the password, and so is whatever follows the address.
#[cfg(any(feature = "redis", feature = "postgres"))]
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    format!("{scheme}://{}", rest.split_once('?').map_or(rest, |(address, _)| address))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for url in ["", "semel.db", "sqlite:", "memory:x"] {
            let fault = parse(url).unwrap_err();
            assert!(fault.to_string().starts_with("--store: "), "{fault}");
            assert_eq!(fault.exit(), Exit::Config);
        }
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
}
