//! Which fields are removed from a request, stored with an answer, and sent with a replay.

use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, CACHE_CONTROL, CONNECTION, EXPIRES, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::grpc::GRPC_ACCEPT_ENCODING;
use crate::record::{Fence, StoredResponse};

/// `Idempotency-Attempt`: tells the handler or upstream which run this is, from 1.
pub const IDEMPOTENCY_ATTEMPT: HeaderName = HeaderName::from_static("idempotency-attempt");
/// `Idempotency-Fence`: a number that grows with each run, for effects that can be fenced.
pub const IDEMPOTENCY_FENCE: HeaderName = HeaderName::from_static("idempotency-fence");
/// `Idempotency-Outcome`: what the application says about its run, see [`Outcome`](super::keep::Outcome).
pub const IDEMPOTENCY_OUTCOME: HeaderName = HeaderName::from_static("idempotency-outcome");
/// `Idempotency-Replayed`: `true` on an answer that was kept from an earlier run; absent on a first one.
pub const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a route does with fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderRules {
    /// Whether `Set-Cookie` is stored and replayed. Off by default: a replay would set an old session again.
    pub keep_set_cookie: bool,
    /// Whether the application may answer a guarded request in a content coding. Off by default: a retry may
    /// accept other codings than the first try did, so guarded requests go on with `Accept-Encoding: identity`, and
    /// calls of gRPC with `grpc-accept-encoding: identity`.
    pub keep_encodings: bool,
    /// What marks a replay. Default `Idempotency-Replayed: true`.
    pub marker: Marker,
}

/// The field that marks an answer as kept from an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a field has these")]
pub struct Marker {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
}

impl Default for Marker {
    fn default() -> Self {
        Self { name: IDEMPOTENCY_REPLAYED, value: HeaderValue::from_static("true") }
    }
}

impl Marker {
    /// The name as scripts are told it.
    fn exposed(&self) -> HeaderValue {
        if self.name == IDEMPOTENCY_REPLAYED {
            return HeaderValue::from_static("Idempotency-Replayed");
        }
        HeaderValue::from(self.name.clone())
    }
}

impl HeaderRules {
    /// Removes what only Semel may say: `Idempotency-Attempt`, `-Fence` and `-Outcome`. For every request,
    /// guarded or not. Allocates nothing. `true`: there was an attempt, so another Semel sent the request, or
    /// somebody who claims to be one.
    pub fn clean_request(headers: &mut HeaderMap) -> bool {
        // Looking through the names costs less than hashing three of them to find none.
        let reserved =
            |name: &str| matches!(name, "idempotency-attempt" | "idempotency-fence" | "idempotency-outcome");
        if !headers.keys().any(|name| reserved(name.as_str())) {
            return false;
        }
        let attempt = headers.remove(IDEMPOTENCY_ATTEMPT).is_some();
        headers.remove(IDEMPOTENCY_FENCE);
        headers.remove(IDEMPOTENCY_OUTCOME);
        attempt
    }

    /// Whether a `Connection` field names `field`. If it names the key's field, a hop on the way is free to
    /// remove the key and the request must be refused with 400.
    pub fn names_in_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
        nominated(headers).any(|name| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
    }

