//! The client has no part of the engine in it. What the engine says, it has to understand all the same.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use semel_client::{Answer, Retries, Step, Verdict};
use semel_core::problem::{Code, Docs, Problem, Retry};
use semel_core::record::Recovery;

use super::support::{begin, fields, wall};

fn after(problem: &Problem, accept: &str) -> Step {
    let at = Instant::now();
    let call = begin(&Retries::default(), &Method::POST, &HeaderMap::new(), at, |asked| asked).unwrap();
    let answer = problem.render(&fields(&[("accept", accept)]), &Docs::default());
    let heard =
        Answer { status: answer.status(), headers: answer.headers(), body: Some(answer.body().as_ref()) };
    let trying = call.send(at).unwrap();
    assert!(trying.reads(answer.status(), answer.headers()) >= answer.body().len());
    trying.answered(&heard, at, wall())
}

/// A code that the client does not know would be judged by its status, and an unknown outcome as a refusal.
#[test]
fn every_problem_of_the_engine_is_done_as_it_says() {
    for accept in ["*/*", "application/json"] {
        for code in Code::ALL {
            let step = after(&Problem::new(code), accept);
            let wrong = matches!(code.status().as_u16(), 400 | 422);
            match (code.retry(), step) {
                (Retry::SameKey, Step::Again { .. }) => assert!(!wrong, "{code}"),
                (Retry::SameKey, Step::End(end)) => {
                    assert!(wrong, "{code}: a 400 is never sent again");
                    assert_eq!(end.verdict, Verdict::Rejected);
                }
                (Retry::NewKey | Retry::Stop, Step::End(end)) => {
                    assert_eq!(end.verdict, Verdict::Rejected, "{code}");
                }
                (Retry::Reconcile, Step::End(end)) => {
                    assert_eq!(end.verdict, Verdict::Unknown, "{code}");
                    assert!(end.key.is_some());
                }
                (_, step) => panic!("{code}: {step:?}"),
            }
        }
    }
}

#[test]
fn the_recovery_of_the_server_decides_what_unknown_means() {
    assert!(matches!(after(&Problem::outcome_unknown(Recovery::Hold), "*/*"), Step::End(_)));
    assert!(matches!(after(&Problem::outcome_unknown(Recovery::Takeover), "*/*"), Step::Again { .. }));
}

#[test]
fn the_engines_retry_after_is_kept() {
    let problem = Problem::new(Code::InFlight).with_retry_after(Duration::from_secs(3));
    let Step::Again { after, .. } = after(&problem, "*/*") else { panic!("in flight") };
    assert!(after >= Duration::from_secs(3) && after < Duration::from_secs(4));
}
