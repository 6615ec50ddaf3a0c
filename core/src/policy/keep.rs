//! Which answers are kept, which free the key, and which leave the outcome unknown.
//!
//! A [`Keep`] is a route's rule. Three things bind every rule, its own word included: a status that leaves
//! the outcome unknown stays unknown, a gRPC status is judged as a gRPC status, and the application's
//! [`Outcome`] has the last word over all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::grpc;
use crate::policy::headers::IDEMPOTENCY_OUTCOME;

/// What an answer does to the record of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the engine settles each of them in its own way")]
pub enum Class {
    /// The answer is kept, and every retry gets it.
    Store,
    /// The answer says "not done, try again": the next equal request runs.
    Release,
    /// Nothing ran here (307, 308): the key is as free as if it had never been used.
    Forget,
    /// Nobody knows whether the request took effect: the record's recovery rule decides.
    Unknown,
}

/// What the application says about its own run, whatever its status looks like.
///
/// Said with the response field `Idempotency-Outcome`, which is removed before the answer leaves, or with this
/// type as an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "it was done, it was not, or nobody knows")]
pub enum Outcome {
    /// `applied`: it took effect. The answer is kept, also a 500.
    Applied,
    /// `not-applied`: it did not. The next equal request runs, also after a 200.
    NotApplied,
    /// `unknown`: the application does not know either.
    Unknown,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 3] = [Self::Applied, Self::NotApplied, Self::Unknown];

    /// The value of the field `Idempotency-Outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not-applied",
            Self::Unknown => "unknown",
        }
    }

    /// The value of the field `Idempotency-Outcome`, ready to be inserted.
    pub const fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// Reads the field `Idempotency-Outcome` of an answer; `None` if it is absent.
    ///
    /// Values are compared without regard to case, and several are one when all are the same. Anything else
    /// is [`Outcome::Unknown`]: the application had something to say about its effects that was not
    /// understood, and neither a second run nor a kept answer may rest on a guess.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut said = None;
        for value in headers.get_all(&IDEMPOTENCY_OUTCOME) {
            for member in value.as_bytes().split(|byte| *byte == b',') {
                let outcome = std::str::from_utf8(member).ok().and_then(|text| text.trim().parse().ok());
                match (said, outcome) {
                    (None, Some(outcome)) => said = Some(outcome),
                    (Some(before), Some(outcome)) if before == outcome => {}
                    _ => return Some(Self::Unknown),
                }
            }
        }
        said
    }

    const fn class(self) -> Class {
        match self {
            Self::Applied => Class::Store,
            Self::NotApplied => Class::Release,
            Self::Unknown => Class::Unknown,
        }
    }
}

impl FromStr for Outcome {
    type Err = crate::record::UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str().eq_ignore_ascii_case(text))
            .ok_or(crate::record::UnknownName)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A route's rule for which answers are kept. Cheap to clone.
///
/// | answer | [`definitive`](Keep::definitive) | [`careful`](Keep::careful) | [`success`](Keep::success) | [`everything`](Keep::everything) |
/// |---|---|---|---|---|
/// | 101, 2xx | store | store | store | store |
/// | 300–306, 309–399 | store | store | release | store |
/// | 307, 308 | forget | forget | forget | forget |
/// | 401, 407, 426 | release | release | release | release |
/// | 403, 421, 423, 425, 429, 431 | release | release | release | store |
/// | 408, 499 | unknown | unknown | unknown | unknown |
/// | other 4xx | store | store | release | store |
/// | 500, 503 | release | **unknown** | release | store |
/// | 502, 504 | unknown | unknown | unknown | unknown |
/// | other 5xx | release | release | release | store |
/// | other 1xx, 600 and above | unknown | unknown | unknown | unknown |
///
/// The last row holds what is no final HTTP status at all: it says nothing about the run.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use semel_core::policy::keep::{Class, Keep, Outcome};
///
/// let keep = Keep::definitive();
/// let headers = HeaderMap::new();
/// assert_eq!(keep.classify(StatusCode::CREATED, &headers, None), Class::Store);
/// assert_eq!(keep.classify(StatusCode::BAD_GATEWAY, &headers, None), Class::Unknown);
/// assert_eq!(keep.classify(StatusCode::BAD_GATEWAY, &headers, Some(Outcome::NotApplied)), Class::Release);
/// ```
#[derive(Clone)]
pub struct Keep(Rule);