    /// Prepares a guarded request for its run: says which one it is, and asks for an identity coding unless the
    /// route keeps encodings.
    pub fn prepare_run(&self, headers: &mut HeaderMap, attempt: u32, fence: Fence) {
        let first = attempt == 1;
        let attempt = if first { HeaderValue::from_static("1") } else { HeaderValue::from(attempt) };
        headers.insert(IDEMPOTENCY_ATTEMPT, attempt);
        headers.insert(IDEMPOTENCY_FENCE, HeaderValue::from(fence.get()));
        if !self.keep_encodings {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if headers.contains_key(&GRPC_ACCEPT_ENCODING) {
                headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
        }
    }

    /// The fields that a replay may send, with the order and the bytes of repeated ones.
    ///
    /// Left out is what belongs to one connection, one exchange or one moment:
    /// `Connection` and every field it names, `Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`,
    /// `Upgrade`, `Content-Length` (computed anew), `Date`, `Age`, `Set-Cookie` unless the route keeps it,
    /// `WWW-Authenticate`, `Authentication-Info`, `Server-Timing`, `Via`, `Alt-Svc`,
    /// `Strict-Transport-Security`, `Clear-Site-Data`, `RateLimit*`, `Retry-After`, `X-Request-Id`,
    /// `traceparent`, `tracestate`, and the four `Idempotency-*` fields of Semel.
    ///
    /// Of gRPC the same: `grpc-retry-pushback-ms`, the reports of load (`endpoint-load-metrics`, its `-bin`) and the traces
    /// of one call (`grpc-trace-bin`, `grpc-tags-bin`, `grpc-server-stats-bin`).
    ///
    /// `X-RateLimit*` and `X-Rate-Limit*`, the names that `RateLimit*` had before it was a draft, go the same
    /// way: an old budget told as the present one makes a client stop or rush.
    pub fn to_store(&self, headers: &HeaderMap) -> HeaderMap {
        self.keep_from(headers, |name| Self::names_in_connection(headers, name))
    }

    /// The trailer fields that a replay may send, by the rules of [`to_store`](Self::to_store); `None` if none
    /// are left.
    pub fn trailers_to_store(&self, trailers: Option<&HeaderMap>) -> Option<HeaderMap> {
        let kept = self.keep_from(trailers?, |_| false);
        (!kept.is_empty()).then_some(kept)
    }

    /// Prepares the answer of a run for its client: removes `Idempotency-Outcome`, which was for Semel.
    ///
    /// Fields of the connection stay; a host that forwards removes them with
    /// [`remove_hop_by_hop`](Self::remove_hop_by_hop).
    pub fn strip_answer(headers: &mut HeaderMap) {
        headers.remove(IDEMPOTENCY_OUTCOME);
    }

    /// Removes the fields that end at this hop (RFC 9110, section 7.6.1): `Connection` and every field it
    /// names, `Keep-Alive`, `Proxy-Connection`, `TE`, `Trailer`, `Transfer-Encoding` and `Upgrade`.
    pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
        if headers.contains_key(CONNECTION) {
            let named: Vec<HeaderName> =
                nominated(headers).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
            for name in named {
                headers.remove(name);
            }
            headers.remove(CONNECTION);
        }
        for name in [TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.remove("proxy-connection");
    }

    /// The fields of a replay: the stored ones, its [marker](Self::marker), and what depends on who asks now.
    ///
    /// * `Access-Control-*` is sent only if `request_origin` is the origin of the first request.
    /// * To a request with an `Origin` the marker is exposed (`Access-Control-Expose-Headers`), so that scripts
    ///   see it also where CORS is granted by a layer further out.
    /// * An answer with explicit freshness (`Cache-Control: max-age` or `s-maxage`, `Expires`) carries `Age`, so
    ///   that no cache takes it for new (RFC 9111, section 4.2.3).
    ///
    /// `age` is the time since the answer was kept. `Content-Length` and `Date` are the host's to add.
    pub fn replay(
        &self,
        stored: &StoredResponse,
        request_origin: Option<&HeaderValue>,
        age: Duration,
    ) -> HeaderMap {
        let mut headers = if stored.origin.as_ref() == request_origin {
            stored.headers.clone()
        } else {
            self.keep_from(&stored.headers, |name| name.as_str().starts_with("access-control-"))
        };
        self.mark_replayed(&mut headers, request_origin.is_some());
        if has_explicit_freshness(&headers) {
            headers.insert(AGE, HeaderValue::from(age.as_secs().min(LARGEST_AGE)));
        }
        headers
    }

    /// Marks an answer as one to a request that was done before: the [marker](Self::marker), exposed to scripts where the
    /// request has an origin.
    pub fn mark_replayed(&self, headers: &mut HeaderMap, has_origin: bool) {
        headers.insert(self.marker.name.clone(), self.marker.value.clone());
        if has_origin && !exposes(headers, &self.marker.name) {
            headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, self.marker.exposed());
        }
    }

    fn keep_from(&self, fields: &HeaderMap, also_drop: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let mut kept = HeaderMap::with_capacity(fields.keys_len() + 1);
        for name in fields.keys() {
            let cookie = name == SET_COOKIE && !self.keep_set_cookie;
            if !cookie && !is_momentary(name.as_str()) && !also_drop(name) {
                for value in fields.get_all(name) {
                    kept.append(name.clone(), value.clone());
                }
            }
        }
        kept
    }
}

/// RFC 9111, section 1.2.2: a larger age is sent as 2^31.
const LARGEST_AGE: u64 = 1 << 31;

