//! `semel proxy`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use semel_core::fingerprint::{BadExclusion, Exclusion};
use semel_core::policy::{Keep, Profile};
use semel_core::record::Recovery;

use super::address::{AdminAddress, address};
use crate::units::{duration, size};

const EXAMPLES: &str = "\
Examples:
  Before an application on port 3000:
    semel proxy --upstream http://127.0.0.1:3000

  Duplicates wait for the first run instead of a 409, and every POST needs a key:
    semel proxy --upstream http://127.0.0.1:3000 --wait 5s --require-key

  Keys of different tenants apart, by a header that a trusted gateway sets:
    semel proxy --upstream http://127.0.0.1:3000 --scope header:X-Tenant

  The same, by variables:
    SEMEL_UPSTREAM=http://127.0.0.1:3000 SEMEL_SCOPE=header:X-Tenant semel proxy

After a crash:
  A run that ended without an answer is unknown and is not repeated (--recovery hold):
    semel keys list --state unknown

Durations are written 500ms, 30s, 10m, 1h 30m or 7d, and sizes 4096, 512KiB, 1MiB or 1MB:
KiB and MiB are 1,024 and 1,048,576 bytes, kB and MB are 1,000 and 1,000,000.
Each flag has a variable: --wait is SEMEL_WAIT. A flag wins over its variable.
The log goes to standard error and is filtered by SEMEL_LOG or RUST_LOG, such as semel=debug.";