#[derive(Clone)]
enum Rule {
    Definitive,
    Careful,
    Success,
    Everything,
    Custom { name: Arc<str>, judge: Arc<Judge> },
}

type Judge = dyn Fn(StatusCode, &HeaderMap) -> Class + Send + Sync;

impl Default for Keep {
    fn default() -> Self {
        Self::definitive()
    }
}

impl Keep {
    /// Keeps what a retry would get again, frees the key after "not done, try again". The default.
    pub const fn definitive() -> Self {
        Self(Rule::Definitive)
    }

    /// As [`definitive`](Self::definitive), but 500 and 503 are unknown: for applications that answer so
    /// after they took effect.
    pub const fn careful() -> Self {
        Self(Rule::Careful)
    }

    /// Keeps successes only; every error frees the key.
    pub const fn success() -> Self {
        Self(Rule::Success)
    }

    /// Keeps errors too, 500 included, as Stripe does; 401, 407 and 426 never, for they are about the exchange.
    pub const fn everything() -> Self {
        Self(Rule::Everything)
    }

    /// A rule of one's own, from the status and the fields of the answer. `name` appears in logs.
    ///
    /// It is not asked about answers that leave the outcome unknown, nor about a known gRPC status. A panic in
    /// it counts as a panic of the handler.
    pub fn from_fn(
        name: impl Into<Arc<str>>,
        judge: impl Fn(StatusCode, &HeaderMap) -> Class + Send + Sync + 'static,
    ) -> Self {
        Self(Rule::Custom { name: name.into(), judge: Arc::new(judge) })
    }

    /// The rule's name: of the four in settings, or the one given to [`from_fn`](Self::from_fn).
    pub fn name(&self) -> &str {
        match &self.0 {
            Rule::Definitive => "definitive",
            Rule::Careful => "careful",
            Rule::Success => "success",
            Rule::Everything => "everything",
            Rule::Custom { name, .. } => name,
        }
    }

    /// What the head of an answer says. `said` is the application's own word, which wins over everything.
    ///
    /// A gRPC answer whose status is still to come in its trailers is [`Class::Store`] here; ask
    /// [`classify_whole`](Self::classify_whole) when it has ended.
    pub fn classify(&self, status: StatusCode, headers: &HeaderMap, said: Option<Outcome>) -> Class {
        if let Some(said) = said {
            return said.class();
        }
        if leaves_unknown(status) {
            return Class::Unknown;
        }
        if status == StatusCode::OK
            && grpc::Kind::of(headers).is_some()
            && let Some(code) = grpc::status_of(headers)
        {
            return self.classify_grpc(code);
        }
        self.by_status(status, headers)
    }

    /// What an answer says that has ended: as [`classify`](Self::classify), with the gRPC status of its
    /// trailers.
    ///
    /// A gRPC answer that ended without a status was cut short: [`Class::Unknown`]. gRPC-Web sends its trailers
    /// inside the body, which is not looked into: such an answer is judged by its HTTP status, and an
    /// application that wants more says so with `Idempotency-Outcome`.
    pub fn classify_whole(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        trailers: Option<&HeaderMap>,
        said: Option<Outcome>,
    ) -> Class {
        if Self::awaits_trailers(status, headers, said) {
            return trailers
                .and_then(grpc::status_of)
                .map_or(Class::Unknown, |code| self.classify_grpc(code));
        }
        self.classify(status, headers, said)
    }

    /// Whether the answer's trailers decide: a gRPC answer whose head carries no gRPC status.
    pub(crate) fn awaits_trailers(status: StatusCode, headers: &HeaderMap, said: Option<Outcome>) -> bool {
        said.is_none()
            && status == StatusCode::OK
            && grpc::Kind::of(headers) == Some(grpc::Kind::Native)
            && grpc::status_of(headers).is_none()
    }