/// Fields that are never stored, whatever the route says. Names are lower case.
fn is_momentary(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["proxy-", "ratelimit", "x-ratelimit", "x-rate-limit"];
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "date"
            | "age"
            | "www-authenticate"
            | "authentication-info"
            | "server-timing"
            | "via"
            | "alt-svc"
            | "strict-transport-security"
            | "clear-site-data"
            | "retry-after"
            | "x-request-id"
            | "traceparent"
            | "tracestate"
            | "grpc-retry-pushback-ms"
            | "endpoint-load-metrics"
            | "endpoint-load-metrics-bin"
            | "grpc-server-stats-bin"
            | "grpc-tags-bin"
            | "grpc-trace-bin"
            | "idempotency-attempt"
            | "idempotency-fence"
            | "idempotency-outcome"
            | "idempotency-replayed"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The names in all `Connection` fields, as they were written.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    list(headers, CONNECTION)
}

/// The members of a comma-separated field over all its lines, without white space around them.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Only the name itself counts: `*` exposes nothing to a request with credentials (Fetch, section 3.3.3).
fn exposes(headers: &HeaderMap, marker: &HeaderName) -> bool {
    list(headers, ACCESS_CONTROL_EXPOSE_HEADERS)
        .any(|name| name.eq_ignore_ascii_case(marker.as_str().as_bytes()))
}