/// Put Semel in front of an HTTP application in any language
///
/// Requests that carry an Idempotency-Key and whose method is guarded run once; everything else is passed through
/// as it is. SIGTERM or Ctrl-C ends it gracefully: running requests finish and their records are settled. A second
/// signal ends it at once.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ProxyArgs {
    /// The application: http://host:port, or h2c://host:port for HTTP/2 without TLS
    #[arg(long, env = "SEMEL_UPSTREAM", value_name = "URL", help_heading = "Where")]
    pub(crate) upstream: String,

    /// Where clients connect, such as 127.0.0.1:8080 or [::]:80; port 0 takes a free one
    #[arg(
        long,
        env = "SEMEL_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        value_parser = address,
        help_heading = "Where"
    )]
    pub(crate) listen: SocketAddr,

    /// Where /healthz and /readyz are answered, or `off`
    #[arg(
        long,
        env = "SEMEL_ADMIN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS",
        help_heading = "Where"
    )]
    pub(crate) admin: AdminAddress,

    /// Where records are kept: sqlite:PATH, a server's URL, or memory: which forgets everything at a restart
    ///
    /// sqlite:semel.db, sqlite:/var/lib/semel.db: a file on a local disk, for any number of processes on one machine.
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE: a database, for any number of machines; its records are in a schema of
    /// their own (--schema). mysql://USER:PASSWORD@HOST:PORT/DATABASE: the same in MariaDB. redis://USER:PASSWORD@HOST:PORT/NUMBER, redis+unix:///PATH: a Redis or Valkey that is told to
    /// keep what it is given (appendonly, appendfsync always, noeviction); redis+sentinel://HOST,HOST/?service=NAME and
    /// redis+cluster://HOST,HOST for several of them, rediss:// and its kin over TLS. memory: for trying things out. A
    /// server's schemes are there where they were built in. `semel doctor URL` says what is wrong with a store. One on a
    /// server that is down at the start is waited for, and /readyz says why.
    #[arg(
        long,
        env = "SEMEL_STORE",
        default_value = "sqlite:semel.db",
        value_name = "URL",
        help_heading = "Where"
    )]
    pub(crate) store: String,

    /// The schema in PostgreSQL, or the prefix of tables in MariaDB [default: semel_] and of keys in Redis [default: semel]
    #[arg(long, env = "SEMEL_SCHEMA", value_name = "NAME", help_heading = "Where")]
    pub(crate) schema: Option<String>,

    #[cfg(feature = "layers")]
    #[command(flatten)]
    pub(crate) layers: super::LayerArgs,

    /// The service's name in the store; two applications need two [default: proxy: and the upstream's host and port]
    #[arg(long, env = "SEMEL_NAMESPACE", value_name = "NAME", help_heading = "Where")]
    pub(crate) namespace: Option<String>,

    /// The methods that are guarded
    #[arg(
        long,
        env = "SEMEL_METHODS",
        default_value = "POST,PATCH",
        value_delimiter = ',',
        value_name = "METHOD,…",
        value_parser = method,
        help_heading = "Keys"
    )]
    pub(crate) methods: Vec<http::Method>,

    /// Refuse guarded requests without a key, with 400; otherwise they pass through
    #[arg(long, env = "SEMEL_REQUIRE_KEY", value_parser = BoolishValueParser::new(), help_heading = "Keys")]
    pub(crate) require_key: bool,

    /// Refuse bare keys: the field has to be a quoted string, as the draft standard has it
    #[arg(long, env = "SEMEL_STRICT_KEYS", value_parser = BoolishValueParser::new(), help_heading = "Keys")]
    pub(crate) strict_keys: bool,

    /// What a key has to be
    #[arg(
        long,
        env = "SEMEL_KEY_FORMAT",
        default_value = "any",
        value_name = "FORMAT",
        help_heading = "Keys"
    )]
    pub(crate) key_format: KeyFormatArg,

    /// Who a key belongs to: credentials, shared, header:NAME or cookie:NAME
    ///
    /// credentials: a key is bound to the Authorization and X-Api-Key that first used it. header:NAME: a field that
    /// a trusted peer sets; each value has keys of its own. cookie:NAME: the same by a cookie. shared: whoever sends
    /// the key and an equal request gets the answer.
    #[arg(
        long,
        env = "SEMEL_SCOPE",
        default_value = "credentials",
        value_name = "SCOPE",
        help_heading = "Keys"
    )]
    pub(crate) scope: ScopeArg,

    /// The same key on another method or path is another key; otherwise that is 422
    #[arg(long, env = "SEMEL_ENDPOINT_SCOPE", value_parser = BoolishValueParser::new(), help_heading = "Keys")]
    pub(crate) endpoint_scope: bool,

    /// How bodies are compared: by what JSON means, byte by byte, or not at all
    #[arg(
        long,
        env = "SEMEL_FINGERPRINT",
        default_value = "json",
        value_name = "MODE",
        help_heading = "Keys"
    )]
    pub(crate) fingerprint: FingerprintArg,

    /// What may differ between tries in JSON bodies, as a JSON Pointer or a JSONPath; may be repeated
    ///
    /// /meta/ts: a pointer (RFC 6901) names one member. $..trace_id, $.items[*].id: a path (RFC 9535) of names, wildcards
    /// and indexes names many; it is best written in single quotes. Several are written with commas between them. $.*
    /// leaves out every member: all objects are equal then.
    #[arg(
        long,
        env = "SEMEL_EXCLUDE",
        value_name = "/POINTER|$.PATH",
        value_parser = exclusions,
        help_heading = "Keys"
    )]
    pub(crate) exclude: Vec<Exclusions>,

    /// Let the host differ between tries: one service under several names
    #[arg(long, env = "SEMEL_ANY_HOST", value_parser = BoolishValueParser::new(), help_heading = "Keys")]
    pub(crate) any_host: bool,

    /// When a run ends without an answer: hold it until somebody settles it, or run it again once its lease is over
    #[arg(long, env = "SEMEL_RECOVERY", default_value = "hold", value_name = "RULE", value_parser = recovery, help_heading = "Duplicates")]
    pub(crate) recovery: Recovery,

    /// How long every duplicate waits for the first run; 0: it gets 409 at once
    #[arg(long, env = "SEMEL_WAIT", default_value = "0", value_name = "TIME", value_parser = duration, help_heading = "Duplicates")]
    pub(crate) wait: Duration,

    /// How long a duplicate may ask to wait, with `Prefer: wait=N` [default: 30s, or --wait if that is longer]
    #[arg(long, env = "SEMEL_PREFER_WAIT", value_name = "TIME", value_parser = duration, help_heading = "Duplicates")]
    pub(crate) prefer_wait: Option<Duration>,

    /// Which answers are kept: definitive, careful, success or everything
    ///
    /// definitive: what a retry would get again; 5xx and 429 free the key. careful: the same, but 500 and 503 leave
    /// the outcome unknown, for applications that answer so after they took effect. success: only 2xx.
    /// everything: 4xx and 5xx too.
    #[arg(
        long,
        env = "SEMEL_KEEP",
        default_value = "definitive",
        value_name = "RULE",
        help_heading = "Answers"
    )]
    pub(crate) keep: Keep,

    /// What is kept of them: stored (a retry gets the same answer) or tombstone (it is told that it was done)
    ///
    /// tombstone: for answers with secrets in them. Status and Location are kept, no other field and no body; a retry gets
    /// 409 replay-unavailable. Records made under the other setting are replayed as they were made.
    #[arg(
        long,
        env = "SEMEL_KEEP_ANSWERS",
        default_value = "stored",
        value_name = "WHAT",
        help_heading = "Answers"
    )]
    pub(crate) keep_answers: AnswersArg,

    /// Follow a known API: its methods, statuses and errors, and which answers are kept how long. stripe-v1
    #[arg(
        long,
        env = "SEMEL_PROFILE",
        value_name = "NAME",
        conflicts_with_all = ["methods", "strict_keys", "keep", "keep_bodies", "keep_records"],
        help_heading = "Answers"
    )]
    pub(crate) profile: Option<Profile>,

    /// How long a kept body can be replayed
    #[arg(long, env = "SEMEL_KEEP_BODIES", default_value = "24h", value_name = "TIME", value_parser = duration, help_heading = "Answers")]
    pub(crate) keep_bodies: Duration,

    /// How long a key stays used, with or without its body
    #[arg(long, env = "SEMEL_KEEP_RECORDS", default_value = "7d", value_name = "TIME", value_parser = duration, help_heading = "Answers")]
    pub(crate) keep_records: Duration,

    /// Keep the Set-Cookie fields of answers, and send them with a replay
    ///
    /// For logins and whatever else begins a session by a cookie: without it a retry gets the answer and no session. With
    /// it, cookies (often credentials) are in the store, and a late retry sets again what was set when the request ran,
    /// for instance a session that has ended since.
    #[arg(long, env = "SEMEL_KEEP_SET_COOKIE", value_parser = BoolishValueParser::new(), help_heading = "Answers")]
    pub(crate) keep_set_cookie: bool,

    /// The largest body of an answer that is kept; larger ones pass, and a retry gets 409
    #[arg(long, env = "SEMEL_CAPTURE_LIMIT", default_value = "1MiB", value_name = "SIZE", value_parser = size, help_heading = "Answers")]
    pub(crate) capture_limit: usize,

    /// The largest body of a guarded request, in bytes, MB (1,000,000) or MiB (1,048,576); larger ones get 413
    #[arg(long, env = "SEMEL_BODY_LIMIT", default_value = "1MiB", value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    pub(crate) body_limit: usize,

    /// The bodies of all guarded requests under way together; more get 503
    #[arg(long, env = "SEMEL_MAX_BYTES_IN_FLIGHT", default_value = "256MiB", value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    pub(crate) max_bytes_in_flight: usize,

    /// How long a claim lives without renewal: how soon a crash is noticed
    #[arg(long, env = "SEMEL_LEASE", default_value = "30s", value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) lease: Duration,

    /// How long a run is renewed, and its client kept waiting
    #[arg(long, env = "SEMEL_MAX_RUN", default_value = "10m", value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) max_run: Duration,

    /// How long the application may take to begin its answer
    #[arg(long, env = "SEMEL_UPSTREAM_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) upstream_timeout: Duration,

    /// How long connecting to the application may take
    #[arg(long, env = "SEMEL_CONNECT_TIMEOUT", default_value = "3s", value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) connect_timeout: Duration,

    /// How long running requests may take to end at a shutdown
    #[arg(long, env = "SEMEL_DRAIN", default_value = "30s", value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub(crate) drain: Duration,

    /// Guarded requests of one client address at once; more get 429 [default: no limit]
    #[arg(long, env = "SEMEL_PER_PEER", value_name = "N", help_heading = "Limits")]
    pub(crate) per_peer: Option<NonZeroUsize>,

    /// Run requests unguarded while the store fails: a duplicate may then run twice
    #[arg(long, env = "SEMEL_FAIL_OPEN", value_parser = BoolishValueParser::new(), help_heading = "Limits")]
    pub(crate) fail_open: bool,

    /// Threads that serve connections [default: one a core]
    #[arg(long, env = "SEMEL_WORKERS", value_name = "N", help_heading = "Process")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// What becomes of Forwarded and X-Forwarded-*: replace those of clients, append to those of a trusted proxy, or
    /// keep what arrives
    #[arg(
        long,
        env = "SEMEL_FORWARDED",
        default_value = "replace",
        value_name = "RULE",
        help_heading = "Process"
    )]
    pub(crate) forwarded: ForwardedArg,

    /// Which Host the application sees: the client's, or that of --upstream
    #[arg(
        long,
        env = "SEMEL_HOST",
        default_value = "preserve",
        value_name = "RULE",
        help_heading = "Process"
    )]
    pub(crate) host: HostArg,

    /// How the log is written
    #[arg(
        long,
        env = "SEMEL_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Process"
    )]
    pub(crate) log_format: LogFormat,

    /// End gracefully when standard input ends, as it does when whoever started this program and holds it is gone
    #[arg(long, env = "SEMEL_END_WITH_STDIN", value_parser = BoolishValueParser::new(), hide = true)]
    pub(crate) end_with_stdin: bool,
}

