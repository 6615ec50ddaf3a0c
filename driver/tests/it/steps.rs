//! Steps: crashes between them, takeovers, reruns, deploys that change them, and what a record says of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use proptest::prelude::*;
use semel_core::policy::Policy;
use semel_core::record::{Recovery, State, codec};
use semel_core::steps::{Progress, StepState, StepsEnd};
use semel_driver::{NoSteps, StepError, Steps, StepsError};
use semel_testkit::faulty::{Fault, Step};

use crate::support::{Answer, Handler, Ran, Rig, order, rig, send, settle, text};

const SECOND: Duration = Duration::from_secs(1);

/// A provider that does what it is asked once for each key, as payment systems do.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    effects: HashMap<String, String>,
    calls: Vec<(String, String)>,
}

impl Provider {
    fn charge(&self, what: &str, key: &str) -> String {
        let mut book = self.0.lock().unwrap();
        book.calls.push((what.to_owned(), key.to_owned()));
        let nth = book.effects.len() + 1;
        book.effects.entry(key.to_owned()).or_insert(format!("{what}-{nth}")).clone()
    }

    fn calls(&self, what: &str) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|(name, _)| name == what).count()
    }

    /// Each effect once, whatever the number of calls.
    fn effects(&self) -> usize {
        self.0.lock().unwrap().effects.len()
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().calls.iter().map(|(_, key)| key.clone()).collect()
    }
}

type Script = Arc<dyn Fn(&str, &str) -> Result<(), StepError> + Send + Sync>;

