//! One span for each guarded request, and one below it for each step that the store is asked for, with the field names of
//! OpenTelemetry's conventions.
//!
//! Neither carries a key, a credential, a query or a body; a record is named as it is in the log. Where nobody listens
//! nothing is made.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use http::request::Parts;
use semel_core::observe::Event;
use semel_core::record::{Fence, RecordId};
use semel_core::store::StoreError;
use tracing::field::{Empty, display};
use tracing::{Span, debug_span, info_span};

/// What subscribers filter by: `semel::request=info`.
const REQUEST: &str = "semel::request";
const STORE: &str = "semel::store";

/// The span of one request, from its head to the moment when its answer may go out, or its run is settled.
#[derive(Debug)]
pub(crate) struct Trace {
    span: Span,
    /// The client was told something. A run may go on after that.
    told: AtomicBool,
}

impl Trace {
    pub(crate) fn of(parts: &Parts, namespace: &str) -> Self {
        let span = info_span!(
            target: REQUEST,
            "idempotency",
            otel.kind = "internal",
            otel.status_code = Empty,
            http.request.method = parts.method.as_str(),
            http.route = Empty,
            http.response.status_code = Empty,
            url.path = parts.uri.path(),
            error.type = Empty,
            idempotency.namespace = namespace,
            idempotency.record = Empty,
            idempotency.outcome = Empty,
            idempotency.settled = Empty,
            idempotency.attempt = Empty,
            idempotency.fence = Empty,
            idempotency.detached = Empty,
        );
        Self { span, told: AtomicBool::new(false) }
    }

    /// For work that no request waits for.
    pub(crate) const fn none() -> Self {
        Self { span: Span::none(), told: AtomicBool::new(true) }
    }

    /// For whatever is done for this request, by whichever task.
    pub(crate) fn clone_span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span.in_scope(work)
    }

    pub(crate) fn routed<S: AsRef<str>>(&self, route: impl FnOnce() -> Option<S>) {
        if !self.span.is_disabled()
            && let Some(route) = route()
        {
            self.span.record("http.route", route.as_ref());
        }
    }

    /// Notes what an event says of this request.
    pub(crate) fn on(&self, event: &Event<'_>) {
        if self.span.is_disabled() {
            return;
        }
        match *event {
            Event::Rejected { code, status, id, .. } => {
                self.record(id);
                if self.tell(code.as_str(), Some(status)) {
                    self.span.record("error.type", code.as_str());
                }
            }
            Event::Replayed { id, status, .. } => {
                self.record(Some(id));
                self.tell("replayed", Some(status));
            }
            Event::FailedOpen => {
                self.tell("unguarded", None);
            }
            Event::Claimed { id, attempt, fence } => {
                self.record(Some(id));
                self.span.record("idempotency.attempt", attempt);
                self.fence(fence);
            }
            Event::Completed { .. }
            | Event::Released { .. }
            | Event::Abandoned { .. }
            | Event::Superseded { .. } => {
                self.span.record("idempotency.settled", event.name());
            }
            Event::DetachedRun { .. } => {
                self.span.record("idempotency.detached", true);
            }
            _ => {}
        }
    }

    /// The run's own answer goes out.
    pub(crate) fn fresh(&self, status: StatusCode) {
        if !self.span.is_disabled() {
            self.tell("fresh", Some(status));
        }
    }

    fn record(&self, id: Option<&RecordId>) {
        if let Some(id) = id {
            self.span.record("idempotency.record", display(id));
        }
    }

    fn fence(&self, fence: Fence) {
        self.span.record("idempotency.fence", fence.get());
    }

    /// Once: what comes later is told to nobody.
    fn tell(&self, outcome: &'static str, status: Option<StatusCode>) -> bool {
        if self.told.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.span.record("idempotency.outcome", outcome);
        if let Some(status) = status {
            self.span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                self.span.record("otel.status_code", "ERROR");
            }
        }
        true
    }
}

/// A step that the store is asked for, with all its tries.
pub(crate) fn of_step(store: &'static str, step: &'static str) -> Span {
    debug_span!(
        target: STORE,
        "store",
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system(store),
        db.operation.name = step,
        error.type = Empty,
    )
}

pub(crate) fn failed(span: &Span, error: &StoreError) {
    span.record("error.type", error.kind().as_str());
    span.record("otel.status_code", "ERROR");
}

/// As OpenTelemetry lists the names of databases.
fn system(store: &'static str) -> &'static str {
    match store {
        "postgres" => "postgresql",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use semel_core::problem::Code;

    use super::*;

    // Most programs trace nothing: what they pay for each guarded request is a comparison.
    #[test]
    fn nothing_is_made_where_nobody_listens() {
        let (parts, ()) = http::Request::post("/orders?a=1").body(()).unwrap().into_parts();
        let (id, status) = (RecordId::from_bytes([1; 32]), StatusCode::OK);
        let trace = || {
            let trace = Trace::of(&parts, "orders");
            trace.routed(|| -> Option<String> { panic!("nobody asked for the route") });
            trace.on(&Event::Replayed { id: &id, status, age: Duration::ZERO });
            trace.on(&Event::Rejected { code: Code::KeyReused, status, id: Some(&id), instance: None });
            trace.fresh(status);
            trace.within(|| drop(of_step("memory", "begin")));
        };
        // The first time tells the callsites that nobody listens.
        trace();
        assert_eq!(allocation_counter::measure(trace).count_total, 0);
        assert_ne!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 0);
    }
}