    /// What a gRPC status code says.
    ///
    /// UNAVAILABLE, DEADLINE_EXCEEDED, UNKNOWN, INTERNAL, CANCELLED, and numbers that gRPC does not define
    /// (which its libraries read as UNKNOWN): [`Class::Unknown`] under every rule. UNAUTHENTICATED,
    /// PERMISSION_DENIED, RESOURCE_EXHAUSTED: [`Class::Release`]. Others: [`Class::Store`].
    ///
    /// [`success`](Self::success) keeps OK alone; [`everything`](Self::everything) keeps PERMISSION_DENIED and
    /// RESOURCE_EXHAUSTED too.
    pub fn classify_grpc(&self, code: u32) -> Class {
        match (code, &self.0) {
            (1 | 2 | 4 | 13 | 14 | 17.., _) => Class::Unknown,
            (7 | 8, Rule::Everything) => Class::Store,
            (7 | 8 | 16, _) | (1.., Rule::Success) => Class::Release,
            _ => Class::Store,
        }
    }

    /// The class of an answer whose writes are rolled back unless it is stored: what would be unknown only because
    /// nobody knows what the handler did is known not to have happened. The application's own word stays: that of the
    /// answer, and that of a rule of its own.
    pub(crate) fn undone(
        &self,
        class: Class,
        status: StatusCode,
        headers: &HeaderMap,
        said: Option<Outcome>,
    ) -> Class {
        let asked = matches!(self.0, Rule::Custom { .. })
            && !leaves_unknown(status)
            && !(status == StatusCode::OK
                && grpc::Kind::of(headers).is_some()
                && grpc::status_of(headers).is_some());
        match class {
            Class::Unknown if said.is_none() && !asked => Class::Release,
            class => class,
        }
    }

    /// Whether an answer says that the request failed: what it wrote is not to stay.
    pub(crate) fn failed(status: StatusCode, headers: &HeaderMap, trailers: Option<&HeaderMap>) -> bool {
        let ended = || grpc::status_of(headers).or_else(|| trailers.and_then(grpc::status_of));
        status.as_u16() >= 400 || (grpc::Kind::of(headers).is_some() && ended().is_some_and(|code| code != 0))
    }

    fn by_status(&self, status: StatusCode, headers: &HeaderMap) -> Class {
        match (status.as_u16(), &self.0) {
            (_, Rule::Custom { judge, .. }) => judge(status, headers),
            (307 | 308, _) => Class::Forget,
            (401 | 407 | 426, _) | (300.., Rule::Success) => Class::Release,
            (_, Rule::Everything) => Class::Store,
            (500 | 503, Rule::Careful) => Class::Unknown,
            (403 | 421 | 423 | 425 | 429 | 431 | 500.., _) => Class::Release,
            _ => Class::Store,
        }
    }
}

/// Statuses that no rule overrides: time-out layers answer 408 and 499 while or after they cancel, gateways
/// 502 and 504 when they lost their upstream, and 1xx but 101 or 600 and above are no final status.
fn leaves_unknown(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 499 | 502 | 504 | 100 | 102..=199 | 600..)
}

impl FromStr for Keep {
    type Err = UnknownKeep;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::definitive(), Self::careful(), Self::success(), Self::everything()]
            .into_iter()
            .find(|keep| keep.name() == text)
            .ok_or(UnknownKeep)
    }
}