/// A handler that does these steps, one after the other. `script` is asked before each call, with the step's
/// name and key.
fn walks(provider: &Provider, names: &[&'static str], script: Script) -> Handler {
    let (provider, names) = (provider.clone(), names.to_vec());
    Arc::new(move |parts: Parts, _| {
        let (provider, names, script) = (provider.clone(), names.clone(), script.clone());
        Box::pin(async move { Ok(all(&provider, &names, &script, &parts).await.unwrap_or_else(answer_of)) })
    })
}

async fn all(
    provider: &Provider,
    names: &[&str],
    script: &Script,
    parts: &Parts,
) -> Result<Answer, StepsError> {
    let mut steps = Steps::take(&parts.extensions).unwrap();
    let mut results: Vec<String> = Vec::new();
    for name in names {
        let result = steps.run(name, async |key| {
            script(name, key.as_str())?;
            Ok(provider.charge(name, key.as_str()))
        });
        results.push(result.await?);
    }
    Ok(text(201, results.join(",")))
}

fn answer_of(error: StepsError) -> Answer {
    let (parts, whole) = error.into_answer().into_parts();
    let mut answer = text(parts.status.as_u16(), whole.bytes);
    *answer.headers_mut() = parts.headers;
    *answer.extensions_mut() = parts.extensions;
    answer
}

fn fine() -> Script {
    Arc::new(|_, _| Ok(()))
}

fn stepped() -> Rig {
    rig(semel_driver::Builder::steps)
}

async fn progress(rig: &Rig, key: &str) -> Progress {
    let recorded = rig.view(key).await.unwrap().progress.unwrap();
    codec::decode_progress(&recorded).unwrap()
}

fn names(progress: &Progress) -> Vec<(&str, StepState, u32)> {
    progress.steps.iter().map(|step| (&*step.name, step.state, step.attempt)).collect()
}

#[tokio::test]
async fn each_step_is_done_once_and_the_record_forgets_them_when_it_is_completed() {
    let (rig, provider) = (stepped(), Provider::default());
    let handler = walks(&provider, &["charge", "mail"], fine());
    let first = send(rig.idem.clone(), order("k", "{}"), handler.clone()).await;
    assert_eq!((first.status.as_u16(), first.body.as_str()), (201, "charge-1,mail-2"));
    let retry = send(rig.idem.clone(), order("k", "{}"), handler).await;
    assert_eq!((retry.body.as_str(), retry.replayed()), ("charge-1,mail-2", true));
    assert_eq!((provider.effects(), provider.keys().len()), (2, 2));
    assert_eq!(rig.view("k").await.unwrap().progress, None);
}

// A crash takes the store's connection with the process: nothing is settled, and another process goes on.
#[tokio::test]
async fn a_crash_at_any_store_call_leaves_each_effect_once() {
    // Before and after each of three steps: six notes, and the completion.
    for survived in 0..=6 {
        let (rig, provider) = (rig(|b| b.steps().settle_within(SECOND)), Provider::default());
        let steps = ["charge", "ship", "mail"];
        // The calls go on being refused: the process is as good as dead.
        for _ in 0..survived {
            rig.faults.pass(Step::Note);
        }
        for step in [Step::Note, Step::Complete, Step::Release, Step::Abandon, Step::Renew] {
            rig.faults.always(step, Fault::Refused);
        }
        let dies = rig.patient(order("k", "{}"), &walks(&provider, &steps, fine())).await;
        assert_ne!(dies.status.as_u16(), 201, "{survived}");
        rig.faults.heal();
        rig.clock.advance(SECOND * 31).await;
        let got = send(rig.idem.clone(), order("k", "{}"), walks(&provider, &steps, fine())).await;
        assert_eq!((got.status.as_u16(), got.body.as_str()), (201, "charge-1,ship-2,mail-3"), "{survived}");
        assert_eq!(provider.effects(), 3, "{survived}: {:?}", provider.keys());
        // A step that was recorded is not called again.
        for (n, step) in steps.iter().enumerate() {
            let recorded = survived >= 2 * n + 2;
            let begun = survived > 2 * n;
            assert_eq!(provider.calls(step), if recorded || !begun { 1 } else { 2 }, "{survived}: {step}");
        }
        assert_eq!(rig.state("k").await, Some(State::Completed));
    }
}

#[tokio::test]
async fn a_step_to_try_again_frees_the_key_and_the_rerun_goes_on_with_the_same_step_key() {
    let (rig, provider) = (stepped(), Provider::default());
    // The call takes effect, and its answer is lost.
    let lost = provider.clone();
    let script: Script = Arc::new(move |name, key| {
        if name == "ship" && lost.calls("ship") == 0 {
            lost.charge(name, key);
            return Err(StepError::retry("no answer in time"));
        }
        Ok(())
    });
    let handler = walks(&provider, &["charge", "ship"], script);
    let first = send(rig.idem.clone(), order("k", "{}"), handler.clone()).await;
    assert_eq!((first.status.as_u16(), first.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(rig.state("k").await, Some(State::Released));
    let recorded = progress(&rig, "k").await;
    assert_eq!(names(&recorded), [("charge", StepState::Done, 1), ("ship", StepState::Started, 1)]);
    // What was charged must be known for as long as a completed record would be, not for ten minutes.
    rig.clock.advance(Duration::from_mins(11)).await;
    let second = send(rig.idem.clone(), order("k", "{}"), handler).await;
    assert_eq!((second.status.as_u16(), second.body.as_str()), (201, "charge-1,ship-2"));
    assert_eq!((provider.calls("charge"), provider.calls("ship"), provider.effects()), (1, 2, 2));
}

#[tokio::test]
async fn a_step_has_the_same_key_at_every_attempt_and_another_for_every_step_and_record() {
    let (rig, seen) = (stepped(), Arc::new(Mutex::new(Vec::<String>::new())));
    let keys = seen.clone();
    let handler: Handler = Arc::new(move |parts: Parts, _| {
        let keys = keys.clone();
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            let sure = steps.run("a", async |key| {
                keys.lock().unwrap().push(key.to_string());
                Ok(0)
            });
            sure.await.unwrap();
            let never = steps.run("b", async |key| {
                keys.lock().unwrap().push(key.to_string());
                Err::<(), _>(StepError::retry("busy"))
            });
            Ok(answer_of(never.await.unwrap_err()))
        })
    });
    for key in ["k", "k", "k", "l"] {
        assert_eq!(send(rig.idem.clone(), order(key, "{}"), handler.clone()).await.status.as_u16(), 503);
    }
    let seen = seen.lock().unwrap().clone();
    let [a, b1, b2, b3, other_a, other_b] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(b1 == b2 && b2 == b3);
    for (at, key) in [a, b1, other_a, other_b].iter().enumerate() {
        assert!(![a, b1, other_a, other_b][..at].contains(key));
        assert!(key.len() <= 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{key}");
    }
}

#[tokio::test]
async fn a_final_error_is_recorded_and_no_attempt_calls_its_step_again() {
    let (rig, provider) = (stepped(), Provider::default());
    // The handler tries again what failed for good, as one that was written in a hurry would.
    let inner = provider.clone();
    let handler: Handler = Arc::new(move |parts: Parts, _| {
        let provider = inner.clone();
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            let declined = steps.run("charge", async |key| {
                provider.charge("charge", key.as_str());
                Err::<String, _>(StepError::final_("card declined"))
            });
            let error = declined.await.unwrap_err();
            assert_eq!(
                (error.end(), error.final_text(), error.step()),
                (StepsEnd::Final, Some("card declined"), "charge")
            );
            Ok(text(503, "try later"))
        })
    });
    for _ in 0..2 {
        assert_eq!(send(rig.idem.clone(), order("k", "{}"), handler.clone()).await.status.as_u16(), 503);
    }
    assert_eq!(provider.calls("charge"), 1);
    assert_eq!(names(&progress(&rig, "k").await), [("charge", StepState::Failed, 1)]);
    // Left to itself the error is kept: every retry is told the same.
    let fails: Handler = walks(&provider, &["charge"], Arc::new(|_, _| Err(StepError::final_("declined"))));
    let first = send(rig.idem.clone(), order("l", "{}"), fails.clone()).await;
    let retry = send(rig.idem.clone(), order("l", "{}"), fails).await;
    assert_eq!((first.status.as_u16(), retry.status.as_u16(), retry.replayed()), (500, 500, true));
    assert!(!first.body.contains("declined"), "the application's text is not the client's: {}", first.body);
}

