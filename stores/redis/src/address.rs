//! Where the servers are: what a URL says.
//!
//! ```text
//! redis[s]://[user:password@]host[:6379][/database][?…]
//! redis[s]+sentinel://[user:password@]host[:26379][,host…][/database]?service=NAME[&sentinel_user=…][&sentinel_password=…]
//! redis[s]+cluster://[user:password@]host[:6379][,host…]
//! redis+unix:///path/to/socket
//! ```

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use semel_core::store::{StoreError, StoreErrorKind};

use crate::error::error;
use crate::steps::Replicas;
use crate::tls::Tls;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// How long replicas have, where only their number is given.
const REPLICAS_WITHIN: Duration = Duration::from_secs(1);

const HOW: &str = "this is no URL of a server: write redis://[user:password@]host[:port][/database], \
    redis+sentinel://host,host/?service=NAME, or redis+cluster://host,host";

/// What a URL says.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) shape: Shape,
    pub(crate) hosts: Vec<Host>,
    /// Whom the data nodes know us as.
    pub(crate) login: Login,
    pub(crate) secure: bool,
    pub(crate) database: i64,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) files: TlsFiles,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Single,
    Sentinel { service: String, login: Login },
    Cluster,
}

/// A name and a port, or a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Files with certificates, as a URL names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authority: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// No part of the URL is repeated in an error, but for the name of a parameter: the rest may be a password.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| config(HOW))?;
        let (scheme, shape) = scheme.split_once('+').unwrap_or((scheme, ""));
        let secure = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(config(HOW)),
        };
        if shape == "unix" && !secure {
            return Self::socket(url);
        }
        // A password may hold anything but what ends the address; the last @ is the one before the hosts.
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let login = login.map(Login::parse).transpose()?.unwrap_or_default();
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() {
            0
        } else {
            database.parse().ok().filter(|database| *database >= 0).ok_or_else(|| config(HOW))?
        };
        let mut parameters = Parameters::parse(query)?;
        let shape = match shape {
            "" => Shape::Single,
            "sentinel" => Shape::Sentinel {
                service: parameters.take("service").filter(|service| !service.is_empty()).ok_or_else(|| {
                    config("a redis+sentinel:// URL has to say ?service=NAME, the name its Sentinels know the primary by")
                })?,
                login: Login {
                    user: parameters.take("sentinel_user"),
                    password: parameters.take("sentinel_password"),
                },
            },
            "cluster" if database == 0 => Shape::Cluster,
            "cluster" => return Err(config("a cluster has one database: leave the number out of its URL")),
            _ => return Err(config(HOW)),
        };
        let port = if matches!(shape, Shape::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| Host::parse(host, port)).collect::<Result<Vec<_>, _>>()?;
        if shape == Shape::Single && hosts.len() > 1 {
            return Err(config("several hosts are a redis+sentinel:// or a redis+cluster:// URL"));
        }
        let replicas = parameters.replicas()?;
        let path = |parameter: Option<String>| parameter.map(PathBuf::from);
        let files = TlsFiles {
            authority: path(parameters.take("tls_ca")),
            certificate: path(parameters.take("tls_cert")),
            key: path(parameters.take("tls_key")),
        };
        if !secure && files != TlsFiles::default() {
            return Err(config("certificates are for a rediss:// URL"));
        }
        parameters.end()?;
        Ok(Self { shape, hosts, login, secure, database, replicas, files })
    }

    fn socket(url: &str) -> Result<Self, StoreError> {
        // What the library says of a URL is not passed on: it may quote it.
        let info = url.into_connection_info().map_err(|_| config(HOW))?;
        let ConnectionAddr::Unix(path) = info.addr() else { return Err(config(HOW)) };
        let settings = info.redis_settings();
        Ok(Self {
            shape: Shape::Single,
            hosts: vec![Host::Unix(path.clone())],
            login: Login {
                user: settings.username().map(str::to_owned),
                password: settings.password().map(str::to_owned),
            },
            secure: false,
            database: settings.db(),
            replicas: None,
            files: TlsFiles::default(),
        })
    }
}

/// How to make a client of any of the hosts that a URL leads to.
#[derive(Clone)]
pub(crate) struct Maker {
    login: Login,
    database: i64,
    tls: Option<Tls>,
}

impl Maker {
    pub(crate) fn new(login: Login, database: i64, tls: Option<Tls>) -> Self {
        Self { login, database, tls }
    }

    pub(crate) fn client(&self, host: &Host) -> Result<Client, StoreError> {
        let mut settings = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.login.password {
            settings = settings.set_password(password);
        }
        let unusable = || config(format!("{host}: this is no address of a server"));
        let address = match (host, &self.tls) {
            (Host::Unix(path), _) => ConnectionAddr::Unix(path.clone()),
            (Host::Tcp(name, port), None) => ConnectionAddr::Tcp(name.clone(), *port),
            (Host::Tcp(name, port), Some(_)) => {
                ConnectionAddr::TcpTls { host: name.clone(), port: *port, insecure: false, tls_params: None }
            }
        };
        let info = address.into_connection_info().map_err(|_| unusable())?.set_redis_settings(settings);
        match &self.tls {
            None => Client::open(info).map_err(|_| unusable()),
            Some(tls) => tls.client(info),
        }
    }
}