/// Who a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScopeArg {
    Credentials,
    Shared,
    Header(http::HeaderName),
    Cookie(String),
}

impl std::str::FromStr for ScopeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = || "write credentials, shared, header:NAME or cookie:NAME".to_owned();
        match text.split_once(':') {
            None if text == "credentials" => Ok(Self::Credentials),
            None if text == "shared" => Ok(Self::Shared),
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| advice()),
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            _ => Err(advice()),
        }
    }
}

/// What one `--exclude` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exclusions(pub(crate) Vec<Exclusion>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswersArg {
    /// Status, fields and body
    Stored,
    /// That there was one, and where its result is
    Tombstone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyFormatArg {
    /// Anything
    Any,
    /// A UUID of any version
    Uuid,
    /// A UUID of version 7, which says how old it is
    Uuidv7,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FingerprintArg {
    /// JSON by what it means, everything else byte by byte
    Json,
    /// Byte by byte
    Raw,
    /// Not at all: method, host, path and query have to do
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedArg {
    Replace,
    Append,
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostArg {
    Preserve,
    Upstream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Any token is a method; that one is missing between two commas is a slip.
fn method(text: &str) -> Result<http::Method, String> {
    let token = text.trim();
    token
        .parse()
        .map_err(|_| "write methods with one comma between two of them, such as POST,PATCH".to_owned())
}

/// Several, with commas between them. A comma inside the brackets of a path is the path's own.
fn exclusions(text: &str) -> Result<Exclusions, String> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut bracket, mut quote, mut escaped) = (false, None, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote.is_some() => escaped = true,
            '\'' | '"' if bracket => match quote {
                None => quote = Some(character),
                Some(open) if open == character => quote = None,
                Some(_) => {}
            },
            // A pointer's brackets are characters like any other.
            '[' if quote.is_none() => bracket = text[start..].starts_with('$'),
            ']' if quote.is_none() => bracket = false,
            ',' if !bracket => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    let parse = |part: &str| match part.parse::<Exclusion>() {
        // Nothing between two commas is one too.
        Ok(exclusion) if exclusion.is_the_document() => {
            Err(format!("{}; to leave out the whole body use --fingerprint off", BadExclusion::Neither))
        }
        Ok(exclusion) => Ok(exclusion),
        Err(error) => Err(format!("{error}: {part:?}")),
    };
    parts.into_iter().map(parse).collect::<Result<_, _>>().map(Exclusions)
}

fn recovery(text: &str) -> Result<Recovery, String> {
    text.parse().map_err(|_| "write hold or takeover".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A comma separates, and it is part of the grammar of paths.
    #[test]
    fn exclusions_are_separated_by_commas_outside_of_brackets() {
        for (text, parts) in [
            ("/ts", &["/ts"][..]),
            ("/ts,/meta/id", &["/ts", "/meta/id"]),
            (
                "$..ts,/a[0,$.b['x,y', \"],\"],$['it\\'s,'].c",
                &["$..ts", "/a[0", "$.b['x,y', \"],\"]", "$['it\\'s,'].c"],
            ),
            ("$[0, 1],$[*]", &["$[0, 1]", "$[*]"]),
        ] {
            let expected = parts.iter().map(|part| part.parse().unwrap()).collect();
            assert_eq!(exclusions(text), Ok(Exclusions(expected)), "{text}");
        }
        // Without the document nothing is compared, which has a flag of its own.
        for text in ["", "$", "/ts,$", "$,"] {
            assert!(exclusions(text).unwrap_err().contains("--fingerprint off"), "{text}");
        }
        for text in ["meta", "/ts,", "/ts,meta", "/ts, /b", "$[0,1", "$['a],/b", "$.a[?@.b]", "$[-1]"] {
            assert!(exclusions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_are_spelled_out() {
        assert_eq!("credentials".parse(), Ok(ScopeArg::Credentials));
        assert_eq!("header:X-Tenant".parse(), Ok(ScopeArg::Header("x-tenant".parse().unwrap())));
        assert_eq!("cookie:sid".parse(), Ok(ScopeArg::Cookie("sid".to_owned())));
        for text in ["", "header:", "header:a b", "cookie:", "tenant", "shared:x"] {
            assert!(text.parse::<ScopeArg>().unwrap_err().contains("header:NAME"), "{text}");
        }
    }
}