/// Renamed, reordered, put before, taken away: each is found before anything is called.
#[tokio::test]
async fn a_deploy_that_changes_the_steps_is_found_and_nothing_is_called_or_skipped() {
    let before = ["charge", "ship", "mail"];
    let deploys: [(&[&'static str], &str); 5] = [
        (&["charge-card", "ship", "mail"], "`charge`, and"),
        (&["ship", "charge", "mail"], "asks for `ship`"),
        (&["check", "charge", "ship", "mail"], "asks for `check`"),
        (&["charge", "mail"], "`ship`"),
        (&["charge"], "without asking for it"),
    ];
    for (after, says) in deploys {
        let (rig, provider) = (stepped(), Provider::default());
        let busy: Script =
            Arc::new(|name, _| if name == "mail" { Err(StepError::retry("busy")) } else { Ok(()) });
        let first = send(rig.idem.clone(), order("k", "{}"), walks(&provider, &before, busy)).await;
        assert_eq!(first.status.as_u16(), 503);
        let effects = provider.effects();
        let got = send(rig.idem.clone(), order("k", "{}"), walks(&provider, after, fine())).await;
        assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"), "{after:?}: {}", got.body);
        assert_eq!(provider.effects(), effects, "{after:?}");
        let recorded = progress(&rig, "k").await;
        let trouble = recorded.trouble.clone().unwrap();
        assert!(trouble.contains(says), "{after:?}: {trouble}");
        assert_eq!(recorded.steps.len(), 3, "{after:?}");
        assert_ne!(rig.state("k").await, Some(State::Completed));
        // The program that knows the steps goes on, once the lease is over.
        rig.clock.advance(SECOND * 31).await;
        let mended = send(rig.idem.clone(), order("k", "{}"), walks(&provider, &before, fine())).await;
        assert_eq!(mended.status.as_u16(), 201, "{after:?}: {}", mended.body);
        assert_eq!(provider.effects(), 3, "{after:?}");
    }
}

/// A deploy that takes the setting away altogether must not answer as if nothing had been charged.
#[tokio::test]
async fn a_route_without_steps_does_not_complete_a_record_that_has_some() {
    let (rig, provider) = (stepped(), Provider::default());
    let busy: Script = Arc::new(|name, _| if name == "b" { Err(StepError::retry("busy")) } else { Ok(()) });
    send(rig.idem.clone(), order("k", "{}"), walks(&provider, &["a", "b"], busy)).await;
    let plain: Handler = Arc::new(|_, _| Box::pin(async { Ran::Ok(text(201, "made")) }));
    let mut rules = semel_core::policy::PolicyBuilder::default();
    rules.recovery = Recovery::Takeover;
    let without = rig.idem.route(|_| rules).unwrap();
    let got = send(without, order("k", "{}"), plain).await;
    assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"));
    assert!(progress(&rig, "k").await.trouble.unwrap().contains("`a`"));
}

#[tokio::test]
async fn a_worker_that_was_superseded_begins_no_further_step() {
    let (rig, provider) = (stepped(), Provider::default());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (pass, held) = (gate.clone(), provider.clone());
    let late: Handler = Arc::new(move |parts: Parts, _| {
        let (pass, provider) = (pass.clone(), held.clone());
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            let a = steps.run("a", async |key| Ok(provider.charge("a", key.as_str())));
            a.await.unwrap();
            pass.acquire().await.unwrap().forget();
            let b = steps.run("b", async |key| Ok(provider.charge("late b", key.as_str())));
            let error = b.await.unwrap_err();
            assert_eq!(error.end(), StepsEnd::Superseded);
            Ok(answer_of(error))
        })
    });
    let first = tokio::spawn(send(rig.idem.clone(), order("k", "{}"), late));
    settle().await;
    rig.faults.always(Step::Renew, Fault::Refused);
    rig.clock.advance(SECOND * 31).await;
    let next = send(rig.idem.clone(), order("k", "{}"), walks(&provider, &["a", "b"], fine())).await;
    assert_eq!(next.body, "a-1,b-2");
    gate.add_permits(1);
    let got = first.await.unwrap();
    assert_eq!((got.body.as_str(), got.replayed()), ("a-1,b-2", true));
    assert_eq!((provider.calls("a"), provider.calls("late b")), (1, 0));
}

