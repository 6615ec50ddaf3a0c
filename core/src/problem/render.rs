//! A problem as an HTTP answer.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, Response};

use super::accept::{Format, negotiate};
use super::{Docs, Problem, grpc};
use crate::policy::headers::IDEMPOTENCY_OUTCOME;

impl Problem {
    /// The answer, in the format that the request's `Accept` asks for: `text/markdown`, `application/json`, or
    /// else `application/problem+json`.
    ///
    /// To a request whose `Content-Type` is `application/grpc` it is HTTP 200 and the status of a call
    /// ([`Code::grpc_status`](super::Code::grpc_status)), with `google.rpc.ErrorInfo`, `RetryInfo` and `Help` as its details.
    ///
    /// The body is there also for HEAD; the host leaves it out and adds `Content-Length` and `Date`.
    pub fn render(&self, request_headers: &HeaderMap, docs: &Docs) -> Response<Bytes> {
        if grpc::is_asked(request_headers) {
            return self.grpc(docs);
        }
        let format = negotiate(request_headers);
        let uri = docs.uri(self.code);
        let body = match format {
            Format::ProblemJson | Format::Json => self.json(&uri),
            Format::Markdown => self.markdown(&uri),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        self.fill_headers(response.headers_mut(), format, &uri);
        response
    }

    fn fill_headers(&self, headers: &mut HeaderMap, format: Format, uri: &str) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        let link = format!("<{uri}>; rel=\"describedby\"; type=\"text/html\"");
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.insert(LINK, link);
        }
        headers.extend(self.exchange_fields());
    }

    /// The fields that every way to tell a problem carries: when to come again, where the result is, and what a gateway
    /// before this one reads.
    pub(crate) fn exchange_fields(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if let Some(location) = &self.location {
            headers.insert(LOCATION, location.clone());
        }
        if let Some(outcome) = self.outcome {
            headers.insert(IDEMPOTENCY_OUTCOME, outcome.to_header_value());
        }
        headers
    }

    /// The members of every format, in their order.
    fn members<'a>(&'a self, uri: &'a str) -> impl Iterator<Item = (&'static str, Member<'a>)> {
        let text = |text: &'a str| Member::Text(Cow::Borrowed(text));
        [
            ("type", text(uri)),
            ("title", text(self.title())),
            ("status", Member::Number(self.status.as_u16())),
            ("detail", text(&self.detail)),
            ("code", text(self.code.as_str())),
            ("retry", text(self.retry.as_str())),
            ("retryable", Member::Flag(self.retry.is_retryable())),
        ]
        .into_iter()
        .chain(self.key.as_ref().map(|key| ("idempotency_key", text(key.as_str()))))
        .chain(self.instance.map(|id| ("instance", Member::Text(Cow::Owned(id.urn().to_string())))))
    }

    fn json(&self, uri: &str) -> String {
        let mut out = String::with_capacity(512);
        for (name, member) in self.members(uri) {
            out.push(if out.is_empty() { '{' } else { ',' });
            let value = match member {
                Member::Text(text) => serde_json::Value::from(text).to_string(),
                Member::Number(number) => number.to_string(),
                Member::Flag(flag) => flag.to_string(),
            };
            let _ = write!(out, "\"{name}\":{value}");
        }
        out.push('}');
        out
    }

    fn markdown(&self, uri: &str) -> String {
        let mut out = String::with_capacity(1024);
        out.push_str("---\n");
        for (name, member) in self.members(uri) {
            let _ = match member {
                Member::Text(text) => writeln!(out, "{name}: {}", yaml_string(&text)),
                Member::Number(number) => writeln!(out, "{name}: {number}"),
                Member::Flag(flag) => writeln!(out, "{name}: {flag}"),
            };
        }
        let _ = write!(
            out,
            "---\n\n# {}\n\n## What happened\n\n{}\n\n## What to do\n\n{}\n",
            self.title(),
            self.detail,
            self.what_to_do(),
        );
        if let Some(after) = self.retry_after {
            let _ = write!(out, "\nRetry-After: {} s.\n", whole_seconds(after));
        }
        let _ = write!(out, "\nMore about this problem: <{uri}>\n");
        out
    }
}