fn has_explicit_freshness(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPIRES)
        || list(headers, CACHE_CONTROL).any(|directive| {
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            name.eq_ignore_ascii_case(b"max-age") || name.eq_ignore_ascii_case(b"s-maxage")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StoredBody;
    use bytes::Bytes;
    use http::StatusCode;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn stored(headers: HeaderMap, origin: Option<&'static str>) -> StoredResponse {
        StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: StoredBody::Kept(Bytes::new()),
            trailers: None,
            origin: origin.map(HeaderValue::from_static),
        }
    }

    /// The names, sorted: their order among each other means nothing (RFC 9110, section 5.3).
    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    /// A client that forges these would tell the application "this is a retry" or settle its own record.
    #[test]
    fn forged_fields_are_removed_from_a_request_in_every_spelling_and_number() {
        let mut headers = HeaderMap::new();
        for name in ["Idempotency-Attempt", "IDEMPOTENCY-FENCE", "idempotency-outcome", "Idempotency-Outcome"]
        {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("7"));
        }
        headers.append("idempotency-key", HeaderValue::from_static("\"k\""));
        headers.append("x-other", HeaderValue::from_static("1"));
        HeaderRules::clean_request(&mut headers);
        assert_eq!(names(&headers), ["idempotency-key", "x-other"]);
    }

    #[test]
    fn a_connection_field_that_names_the_key_is_found() {
        let key = HeaderName::from_static("idempotency-key");
        let finds =
            |lines: &[(&'static str, &'static str)]| HeaderRules::names_in_connection(&fields(lines), &key);
        assert!(finds(&[("connection", "Idempotency-Key")]));
        assert!(finds(&[("connection", "close,\tidempotency-key , x")]));
        assert!(finds(&[("connection", "keep-alive"), ("connection", "x, IDEMPOTENCY-KEY")]));
        assert!(!finds(&[("connection", "close, idempotency-key-2")]));
        assert!(!finds(&[("x-connection", "idempotency-key")]));
        assert!(!finds(&[]));
    }

    #[test]
    fn a_run_is_told_its_number_and_asked_for_plain_bytes() {
        let fence = Fence::new(900).unwrap();
        let mut headers = fields(&[("idempotency-attempt", "99"), ("accept-encoding", "gzip, br")]);
        HeaderRules::default().prepare_run(&mut headers, 2, fence);
        assert_eq!(headers["idempotency-attempt"], "2");
        assert_eq!(headers["idempotency-fence"], "900");
        assert_eq!(headers["accept-encoding"], "identity");

        let mut headers = fields(&[("accept-encoding", "gzip, br")]);
        HeaderRules { keep_encodings: true, ..HeaderRules::default() }.prepare_run(&mut headers, 1, fence);
        assert_eq!(headers["accept-encoding"], "gzip, br");
    }

    /// gRPC has codings of its own, for each message: a retry that takes none of the first try's could not read it.
    #[test]
    fn a_call_of_grpc_is_asked_for_plain_messages_too() {
        let fence = Fence::new(1).unwrap();
        let asked = [("grpc-accept-encoding", "gzip"), ("grpc-accept-encoding", "zstd,identity")];
        let mut headers = fields(&asked);
        HeaderRules::default().prepare_run(&mut headers, 1, fence);
        assert_eq!(headers.get_all("grpc-accept-encoding").iter().collect::<Vec<_>>(), ["identity"]);
        let mut headers = fields(&asked);
        HeaderRules { keep_encodings: true, ..HeaderRules::default() }.prepare_run(&mut headers, 1, fence);
        assert_eq!(headers.get_all("grpc-accept-encoding").iter().count(), 2);
        let mut headers = HeaderMap::new();
        HeaderRules::default().prepare_run(&mut headers, 1, fence);
        assert!(!headers.contains_key("grpc-accept-encoding"), "what is no gRPC is told nothing of it");
    }

    /// Edge case of the contract: fields that `Connection` names belong to the first exchange alone.
    #[test]
    fn every_field_that_connection_names_is_left_out() {
        let answer = fields(&[
            ("connection", "X-Foo"),
            ("connection", "close ,  X-Bar,x-baz"),
            ("x-foo", "1"),
            ("x-bar", "1"),
            ("x-baz", "1"),
            ("x-baz", "2"),
            ("x-kept", "1"),
        ]);
        assert_eq!(names(&HeaderRules::default().to_store(&answer)), ["x-kept"]);
    }

    #[test]
    fn what_belongs_to_one_exchange_is_left_out() {
        let dropped = "connection keep-alive proxy-authenticate proxy-connection proxy-status te trailer \
             transfer-encoding upgrade content-length date age set-cookie www-authenticate \
             authentication-info server-timing via alt-svc strict-transport-security clear-site-data \
             grpc-retry-pushback-ms endpoint-load-metrics endpoint-load-metrics-bin grpc-server-stats-bin \
             grpc-tags-bin grpc-trace-bin ratelimit ratelimit-policy ratelimit-limit ratelimit-reset x-ratelimit-limit \
             x-ratelimit-remaining x-rate-limit-reset retry-after x-request-id traceparent tracestate \
             idempotency-outcome idempotency-replayed idempotency-attempt idempotency-fence";
        let kept = "content-type location etag last-modified cache-control expires vary link content-language \
             content-encoding content-disposition access-control-allow-origin idempotency-key \
             rate-card x-proxy-hint proxy x-correlation grpc-status grpc-message grpc-status-details-bin \
             grpc-encoding trace-bin";
        let mut answer = HeaderMap::new();
        for name in dropped.split_ascii_whitespace().chain(kept.split_ascii_whitespace()) {
            answer.append(name, HeaderValue::from_static("v"));
        }
        let stored = HeaderRules::default().to_store(&answer);
        let mut kept: Vec<_> = kept.split_ascii_whitespace().collect();
        kept.sort_unstable();
        assert_eq!(names(&stored), kept);
    }

    #[test]
    fn cookies_are_kept_only_where_the_route_says_so() {
        let answer = fields(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        assert!(HeaderRules::default().to_store(&answer).is_empty());
        let rules = HeaderRules { keep_set_cookie: true, ..HeaderRules::default() };
        let kept = rules.to_store(&answer);
        assert_eq!(kept.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        // Also when the replay goes to another origin, where the fields are filtered a second time.
        let replay = rules.replay(&stored(kept, Some("https://a.example")), None, Duration::ZERO);
        assert_eq!(replay.get_all("set-cookie").iter().count(), 2);
    }

    /// Joining repeated lines, or reading them as UTF-8, changes what the client sees.
    #[test]
    fn repeated_fields_keep_their_order_and_values_their_bytes() {
        let mut answer = HeaderMap::new();
        for value in [&b"b"[..], b"a, c", b"", b"caf\xe9 \xff\x80", b"a"] {
            answer.append("x-list", HeaderValue::from_bytes(value).unwrap());
        }
        let kept = HeaderRules::default().to_store(&answer);
        let replay = HeaderRules::default().replay(&stored(kept, None), None, Duration::ZERO);
        let values: Vec<_> = replay.get_all("x-list").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"b"[..], b"a, c", b"", b"caf\xe9 \xff\x80", b"a"]);
    }

    #[test]
    fn trailers_go_by_the_same_rules() {
        let rules = HeaderRules::default();
        let trailers = fields(&[("grpc-status", "0"), ("server-timing", "db;dur=3"), ("x-sum", "1")]);
        let kept = rules.trailers_to_store(Some(&trailers)).unwrap();
        assert_eq!(names(&kept), ["grpc-status", "x-sum"]);
        assert_eq!(rules.trailers_to_store(Some(&fields(&[("date", "x")]))), None);
        assert_eq!(rules.trailers_to_store(None), None);
    }

    #[test]
    fn a_first_answer_loses_the_outcome_and_nothing_else() {
        let mut headers = fields(&[("idempotency-outcome", "applied"), ("date", "x"), ("set-cookie", "a=1")]);
        HeaderRules::strip_answer(&mut headers);
        assert_eq!(names(&headers), ["date", "set-cookie"]);
    }

    #[test]
    fn a_hop_removes_its_own_fields_and_those_connection_names() {
        let mut headers = fields(&[
            ("connection", "close, X-Foo, not a name"),
            ("x-foo", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "Basic"),
            ("x-bar", "1"),
        ]);
        HeaderRules::remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys_len(), 2);
        assert!(headers.contains_key("x-bar") && headers.contains_key("proxy-authenticate"));
    }

    #[test]
    fn a_replay_says_so_once() {
        let kept = fields(&[("content-type", "text/plain")]);
        let replay = HeaderRules::default().replay(&stored(kept, None), None, Duration::from_secs(9));
        assert_eq!(names(&replay), ["content-type", "idempotency-replayed"]);
        assert_eq!(replay["idempotency-replayed"], "true");
    }

    /// A replay to another site must not carry the leave that was given to the first.
    #[test]
    fn cors_leave_is_replayed_to_the_same_origin_only() {
        let kept = fields(&[
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "ETag"),
            ("vary", "Origin"),
        ]);
        let replay = |first: Option<&'static str>, now: Option<&'static str>| {
            let now = now.map(HeaderValue::from_static);
            HeaderRules::default().replay(&stored(kept.clone(), first), now.as_ref(), Duration::ZERO)
        };
        let same = replay(Some("https://a.example"), Some("https://a.example"));
        assert_eq!(same["access-control-allow-origin"], "https://a.example");
        assert_eq!(
            same.get_all("access-control-expose-headers").iter().collect::<Vec<_>>(),
            ["ETag", "Idempotency-Replayed"]
        );

        for (first, now) in [
            (Some("https://a.example"), Some("https://b.example")),
            (Some("https://a.example"), None),
            (None, Some("https://b.example")),
        ] {
            let other = replay(first, now);
            assert!(!other.contains_key("access-control-allow-origin"), "{first:?} {now:?}");
            assert!(!other.contains_key("access-control-allow-credentials"));
            assert_eq!(other["vary"], "Origin");
        }
        assert!(replay(None, None).contains_key("access-control-allow-origin"));
    }

    #[test]
    fn the_marker_is_exposed_once_and_only_to_browsers() {
        let origin = HeaderValue::from_static("https://a.example");
        let exposed = |line: &'static str, origin: Option<&HeaderValue>| -> Vec<String> {
            let mut kept = stored(fields(&[("access-control-expose-headers", line)]), None);
            kept.origin = origin.cloned();
            let replay = HeaderRules::default().replay(&kept, origin, Duration::ZERO);
            replay
                .get_all("access-control-expose-headers")
                .iter()
                .map(|value| value.to_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(exposed("etag, idempotency-replayed", Some(&origin)), ["etag, idempotency-replayed"]);
        // With credentials the star is a name like any other.
        assert_eq!(exposed("*", Some(&origin)), ["*", "Idempotency-Replayed"]);
        assert_eq!(exposed("etag", None), ["etag"]);
    }

    /// Without `Age` a shared cache takes a day-old replay for an answer made now.
    #[test]
    fn explicit_freshness_brings_an_age() {
        let age = |line: (&'static str, &'static str), age: Duration| {
            let replay = HeaderRules::default().replay(&stored(fields(&[line]), None), None, age);
            replay.get("age").map(|value| value.to_str().unwrap().to_owned())
        };
        let hour = Duration::from_millis(3_600_900);
        assert_eq!(age(("cache-control", "private, Max-Age=60"), hour).as_deref(), Some("3600"));
        assert_eq!(age(("cache-control", "s-maxage = 0"), hour).as_deref(), Some("3600"));
        assert_eq!(age(("expires", "0"), hour).as_deref(), Some("3600"));
        assert_eq!(age(("cache-control", "no-store"), hour), None);
        assert_eq!(age(("cache-control", "stale-if-error=9, max-ages=1"), hour), None);
        assert_eq!(age(("expires", "0"), Duration::MAX).as_deref(), Some("2147483648"));
    }
}