/// The bound is told before anything is recorded that could not be read back.
#[tokio::test]
async fn a_result_over_the_bound_is_an_error_that_says_so_and_frees_the_key() {
    let (rig, asked) = (stepped(), Arc::new(Mutex::new(0)));
    let counted = asked.clone();
    let handler: Handler = Arc::new(move |parts: Parts, _| {
        let counted = counted.clone();
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            let huge = steps.run_bytes("huge", async |_| {
                *counted.lock().unwrap() += 1;
                Ok(Bytes::from(vec![0; Progress::MAX_RESULT + 1]))
            });
            let error = huge.await.unwrap_err();
            assert_eq!(error.end(), StepsEnd::Misused);
            assert!(error.to_string().contains("16385") && error.to_string().contains("16384"), "{error}");
            Ok(answer_of(error))
        })
    });
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), handler).await.status.as_u16(), 500);
    assert_eq!((rig.state("k").await, *asked.lock().unwrap()), (Some(State::Released), 1));
    assert_eq!(names(&progress(&rig, "k").await), [("huge", StepState::Started, 1)]);
}

#[tokio::test]
async fn a_recorded_result_of_another_type_is_trouble_and_not_a_second_call() {
    let (rig, provider) = (stepped(), Provider::default());
    let busy: Script = Arc::new(|name, _| if name == "b" { Err(StepError::retry("busy")) } else { Ok(()) });
    send(rig.idem.clone(), order("k", "{}"), walks(&provider, &["a", "b"], busy)).await;
    let numbers: Handler = Arc::new(|parts: Parts, _| {
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            let error = steps.run::<u64, _, _>("a", async |_| panic!("called again")).await.unwrap_err();
            assert_eq!(error.end(), StepsEnd::Differs);
            Ok(answer_of(error))
        })
    });
    let got = send(rig.idem.clone(), order("k", "{}"), numbers).await;
    assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"));
    assert!(progress(&rig, "k").await.trouble.unwrap().contains("type"));
}

