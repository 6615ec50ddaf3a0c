//! What a gateway can be told.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, Scheme};

/// Everything a gateway can be told. [`GatewayConfig::new`] fills in the defaults.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// Where clients connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where `/healthz` and `/readyz` are answered; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// The application.
    pub upstream: UpstreamUrl,
    /// How many threads serve connections, each with a runtime and connections to the application of its own.
    /// By default as many as there are cores.
    pub workers: NonZeroUsize,
    /// Sizes and counts.
    pub limits: Limits,
    /// Durations.
    pub timeouts: Timeouts,
    /// Which `Host` the application sees.
    pub host: HostPolicy,
    /// What becomes of `Forwarded` and `X-Forwarded-*`.
    pub forwarded: ForwardedPolicy,
}

/// Bounds on sizes and counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of clients at once, over all workers; more wait in the kernel's queue. Default 10,000.
    pub connections: usize,
    /// Bytes of a request's or an answer's head. Default 64 KiB, at least 8 KiB.
    pub header_bytes: usize,
    /// Fields of a request's or an answer's head. Default 100.
    pub headers: usize,
    /// Requests of one HTTP/2 connection at once. Default 100.
    pub http2_streams: u32,
    /// Requests to the application at once, a worker; more are answered 503. Default 4096.
    pub upstream_requests: usize,
    /// Idle connections to the application that are kept, a worker. Default 256.
    pub upstream_idle: usize,
}

/// Bounds on time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Resolving the application's name and connecting to it. Default 3 s.
    pub connect: Duration,
    /// From the end of a request to the head of its answer, and for a request body that stands still. Default
    /// 60 s.
    pub response: Duration,
    /// An answer's body that stands still. Default 60 s.
    pub body_idle: Duration,
    /// From the first byte of a request's head to its last. Default 10 s.
    pub header_read: Duration,
    /// A client's connection without a request. Default 75 s.
    pub keep_alive: Duration,
    /// An idle connection to the application. Default 4 s, since many applications close theirs after 5.
    pub upstream_idle: Duration,
    /// How long running requests may take to end after a shutdown began. Default 30 s.
    pub shutdown: Duration,
}

/// Which `Host` the application sees.
// Exhaustive: no third thing could be sent.
#[allow(clippy::exhaustive_enums)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's.
    #[default]
    Preserve,
    /// The upstream URL's.
    Upstream,
}

/// What becomes of `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedPolicy {
    /// Those of the client are removed, and the gateway's own are set: any client can forge them.
    #[default]
    Replace,
    /// The gateway's own are appended to those that arrive: another trusted proxy stands in front.
    Append,
    /// Those that arrive go on unchanged.
    Keep,
}

/// The application's address: `http://host[:port][/base]`, or `h2c://…` for HTTP/2 with prior knowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub(crate) authority: Authority,
    pub(crate) host_field: HeaderValue,
    pub(crate) protocol: Protocol,
    /// Without a slash at its end.
    pub(crate) base: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A setting cannot be used. The text names the setting and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The upstream's URL does not parse.
    #[error("upstream: {0:?} is not a URL; write http://host:port, for example http://127.0.0.1:3000")]
    UpstreamUrl(String),
    /// The upstream's URL has a scheme that is not supported.
    #[error("upstream: scheme {0:?} is not supported; use http:// for HTTP/1.1 or h2c:// for HTTP/2")]
    UpstreamScheme(String),
    /// The upstream's URL has parts that mean nothing here.
    #[error("upstream: {0} in the URL is not used; remove it")]
    UpstreamPart(&'static str),
    /// A limit that would stop all work.
    #[error("{setting}: {value} is too small; use at least {least}")]
    TooSmall {
        /// The setting's name.
        setting: &'static str,
        /// What it was set to.
        value: usize,
        /// What it has to be at least.
        least: usize,
    },
    /// Clients and operators would connect to one address.
    #[error("listen and admin are both {0}: give admin another port, or none")]
    SameAddress(SocketAddr),
    /// A duration of nothing.
    #[error("{0}: must be longer than nothing; write for example 10s")]
    ZeroDuration(&'static str),
}

impl GatewayConfig {
    /// The defaults before this application.
    pub fn new(upstream: UpstreamUrl) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            upstream,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            host: HostPolicy::default(),
            forwarded: ForwardedPolicy::default(),
        }
    }

    /// Names the first setting that cannot be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |setting, value, least| {
            if value < least { Err(ConfigError::TooSmall { setting, value, least }) } else { Ok(()) }
        };
        if self.admin == Some(self.listen) && self.listen.port() != 0 {
            return Err(ConfigError::SameAddress(self.listen));
        }
        at_least("limits.connections", self.limits.connections, 1)?;
        at_least("limits.header_bytes", self.limits.header_bytes, 8192)?;
        at_least("limits.headers", self.limits.headers, 1)?;
        at_least("limits.upstream_requests", self.limits.upstream_requests, 1)?;
        if self.limits.http2_streams == 0 {
            return Err(ConfigError::TooSmall { setting: "limits.http2_streams", value: 0, least: 1 });
        }
        for (setting, duration) in [
            ("timeouts.connect", self.timeouts.connect),
            ("timeouts.response", self.timeouts.response),
            ("timeouts.body_idle", self.timeouts.body_idle),
            ("timeouts.header_read", self.timeouts.header_read),
            ("timeouts.keep_alive", self.timeouts.keep_alive),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::ZeroDuration(setting));
            }
        }
        Ok(())
    }
}

impl Limits {
    /// What the parser takes when nothing is set. Setting it costs an allocation a message.
    pub(crate) const PARSER_HEADERS: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 64 * 1024,
            headers: Self::PARSER_HEADERS,
            http2_streams: 100,
            upstream_requests: 4096,
            upstream_idle: 256,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response: Duration::from_mins(1),
            body_idle: Duration::from_mins(1),
            header_read: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            upstream_idle: Duration::from_secs(4),
            shutdown: Duration::from_secs(30),
        }
    }
}

impl std::str::FromStr for UpstreamUrl {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let unparsable = || ConfigError::UpstreamUrl(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(unparsable)?;
        let protocol = match scheme {
            "http" => Protocol::Http1,
            "h2c" => Protocol::Http2,
            other => return Err(ConfigError::UpstreamScheme(other.to_owned())),
        };
        if rest.contains('#') {
            return Err(ConfigError::UpstreamPart("a fragment"));
        }
        let uri: http::Uri = format!("http://{rest}").parse().map_err(|_| unparsable())?;
        let authority = uri.authority().ok_or_else(unparsable)?.clone();
        if authority.as_str().contains('@') {
            return Err(ConfigError::UpstreamPart("a user name"));
        }
        if authority.host().is_empty() || (authority.as_str().ends_with(':')) {
            return Err(unparsable());
        }
        if uri.query().is_some() {
            return Err(ConfigError::UpstreamPart("a query"));
        }
        let host_field = HeaderValue::from_str(authority.as_str()).map_err(|_| unparsable())?;
        Ok(Self { authority, host_field, protocol, base: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl UpstreamUrl {
    /// Host, and port where the URL has one: what tells this application from others.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The host to connect to, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }

    pub(crate) fn scheme() -> Scheme {
        Scheme::HTTP
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http1 => "http",
            Protocol::Http2 => "h2c",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}
