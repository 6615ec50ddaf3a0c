//! Which broken stores random sequences and histories find, that were not made for them.

use std::collections::BTreeSet;

use semel_conformance::{histories, sequences};

use crate::breaks::{BREAKS, quietly};
use crate::broken::Bench;

/// Searches each broken store, and names those that were found.
fn found<Fut>(search: fn(Bench) -> Fut) -> BTreeSet<String>
where
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    quietly(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut found = BTreeSet::new();
            for (how, _) in BREAKS {
                // A broken store may also trip over itself, which is found as well.
                let searched = tokio::spawn(search(Bench::new(*how))).await;
                if !matches!(searched, Ok(Ok(()))) {
                    found.insert(format!("{how:?}"));
                }
            }
            found
        })
    })
}

/// Found by neither, with this seed and these numbers: what needs a body of a mebibyte, fields, trailers, waiters, a
/// reopened store, a batch, many records, or more luck.
const BEYOND_BOTH: [&str; 27] = [
    "BodiesAreText",
    "CountsThenClaims",
    "CutsLargeBodies",
    "DeafToAbandonment",
    "DeafToCompletion",
    "DeafToDeletion",
    "DeafToRelease",
    "DeafToResolution",
    "DropsOrigin",
    "DropsReference",
    "DropsTrailers",
    "DurableInNameOnly",
    "EmptyIsNothing",
    "FencesRestartWithTheStore",
    "HeadersDoNotRepeat",
    "IgnoresExpect",
    "LooksAtHalfTheId",
    "OneReasonForAll",
    "PagesHaveGaps",
    "RenewsSorted",
    "ResolutionsNeedAnAnswer",
    "SweepsMiscount",
    "SweepsTheRunning",
    "SweepsWithoutLimit",
    "TakesAnOldResolutionForANewOne",
    "UnknownEnds",
    "WakesOne",
];

/// Found by histories and by no sequence: what needs two callers at once, or a duplicate at the wrong moment.
const BEYOND_SEQUENCES: [&str; 10] = [
    "CompletesTheSuccessorsRun",
    "LateAnswerIsApplied",
    "LooksThenClaims",
    "LooksThenRunsAgain",
    "LooksThenTakesOver",
    "MismatchRemovesUnknown",
    "MismatchTakesReleased",
    "RenewsLapsedHold",
    "RenewsTheSuccessor",
    "ResolutionsLoseTheAnswer",
];

// The numbers in the documentation. A search that finds less than it did has lost its edge without a word.
#[test]
fn sequences_find_the_broken_stores_they_found_before() {
    let all: BTreeSet<_> = BREAKS.iter().map(|(how, _)| format!("{how:?}")).collect();
    let found = found(|bench| sequences::check(bench, 1, sequences::CASES));
    let missed: BTreeSet<_> = all.difference(&found).map(String::as_str).collect();
    let known: BTreeSet<_> = BEYOND_BOTH.iter().chain(&BEYOND_SEQUENCES).copied().collect();
    assert_eq!(missed, known, "found {} of {}", found.len(), all.len());
}

// Which caller comes first is the machine's own, so now and then one more is found, or one fewer.
#[test]
fn histories_find_broken_stores_that_no_sequence_finds() {
    for lossy in [false, true] {
        let found = if lossy {
            found(|bench| histories::check(bench, 1, histories::HISTORIES, true))
        } else {
            found(|bench| histories::check(bench, 1, histories::HISTORIES, false))
        };
        assert!(found.len() >= 60, "lossy: {lossy}, found {}: {found:?}", found.len());
        // What a hundred laws find only because somebody thought of it.
        for how in ["LooksThenClaims", "LooksThenTakesOver", "LooksThenRunsAgain", "RenewsTheSuccessor"] {
            assert!(found.contains(how), "lossy: {lossy}, {how} was not found");
        }
    }
}