enum Member<'a> {
    Text(Cow<'a, str>),
    Number(u16),
    Flag(bool),
}

/// `Retry-After` in whole seconds: rounded up, since earlier is too early, and never 0, which asks for a storm.
pub(super) fn whole_seconds(after: Duration) -> u64 {
    after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)
}

/// A double-quoted YAML scalar (YAML 1.2.2, section 7.3.1). JSON's escapes would nearly do, but not for DEL,
/// for C1 controls and for characters beyond 16 bits.
fn yaml_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        let _ = match char {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            ' '..='~' => out.write_char(char),
            _ if u32::from(char) <= 0xffff => write!(out, "\\u{:04x}", u32::from(char)),
            _ => write!(out, "\\U{:08x}", u32::from(char)),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Code, Retry};
    use super::*;
    use crate::key::Key;
    use http::StatusCode;
    use http::header::ACCEPT;
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn accept(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(kind))])
    }

    fn key(text: &str) -> Key {
        Key::from_text(text).unwrap()
    }

    fn body(problem: &Problem, kind: &'static str) -> String {
        let response = problem.render(&accept(kind), &Docs::default());
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    fn full() -> Problem {
        Problem::new(Code::InFlight)
            .with_key(key("order \"1\" \\ {x: y} # - ---"))
            .with_instance(Uuid::from_u128(0x0192_f5c0_0000_7000_8000_0000_0000_0001))
            .with_retry_after(Duration::from_secs(3))
    }

    #[test]
    fn json_has_every_member_in_the_documented_order() {
        let text = body(&full(), "*/*");
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            parsed,
            json!({
                "type": "https://semel-rs.github.io/semel/problems/in-flight",
                "title": Code::InFlight.title(),
                "status": 409,
                "detail": Code::InFlight.detail(),
                "code": "in-flight",
                "retry": "same-key",
                "retryable": true,
                "idempotency_key": "order \"1\" \\ {x: y} # - ---",
                "instance": "urn:uuid:0192f5c0-0000-7000-8000-000000000001",
            })
        );
        assert!(
            text.starts_with(r#"{"type":"https://semel-rs.github.io/semel/problems/in-flight","title":"#)
        );
        assert_eq!(body(&full(), "application/json"), text, "the same members under the other type");
    }

    #[test]
    fn members_that_are_not_known_are_left_out() {
        let parsed: Value = serde_json::from_str(&body(&Problem::new(Code::KeyInvalid), "*/*")).unwrap();
        assert!(parsed.get("idempotency_key").is_none() && parsed.get("instance").is_none());
        assert_eq!(parsed["retryable"], false);
    }

    #[test]
    fn every_code_carries_the_documented_fields_in_every_format() {
        for code in Code::ALL {
            for (kind, content_type) in [
                ("*/*", "application/problem+json"),
                ("application/json", "application/json"),
                ("text/markdown", "text/markdown; charset=utf-8"),
            ] {
                let response = Problem::new(code).render(&accept(kind), &Docs::default());
                assert_eq!(response.status(), code.status());
                let headers = response.headers();
                assert_eq!(headers["content-type"], content_type);
                assert_eq!(headers["content-language"], "en");
                assert_eq!(headers["vary"], "Accept");
                assert_eq!(headers["cache-control"], "no-store");
                let link = format!(
                    "<https://semel-rs.github.io/semel/problems/{code}>; rel=\"describedby\"; type=\"text/html\""
                );
                assert_eq!(headers["link"], link);
                assert!(!headers.contains_key("content-length") && !headers.contains_key("retry-after"));
            }
        }
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up_and_never_zero() {
        for (after, seconds) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(2), "2"),
            (Duration::from_millis(2001), "3"),
            (Duration::MAX, "18446744073709551615"),
        ] {
            let response = Problem::new(Code::Overloaded)
                .with_retry_after(after)
                .render(&accept("*/*"), &Docs::default());
            assert_eq!(response.headers()["retry-after"], seconds);
        }
    }

    #[test]
    fn what_differs_from_the_defaults_is_told() {
        let problem = Problem::new(Code::OutcomeUnknown)
            .with_status(StatusCode::GATEWAY_TIMEOUT)
            .with_retry(Retry::SameKey)
            .with_detail("The application did not answer in time.");
        let response = problem.render(&HeaderMap::new(), &Docs::new("/problems/").unwrap());
        assert_eq!(response.status(), 504);
        assert_eq!(response.headers()["idempotency-outcome"], "unknown");
        let parsed: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(parsed["status"], 504);
        assert_eq!(parsed["retry"], "same-key");
        assert_eq!(parsed["retryable"], true);
        assert_eq!(parsed["type"], "/problems/outcome-unknown");
        assert_eq!(parsed["detail"], "The application did not answer in time.");
        assert!(body(&problem, "text/markdown").contains("same key"));

        let gone = Problem::new(Code::ReplayUnavailable)
            .with_location(HeaderValue::from_static("/orders/7"))
            .render(&HeaderMap::new(), &Docs::default());
        assert_eq!(gone.headers()["location"], "/orders/7");
        assert!(!gone.headers().contains_key("idempotency-outcome"));
    }

    /// Two hops: the outer one must release a request that the inner one never sent, not hold it as lost.
    #[test]
    fn an_unreachable_upstream_tells_a_gateway_before_this_one_that_nothing_ran() {
        use crate::policy::keep::{Class, Keep, Outcome};
        for (code, class) in [
            (Code::UpstreamUnreachable, Class::Release),
            (Code::OutcomeUnknown, Class::Unknown),
            (Code::StoreUnavailable, Class::Release),
            (Code::RolledBack, Class::Release),
        ] {
            let answer = Problem::new(code).render(&HeaderMap::new(), &Docs::default());
            let said = Outcome::from_headers(answer.headers());
            assert_eq!(Keep::definitive().classify(answer.status(), answer.headers(), said), class, "{code}");
        }
    }

    #[test]
    fn markdown_has_the_members_and_says_what_to_do() {
        let text = body(&full(), "text/markdown");
        let (front, prose) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
        // Double-quoted YAML of printable ASCII is JSON, as are its numbers and booleans.
        let members: serde_json::Map<String, Value> = front
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), serde_json::from_str(value).unwrap()))
            .collect();
        let json: Value = serde_json::from_str(&body(&full(), "application/json")).unwrap();
        assert_eq!(Value::Object(members), json);
        assert!(prose.starts_with(&format!("\n# {}\n\n## What happened\n\n", Code::InFlight.title())));
        assert!(prose.contains(Code::InFlight.detail()));
        assert!(prose.contains(&format!("## What to do\n\n{}\n", Code::InFlight.what_to_do())));
        assert!(prose.contains("Retry-After: 3 s."));
        assert!(prose.contains("<https://semel-rs.github.io/semel/problems/in-flight>"));
    }

    /// Text chosen by a stranger must not add members of its own to what an agent reads.
    #[test]
    fn nothing_breaks_out_of_the_front_matter() {
        let detail = "a\n---\n\"\nretry: \"new-key";
        for text in ["\" retry: \"new-key", "---", "\\\" x", "'", "\\", "&a *b !!c"] {
            let problem = Problem::new(Code::KeyReused).with_key(key(text)).with_detail(detail);
            let text = body(&problem, "text/markdown");
            let (front, _) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
            assert_eq!(front.lines().count(), 8, "{front}");
            assert_eq!(front.matches("\nretry: ").count(), 1);
        }
        assert_eq!(yaml_string("\u{7f}\u{85}\u{1f600}\"\\\n\t"), r#""\u007f\u0085\U0001f600\"\\\n\u0009""#);
    }

    mod any_key {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn reads_back_as_it_was_sent(text in "[ -~]{1,255}") {
                let problem = Problem::new(Code::KeyReused).with_key(key(&text));
                let parsed: Value = serde_json::from_str(&body(&problem, "*/*")).unwrap();
                prop_assert_eq!(parsed["idempotency_key"].as_str(), Some(text.as_str()));
                let markdown = body(&problem, "text/markdown");
                let line = markdown.lines().find_map(|line| line.strip_prefix("idempotency_key: ")).unwrap();
                prop_assert_eq!(serde_json::from_str::<String>(line).unwrap(), text);
            }
        }
    }
}