/// Two tasks at once, the same name twice, names that are none, too many, and steps after the end.
#[tokio::test]
async fn what_a_handler_may_not_do_with_steps_is_refused_and_calls_nothing() {
    let rig = stepped();
    let handler: Handler = Arc::new(|parts: Parts, _| {
        Box::pin(async move {
            let mut steps = Steps::take(&parts.extensions).unwrap();
            assert_eq!(Steps::take(&parts.extensions).unwrap_err(), NoSteps::Lent);
            steps.run("a", async |_| Ok(1)).await.unwrap();
            let long = "n".repeat(Progress::MAX_NAME + 1);
            for name in ["a", "", "with space", "tab\t", &long] {
                let error = steps.run::<u8, _, _>(name, async |_| panic!("called")).await.unwrap_err();
                assert_eq!(error.end(), StepsEnd::Misused, "{name}: {error}");
            }
            drop(steps);
            // Given back, it goes on where it was: in a helper, or behind another extractor.
            let mut steps = Steps::take(&parts.extensions).unwrap();
            for n in 2..=Progress::MAX_STEPS {
                steps.run(&format!("a-{n}"), async |_| Ok(n)).await.unwrap();
            }
            let error = steps.run::<u8, _, _>("one-more", async |_| panic!("called")).await.unwrap_err();
            assert!(error.to_string().contains("64"), "{error}");
            steps.finish();
            assert_eq!(Steps::take(&parts.extensions).unwrap_err(), NoSteps::Finished);
            Ok(text(201, "made"))
        })
    });
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), handler).await.status.as_u16(), 201);
    assert_eq!(rig.state("k").await, Some(State::Completed));
}

/// A task that outlives the handler would go on with its steps after the answer says that they are done.
#[tokio::test]
async fn steps_that_outlive_their_handler_leave_the_outcome_unknown() {
    let rig = stepped();
    let handler: Handler = Arc::new(|parts: Parts, _| {
        Box::pin(async move {
            let steps = Steps::take(&parts.extensions).unwrap();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(steps);
            });
            Ok(text(202, "under way"))
        })
    });
    let got = send(rig.idem.clone(), order("k", "{}"), handler).await;
    assert_eq!((got.status.as_u16(), got.code()), (500, "outcome-unknown"));
}

#[tokio::test]
async fn steps_are_there_only_where_the_route_has_them() {
    let rig = rig(|b| b);
    let handler: Handler = Arc::new(|parts: Parts, _| {
        Box::pin(async move {
            let none = Steps::take(&parts.extensions).unwrap_err();
            assert_eq!(none, NoSteps::NotEnabled);
            assert!(none.to_string().contains("`steps`"));
            Ok(text(200, "fine"))
        })
    });
    assert_eq!(send(rig.idem.clone(), order("k", "{}"), handler).await.status.as_u16(), 200);
}

#[test]
fn steps_under_hold_are_refused_by_both_names() {
    let error = Policy::builder().steps().recovery(Recovery::Hold).build().unwrap_err().to_string();
    assert!(error.contains("`steps`") && error.contains("`recovery`"), "{error}");
    assert_eq!(Policy::builder().steps().build().unwrap().recovery, Recovery::Takeover);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever fails, and however often: each effect once, each recorded step called by one attempt only, and the last
    /// answer holds every result.
    #[test]
    fn whatever_fails_between_steps_each_effect_happens_once(
        length in 1_usize..6,
        failures in proptest::collection::vec(0_u8..4, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (rig, provider) = (rig(|b| b.steps().settle_within(SECOND)), Provider::default());
            let steps = &["a", "b", "c", "d", "e"][..length];
            let failures = Arc::new(Mutex::new(failures.into_iter()));
            loop {
                let (turns, doing) = (failures.clone(), provider.clone());
                let script: Script = Arc::new(move |name, key| {
                    let turn = turns.lock().unwrap().next();
                    match turn {
                    Some(1) => Err(StepError::retry("busy")),
                    Some(2) => {
                        doing.charge(name, key);
                        panic!("it took effect, and its result is lost")
                    }
                    _ => Ok(()),
                    }
                });
                let fault = failures.lock().unwrap().next();
                if fault == Some(3) {
                    rig.faults.always(Step::Note, Fault::AnswerLost);
                }
                let got = rig.patient(order("k", "{}"), &walks(&provider, steps, script)).await;
                rig.faults.heal();
                assert!(provider.effects() <= length);
                if got.status.as_u16() == 201 {
                    assert_eq!(got.body.split(',').count(), length);
                    break;
                }
                // A panic leaves the lease to run out.
                rig.clock.advance(SECOND * 31).await;
            }
            assert_eq!(provider.effects(), length);
            let keys: std::collections::HashSet<_> = provider.keys().into_iter().collect();
            assert_eq!(keys.len(), length, "one key a step, at every attempt");
        });
    }
}
