//! Any history of tries, against a model that only counts.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use semel_client::{Answer, Asked, Budget, Call, End, Entropy, Failure, Retries, Step, Verdict};

use super::support::{fields, wall};

#[derive(Clone, Debug)]
enum Event {
    Failed(Failure),
    Answered(u16, Option<u64>),
}

fn event() -> impl Strategy<Value = Event> {
    let failure = prop_oneof![
        Just(Failure::NeverSent),
        Just(Failure::MayHaveRun),
        Just(Failure::TimedOut),
        Just(Failure::Invalid)
    ];
    prop_oneof![
        4 => failure.prop_map(Event::Failed),
        1 => (prop_oneof![200_u16..600, Just(503), Just(429), Just(409), Just(500)], proptest::option::of(0_u64..40))
            .prop_map(|(status, after)| Event::Answered(status, after)),
    ]
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn apart")]
struct Plan {
    method: usize,
    own_key: bool,
    unkeyed: bool,
    replayable: bool,
    once: bool,
    seed: u64,
    /// Each with how long the try takes and how late the shell wakes, in milliseconds.
    events: Vec<(Event, u64, u64)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        0..4_usize,
        any::<[bool; 4]>(),
        any::<u64>(),
        proptest::collection::vec((event(), 0..3000_u64, 0..500_u64), 1..30),
    )
        .prop_map(|(method, [own_key, unkeyed, replayable, once], seed, events)| Plan {
            method,
            own_key,
            unkeyed,
            replayable,
            once,
            seed,
            events,
        })
}

/// What a run of one plan came to, seen from outside.
struct Seen {
    sent: Vec<(Option<String>, Duration)>,
    may_have_run: bool,
    end: Option<End>,
}

fn play(plan: &Plan, retries: &Retries) -> Option<Seen> {
    let method = [Method::POST, Method::PATCH, Method::PUT, Method::GET][plan.method].clone();
    let headers = if plan.own_key { fields(&[("idempotency-key", "mine")]) } else { HeaderMap::new() };
    let start = Instant::now();
    let entropy = Entropy { key: [3; 10], jitter: plan.seed };
    let asked =
        Asked::new(&method, &headers).replayable(plan.replayable).once(plan.once).unkeyed(plan.unkeyed);
    let mut call = Call::begin(retries, &asked, entropy, start, wall()).ok()?;
    let mut seen = Seen { sent: Vec::new(), may_have_run: false, end: None };
    let mut at = start;
    for (event, took, late) in &plan.events {
        let key = match call.minted() {
            Some((_, value)) => Some(value.to_str().unwrap().to_owned()),
            None => plan.own_key.then(|| "mine".to_owned()),
        };
        let trying = match call.send(at) {
            Ok(trying) => trying,
            Err(end) => {
                seen.end = Some(end);
                break;
            }
        };
        seen.sent.push((key, at - start));
        // A try ends in its time: the shell cuts it off.
        at += Duration::from_millis(*took).min(trying.within());
        let step = match event {
            Event::Failed(failure) => {
                seen.may_have_run |= matches!(failure, Failure::MayHaveRun | Failure::TimedOut);
                trying.failed(*failure, at)
            }
            Event::Answered(status, after) => {
                let mut headers = HeaderMap::new();
                if let Some(after) = after {
                    headers.insert("retry-after", (*after).into());
                }
                let status = StatusCode::from_u16(*status).unwrap();
                trying.answered(&Answer { status, headers: &headers, body: None }, at, wall())
            }
        };
        match step {
            Step::Again { call: again, after, .. } => {
                call = again;
                at += after + Duration::from_millis(*late);
            }
            Step::End(end) => {
                seen.end = Some(end);
                break;
            }
        }
    }
    Some(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_no_call_breaks_its_rules(
        plans in proptest::collection::vec(plan(), 1..8),
        tries in 1..12_u32,
        tokens in 0..12_u32,
        earned in 0..1000_u16,
    ) {
        let deadline = Duration::from_secs(20);
        let budget = Budget::new(tokens, earned);
        let retries = Retries::builder().tries(tries).deadline(deadline).try_within(deadline / 4)
            .budget(budget).build().unwrap();
        let mut further = 0_u64;
        let mut answered = 0_u64;
        for plan in &plans {
            let Some(seen) = play(plan, &retries) else {
                prop_assert!(!plan.replayable && !plan.once && tries > 1, "refused without a reason");
                continue;
            };
            let sent = seen.sent.len();
            prop_assert!(sent >= 1 && sent <= tries as usize);
            prop_assert!(plan.replayable || sent == 1, "a body that cannot be sent again was sent again");
            prop_assert!(!plan.once || sent == 1);
            let first = &seen.sent[0].0;
            prop_assert!(seen.sent.iter().all(|(key, _)| key == first), "another key");
            prop_assert_eq!(first.as_deref() == Some("mine"), plan.own_key);
            prop_assert!(seen.sent.iter().all(|(_, at)| *at < deadline), "sent after the deadline");
            let repeatable = first.is_some() || plan.method >= 2;
            if let Some(end) = &seen.end {
                prop_assert_eq!(end.tries as usize, sent);
                prop_assert!(end.verdict != Verdict::NotSent || !seen.may_have_run, "it may have run");
                if matches!(end.verdict, Verdict::Done | Verdict::Replayed | Verdict::Rejected) {
                    answered += 1;
                }
            }
            if !repeatable {
                let ran_before_the_last = plan.events[..sent - 1]
                    .iter()
                    .any(|(event, ..)| !matches!(event, Event::Failed(Failure::NeverSent)));
                prop_assert!(!ran_before_the_last, "sent again although it may have run");
            }
            further += sent as u64 - 1;
            // A wait that was granted and not used has its token, too.
            prop_assert!(
                further * 1000 <= u64::from(tokens) * 1000 + answered * u64::from(earned),
                "more than the budget"
            );
        }
    }

    #[test]
    fn waits_grow_within_their_bounds_and_differ_between_callers(seeds in proptest::collection::hash_set(any::<u64>(), 20)) {
        let retries = Retries::builder().tries(8).budget(Budget::new(1000, 0)).build().unwrap();
        let mut firsts = std::collections::HashSet::new();
        for seed in seeds {
            let (method, headers, start) = (Method::POST, HeaderMap::new(), Instant::now());
            let entropy = Entropy { key: [3; 10], jitter: seed };
            let mut call = Call::begin(&retries, &Asked::new(&method, &headers), entropy, start, wall()).unwrap();
            for number in 0..7_u32 {
                let step = call.send(start).unwrap().failed(Failure::NeverSent, start);
                let Step::Again { call: again, after, .. } = step else { panic!("{number}") };
                prop_assert!(after <= (retries.backoff * 2_u32.pow(number)).min(retries.longest_backoff));
                if number == 0 {
                    firsts.insert(after);
                }
                call = again;
            }
        }
        prop_assert!(firsts.len() > 15, "callers who failed together come back together");
    }
}
