//! Which fields go on and which end here (RFC 9110, 7.6).

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, Method, Version};

use super::Peer;
use crate::config::ForwardedPolicy;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields about one connection, whatever `Connection` says.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes what belongs to the connection a message came over.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| token.parse().ok())
            .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TE | TRAILER))
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    // A message with both is framed by the transfer coding (RFC 9112, 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol that a request asks to go over to, if the gateway passes such requests on.
pub(super) fn upgrade(version: Version, method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || method == Method::CONNECT {
        return None;
    }
    let value = headers.get(UPGRADE)?;
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    // HTTP/2 would hide the requests inside it from the gateway.
    let http2 = tokens(headers, &UPGRADE).any(|token| {
        let name = token.split('/').next().unwrap_or(token);
        name.eq_ignore_ascii_case("h2c") || name.eq_ignore_ascii_case("h2")
    });
    (asked && !http2).then(|| value.clone())
}

/// Removes what a request says to the gateway alone, and keeps the wish for trailers.
pub(super) fn clean_request(headers: &mut HeaderMap, http1: bool) {
    let trailers =
        headers.contains_key(TE) && tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    headers.remove(TE);
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    join_cookies(headers);
}

/// HTTP/2 may split `Cookie` into several fields; elsewhere it is one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(cookies) = headers.entry(COOKIE) else { return };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let (name, values) = cookies.remove_entry_mult();
    let values: Vec<HeaderValue> = values.collect();
    let joined = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(name, joined);
    }
}

/// Says that the message came through here.
pub(super) fn add_via(headers: &mut HeaderMap, version: Version) {
    let via = match version {
        Version::HTTP_2 => "2.0 semel",
        Version::HTTP_10 => "1.0 semel",
        _ => "1.1 semel",
    };
    headers.append(VIA, HeaderValue::from_static(via));
}

/// Says for whom the gateway asks.
pub(super) fn add_forwarded(
    headers: &mut HeaderMap,
    peer: Option<&Peer>,
    host: Option<&HeaderValue>,
    policy: ForwardedPolicy,
) {
    match policy {
        ForwardedPolicy::Keep => return,
        ForwardedPolicy::Append => {}
        ForwardedPolicy::Replace => {
            for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
                headers.remove(name);
            }
        }
    }
    let mut forwarded = BytesMut::with_capacity(64);
    if let Some(peer) = peer {
        forwarded.extend_from_slice(b"for=");
        forwarded.extend_from_slice(peer.0.node.as_bytes());
        forwarded.extend_from_slice(b";");
        append_to_list(headers, X_FORWARDED_FOR, peer.0.ip.clone());
    }
    if let Some(host) = host {
        // A quoted string holds any host; one with a quote in it did not pass for a host before.
        if !host.as_bytes().iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            forwarded.extend_from_slice(b"host=\"");
            forwarded.extend_from_slice(host.as_bytes());
            forwarded.extend_from_slice(b"\";");
        }
        if !headers.contains_key(X_FORWARDED_HOST) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }
    forwarded.extend_from_slice(b"proto=http");
    if let Ok(value) = HeaderValue::from_maybe_shared(forwarded.freeze()) {
        append_to_list(headers, FORWARDED, value);
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
}

/// Adds a member to a list in its last field line: applications often read one line only.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let Some(last) = headers.get_all(&name).iter().next_back() else {
        headers.insert(name, value);
        return;
    };
    let mut line = BytesMut::with_capacity(last.len() + value.len() + 2);
    let before: Vec<&HeaderValue> = headers.get_all(&name).iter().collect();
    for field in before {
        line.extend_from_slice(field.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(value.as_bytes());
    if let Ok(line) = HeaderValue::from_maybe_shared(line.freeze()) {
        headers.insert(name, line);
    }
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// A client that could nominate `Host` or `Content-Length` would choose how the application reads the rest.
    #[test]
    fn connection_removes_what_it_names_but_never_the_framing() {
        let mut headers = map(&[
            ("connection", "close, X-Secret , host,content-length"),
            ("x-secret", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("x-other", "2"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "a"), ("content-length", "3"), ("x-other", "2")]));
    }

    #[test]
    fn an_upgrade_to_http2_is_not_passed_on() {
        let asks = |protocol| {
            let headers = map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", protocol)]);
            upgrade(Version::HTTP_11, &Method::GET, &headers).is_some()
        };
        assert!(asks("websocket"));
        assert!(!asks("h2c"));
        assert!(!asks("foo/1, h2c"));
    }

    #[test]
    fn upgrade_without_connection_upgrade_is_no_upgrade() {
        assert!(upgrade(Version::HTTP_11, &Method::GET, &map(&[("upgrade", "websocket")])).is_none());
    }

    #[test]
    fn te_keeps_trailers_alone() {
        let mut headers = map(&[("te", "gzip, trailers"), ("expect", "100-continue")]);
        clean_request(&mut headers, true);
        assert_eq!(headers, map(&[("te", "trailers"), ("connection", "te")]));
    }

    #[test]
    fn split_cookies_become_one_field() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        clean_request(&mut headers, true);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }

    /// Whoever may write `X-Forwarded-For` unseen passes for anybody.
    #[test]
    fn forwarded_fields_of_a_client_are_replaced_unless_trusted() {
        let peer = Peer::new(([127, 0, 0, 1], 4000).into());
        let host = HeaderValue::from_static("shop.test");
        let forged = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
        let mut headers = map(&forged);
        add_forwarded(&mut headers, Some(&peer), Some(&host), ForwardedPolicy::Replace);
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert_eq!(headers["forwarded"], "for=127.0.0.1;host=\"shop.test\";proto=http");
        assert_eq!(headers["x-forwarded-host"], "shop.test");

        let mut headers = map(&forged);
        add_forwarded(&mut headers, Some(&peer), Some(&host), ForwardedPolicy::Append);
        assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 127.0.0.1");
        assert_eq!(headers["forwarded"], "for=6.6.6.6, for=127.0.0.1;host=\"shop.test\";proto=http");
    }
}