/// A text that names no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such rule: use definitive, careful, success or everything")]
pub struct UnknownKeep;

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keep({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(keep: &Keep, status: u16) -> Class {
        keep.classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), None)
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The contract's table, written out a second time and for every status there is.
    #[test]
    fn definitive_is_the_contract_for_every_status() {
        for status in 100..=999 {
            let expected = match status {
                307 | 308 => Class::Forget,
                401 | 403 | 407 | 421 | 423 | 425 | 426 | 429 | 431 => Class::Release,
                408 | 499 | 502 | 504 => Class::Unknown,
                101 | 200..=299 | 300..=306 | 309..=399 | 400..=498 => Class::Store,
                500..=599 => Class::Release,
                _ => Class::Unknown,
            };
            assert_eq!(class(&Keep::definitive(), status), expected, "{status}");
        }
    }

    /// Each other rule, by what it changes against the default and by nothing else.
    #[test]
    fn the_named_rules_differ_where_they_say_and_nowhere_else() {
        for status in 100..=999 {
            let base = class(&Keep::definitive(), status);
            let careful = if matches!(status, 500 | 503) { Class::Unknown } else { base };
            assert_eq!(class(&Keep::careful(), status), careful, "careful {status}");

            let releases = base == Class::Store && (300..600).contains(&status);
            let success = if releases { Class::Release } else { base };
            assert_eq!(class(&Keep::success(), status), success, "success {status}");

            let keeps = base == Class::Release && !matches!(status, 401 | 407 | 426);
            let everything = if keeps { Class::Store } else { base };
            assert_eq!(class(&Keep::everything(), status), everything, "everything {status}");
        }
    }

    /// A predicate "keep all" once kept a proxy's 504 and replayed it after the effect had happened.
    #[test]
    fn no_predicate_overrides_unknown() {
        let all = Keep::from_fn("all", |_, _| Class::Store);
        for status in [408, 499, 502, 504, 103, 600] {
            assert_eq!(class(&all, status), Class::Unknown, "{status}");
        }
        assert_eq!(class(&all, 429), Class::Store);
        let by_field = Keep::from_fn("by field", |_, headers| {
            if headers.contains_key("x-partial") { Class::Unknown } else { Class::Release }
        });
        assert_eq!(by_field.classify(StatusCode::OK, &fields(&[("x-partial", "1")]), None), Class::Unknown);
        assert_eq!(by_field.name(), "by field");
    }

    #[test]
    fn the_application_has_the_last_word_over_every_rule() {
        let grpc = fields(&[("content-type", "application/grpc"), ("grpc-status", "14")]);
        let rules = [
            Keep::definitive(),
            Keep::careful(),
            Keep::success(),
            Keep::everything(),
            Keep::from_fn("never", |_, _| Class::Forget),
        ];
        for keep in rules {
            for (said, expected) in [
                (Outcome::Applied, Class::Store),
                (Outcome::NotApplied, Class::Release),
                (Outcome::Unknown, Class::Unknown),
            ] {
                for status in [200, 307, 401, 408, 422, 500, 502] {
                    let status = StatusCode::from_u16(status).unwrap();
                    assert_eq!(keep.classify(status, &HeaderMap::new(), Some(said)), expected);
                    assert_eq!(keep.classify_whole(status, &grpc, None, Some(said)), expected);
                }
            }
        }
    }

    #[test]
    fn an_outcome_is_read_as_it_is_meant() {
        let read = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|value| ("idempotency-outcome", *value)).collect();
            Outcome::from_headers(&fields(&lines))
        };
        assert_eq!(read(&[]), None);
        for outcome in Outcome::ALL {
            assert_eq!(read(&[outcome.as_str()]), Some(outcome));
            assert_eq!(read(&[outcome.as_str(), outcome.as_str()]), Some(outcome), "said twice");
        }
        assert_eq!(read(&["  Not-Applied "]), Some(Outcome::NotApplied));
    }

    /// A typing error must neither repeat a payment nor freeze a wrong answer.
    #[test]
    fn an_outcome_that_is_not_understood_is_unknown() {
        for lines in [
            &["aplied"][..],
            &[""],
            &["applied,"],
            &["applied", "not-applied"],
            &["applied, not-applied"],
            &["\"applied\""],
        ] {
            let lines: Vec<_> = lines.iter().map(|value| ("idempotency-outcome", *value)).collect();
            assert_eq!(Outcome::from_headers(&fields(&lines)), Some(Outcome::Unknown), "{lines:?}");
        }
        let mut opaque = HeaderMap::new();
        opaque.insert("idempotency-outcome", HeaderValue::from_bytes(b"applied\xff").unwrap());
        assert_eq!(Outcome::from_headers(&opaque), Some(Outcome::Unknown));
    }

    #[test]
    fn grpc_codes_follow_the_contract() {
        for code in 0..=20 {
            let expected = match code {
                1 | 2 | 4 | 13 | 14 | 17.. => Class::Unknown,
                7 | 8 | 16 => Class::Release,
                _ => Class::Store,
            };
            assert_eq!(Keep::definitive().classify_grpc(code), expected, "{code}");
            assert_eq!(Keep::careful().classify_grpc(code), expected, "{code}");
        }
        assert_eq!(Keep::success().classify_grpc(0), Class::Store);
        assert_eq!(Keep::success().classify_grpc(5), Class::Release);
        assert_eq!(Keep::success().classify_grpc(14), Class::Unknown);
        assert_eq!(Keep::everything().classify_grpc(8), Class::Store);
        assert_eq!(Keep::everything().classify_grpc(16), Class::Release);
        assert_eq!(Keep::everything().classify_grpc(13), Class::Unknown);
    }

    /// A gRPC failure travels as HTTP 200: keeping by status alone replays UNAVAILABLE for a day.
    #[test]
    fn a_trailers_only_failure_is_judged_by_its_grpc_status() {
        let keep = Keep::definitive();
        for kind in
            ["application/grpc", "application/grpc+proto", "Application/gRPC; x=y", "application/grpc-web"]
        {
            let unavailable = fields(&[("content-type", kind), ("grpc-status", "14")]);
            assert_eq!(keep.classify(StatusCode::OK, &unavailable, None), Class::Unknown, "{kind}");
        }
        let all = Keep::from_fn("all", |_, _| Class::Store);
        let denied = fields(&[("content-type", "application/grpc"), ("grpc-status", "7")]);
        assert_eq!(all.classify(StatusCode::OK, &denied, None), Class::Release);
        let json = fields(&[("content-type", "application/json"), ("grpc-status", "14")]);
        assert_eq!(keep.classify(StatusCode::OK, &json, None), Class::Store, "not gRPC");
        let other = fields(&[("content-type", "application/grpcx"), ("grpc-status", "14")]);
        assert_eq!(keep.classify(StatusCode::OK, &other, None), Class::Store, "not gRPC");
        let lost = fields(&[("content-type", "application/grpc"), ("grpc-status", "5")]);
        assert_eq!(keep.classify(StatusCode::BAD_GATEWAY, &lost, None), Class::Unknown);
    }

    #[test]
    fn grpc_trailers_decide_when_the_answer_has_ended() {
        let keep = Keep::definitive();
        let head = fields(&[("content-type", "application/grpc")]);
        let end = |trailers: Option<&HeaderMap>| keep.classify_whole(StatusCode::OK, &head, trailers, None);
        assert_eq!(keep.classify(StatusCode::OK, &head, None), Class::Store, "still to come");
        assert_eq!(end(Some(&fields(&[("grpc-status", "0")]))), Class::Store);
        assert_eq!(end(Some(&fields(&[("grpc-status", "8")]))), Class::Release);
        assert_eq!(end(Some(&fields(&[("grpc-status", "13")]))), Class::Unknown);
        assert_eq!(end(Some(&fields(&[("grpc-status", "zero")]))), Class::Unknown);
        assert_eq!(end(Some(&fields(&[("grpc-status", "0"), ("grpc-status", "13")]))), Class::Unknown);
        assert_eq!(end(Some(&HeaderMap::new())), Class::Unknown, "cut short");
        assert_eq!(end(None), Class::Unknown, "cut short");

        let web = fields(&[("content-type", "application/grpc-web+proto")]);
        assert_eq!(keep.classify_whole(StatusCode::OK, &web, None, None), Class::Store, "in its body");
        assert_eq!(keep.classify_whole(StatusCode::OK, &HeaderMap::new(), None, None), Class::Store);
    }

    #[test]
    fn names_round_trip_and_a_wrong_one_is_told_the_right_ones() {
        for name in ["definitive", "careful", "success", "everything"] {
            assert_eq!(name.parse::<Keep>().unwrap().name(), name);
        }
        let error = "all".parse::<Keep>().unwrap_err().to_string();
        assert!(error.contains("everything"), "{error}");
        assert_eq!(Keep::default().name(), "definitive");
    }
}
