//! Errors as Stripe's API tells them.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response};
use serde_json::{Map, Value};

use super::Refusal;
use crate::problem::{Code, Docs, Problem};

const STRIPE_SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// `{"error": {"type", "code", "message", "doc_url"}}`, and whether Stripe's clients are to try again: they would take
/// every 409 and 5xx for an invitation.
pub(super) fn render(problem: &Problem, refusal: Option<&Refusal>, docs: &Docs) -> Response<Bytes> {
    let mut error = Map::new();
    error.insert(
        "type".into(),
        refusal.and_then(|refusal| refusal.kind).unwrap_or_else(|| kind(problem)).into(),
    );
    if let Some(code) =
        refusal.map_or_else(|| Some(code(problem.code)), |refusal| refusal.code.map(Into::into))
    {
        error.insert("code".into(), code.into());
    }
    error.insert("message".into(), format!("{} {}", problem.detail, problem.what_to_do()).into());
    error.insert("doc_url".into(), docs.uri(problem.code).into());
    let body = Value::from(Map::from_iter([("error".to_owned(), Value::from(error))]));

    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = problem.status;
    *response.headers_mut() = problem.exchange_fields();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let again = if problem.retry.is_retryable() { "true" } else { "false" };
    headers.insert(STRIPE_SHOULD_RETRY, HeaderValue::from_static(again));
    response
}

/// The types that Stripe documents for what is not a card's or an idempotency error.
fn kind(problem: &Problem) -> &'static str {
    let unknown = problem.code == Code::OutcomeUnknown;
    if unknown || problem.status.is_server_error() { "api_error" } else { "invalid_request_error" }
}

/// Stripe's own word where it has one, else ours in its spelling.
fn code(code: Code) -> String {
    match code {
        Code::QuotaExceeded => "rate_limit".to_owned(),
        other => other.as_str().replace('-', "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::record::Recovery;

    fn told(problem: &Problem) -> (Response<Bytes>, Value) {
        let policy = Profile(&STRIPE_V1).over(PolicyBuilder::default()).build().unwrap();
        let accept =
            HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("text/markdown"))]);
        let answer = policy.render(problem, &accept);
        let body = serde_json::from_slice(answer.body()).unwrap();
        (answer, body)
    }

    #[test]
    fn refusals_have_the_statuses_types_and_codes_that_stripes_clients_know() {
        for (problem, status, kind, code, again) in [
            (Problem::new(Code::KeyReused), 400, "idempotency_error", Value::Null, "false"),
            (
                Problem::new(Code::InFlight),
                409,
                "invalid_request_error",
                "idempotency_key_in_use".into(),
                "true",
            ),
            (Problem::new(Code::QuotaExceeded), 429, "invalid_request_error", "rate_limit".into(), "true"),
            (Problem::new(Code::StoreUnavailable), 503, "api_error", "store_unavailable".into(), "true"),
            (Problem::outcome_unknown(Recovery::Hold), 409, "api_error", "outcome_unknown".into(), "false"),
            (
                Problem::outcome_unknown(Recovery::Takeover),
                409,
                "api_error",
                "outcome_unknown".into(),
                "true",
            ),
            (Problem::new(Code::KeyInvalid), 400, "invalid_request_error", "key_invalid".into(), "false"),
        ] {
            let (answer, body) = told(&problem);
            assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap());
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.headers()["stripe-should-retry"], again, "{:?}", problem.code);
            assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&Value::from(kind), &code));
            assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        }
    }

    #[test]
    fn when_to_come_back_and_what_a_gateway_reads_are_told_in_every_envelope() {
        let problem = Problem::new(Code::InFlight).with_retry_after(Duration::from_millis(1500));
        assert_eq!(told(&problem).0.headers()["retry-after"], "2");
        let unknown = told(&Problem::outcome_unknown(Recovery::Hold)).0;
        assert_eq!(unknown.headers()["idempotency-outcome"], "unknown");
    }
}