impl Host {
    fn parse(text: &str, default: u16) -> Result<Self, StoreError> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or_else(|| config(HOW))?;
                (name, port.strip_prefix(':'))
            }
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map_or(Ok(default), str::parse).map_err(|_| config(HOW))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(config(HOW));
        }
        Ok(Self::Tcp(name.to_owned(), port))
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let (user, password) =
            text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        Ok(Self { user, password: password.map(decoded).transpose()? })
    }
}

/// What follows the question mark.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Result<Self, StoreError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name.to_owned(), decoded(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, StoreError>>()?))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(there, _)| there == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn number(&mut self, name: &str) -> Result<Option<u32>, StoreError> {
        let number =
            |text: String| text.parse().map_err(|_| config(format!("{name}= in its URL has to be a number")));
        self.take(name).map(number).transpose()
    }

    fn replicas(&mut self) -> Result<Option<Replicas>, StoreError> {
        let (count, within) = (self.number("replicas")?, self.number("replicas_ms")?);
        let within = within.map_or(REPLICAS_WITHIN, |millis| Duration::from_millis(millis.into()));
        Ok(count
            .filter(|count| *count > 0)
            .map(|count| Replicas { count: usize::try_from(count).unwrap_or(usize::MAX), within }))
    }

    /// What nobody took is a mistake, and one that goes unseen is a setting that is not in force.
    fn end(self) -> Result<(), StoreError> {
        const KNOWN: &str =
            "service, sentinel_user, sentinel_password, replicas, replicas_ms, tls_ca, tls_cert, tls_key";
        match self.0.first() {
            None => Ok(()),
            // Longer than any name: it may be a password that was not escaped.
            Some((name, _)) if name.len() > 20 => {
                Err(config(format!("its URL has a parameter that it does not know; known are {KNOWN}")))
            }
            Some((name, _)) => Err(config(format!(
                "its URL has a parameter {name:?}, which means nothing here; known are {KNOWN}"
            ))),
        }
    }
}

fn decoded(text: &str) -> Result<String, StoreError> {
    percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| config(HOW))
}

fn config(message: impl Into<String>) -> StoreError {
    error(StoreErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    fn tcp(name: &str, port: u16) -> Host {
        Host::Tcp(name.into(), port)
    }

    #[test]
    fn urls_of_every_shape() {
        let single = Address::parse("redis://semel:p%40ss@db:6380/2").unwrap();
        assert_eq!((single.shape, single.database), (Shape::Single, 2));
        assert_eq!(single.hosts, [tcp("db", 6380)]);
        assert_eq!(single.login.password.as_deref(), Some("p@ss"));
        let url =
            "rediss+sentinel://:data@a,b:5000,[::1]:5001/1?service=pay&sentinel_password=watch&replicas=2";
        let sentinel = Address::parse(url).unwrap();
        let Shape::Sentinel { service, login } = sentinel.shape else { panic!("no Sentinel") };
        assert_eq!((&*service, login.password.as_deref()), ("pay", Some("watch")));
        assert_eq!(sentinel.hosts, [tcp("a", 26379), tcp("b", 5000), tcp("::1", 5001)]);
        assert_eq!((sentinel.login.user, sentinel.login.password.as_deref()), (None, Some("data")));
        assert!(sentinel.secure && sentinel.replicas.unwrap().count == 2);
        let cluster = Address::parse("redis+cluster://a,b:7000").unwrap();
        assert_eq!((cluster.shape, cluster.hosts), (Shape::Cluster, vec![tcp("a", 6379), tcp("b", 7000)]));
        let socket = Address::parse("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(socket.hosts, [Host::Unix("/run/redis.sock".into())]);
        assert_eq!(Address::parse("redis://:a@b@db").unwrap().login.password.as_deref(), Some("a@b"));
    }

    // A parameter that is misspelt and ignored is a promise that is not kept.
    #[test]
    fn what_a_url_gets_wrong_is_said_without_its_password() {
        for (url, says) in [
            ("redis://:hunter2@a,b", "several hosts"),
            ("redis+sentinel://:hunter2@a", "?service=NAME"),
            ("redis+cluster://:hunter2@a/3", "one database"),
            ("redis+cloud://:hunter2@a", "no URL of a server"),
            ("redis://:hunter2@a?replica=1", "\"replica\""),
            ("redis://:hunter2@a?replicas=one", "replicas= in its URL"),
            ("redis://a/0?tls_ca=/ca.pem", "rediss://"),
            ("redis://:hunter2@a:99999", "no URL of a server"),
            ("redis://:hunter2@", "no URL of a server"),
            ("hunter2", "no URL of a server"),
        ] {
            let Err(error) = Address::parse(url) else { panic!("{url}") };
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
