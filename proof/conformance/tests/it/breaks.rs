//! What can be broken, and which laws say so.

use std::collections::{BTreeMap, BTreeSet};

use semel_conformance::{LAWS, LawName, all};

use crate::broken::Bench;

macro_rules! breaks {
    ($($how:ident => [$($law:ident),* $(,)?],)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Break {
            Nothing,
            $($how,)*
        }

        /// Each break, with the laws that must fail and no other.
        pub(crate) const BREAKS: &[(Break, &[&str])] = &[$((Break::$how, &[$(stringify!($law)),*]),)*];
    };
}

breaks! {
    DurableInNameOnly => [
        a_durable_store_remembers,
        fences_grow_across_reopening,
    ],
    ExpiresNoKey => [an_old_key_is_expired],
    UnclaimedTakeoversStay => [an_unclaimed_takeover_is_released_after_a_records_life],
    CountsNoRecords => [
        a_burst_stays_within_its_quota,
        a_quota_limits_records,
        a_removed_record_frees_its_quota,
    ],
    CountsNoBytes => [
        a_quota_limits_bytes,
        a_removed_record_frees_its_quota,
    ],
    LooksAtHalfTheId => [neighbours_do_not_exclude_each_other],
    LooksThenClaims => [one_of_64_claims_is_granted],
    RemovedRecordsStillCount => [a_removed_record_frees_its_quota],
    CountsThenClaims => [a_burst_stays_within_its_quota],
    ConflictsWithItself => [
        a_repeated_claim_finds_itself,
        progress_is_handed_to_the_next_claimant,
    ],
    LetsTheSameClaimGoOn => [takeover_by_the_same_claim_is_a_new_attempt],
    ForgetsAttempts => [
        a_delayed_resolution_does_not_resolve_a_later_run,
        a_mismatch_changes_nothing_when_the_lease_is_over,
        a_quota_counts_new_records_only,
        a_released_record_is_granted_again,
        an_abandoned_takeover_waits_for_its_lease,
        one_of_64_takeovers_is_granted,
        one_of_64_waiters_runs_a_released_record,
        progress_is_handed_to_the_next_claimant,
        resolved_as_not_applied_runs_again,
        takeover_takes_what_is_over,
        timestamps_are_in_order,
    ],
    LooksThenTakesOver => [
        one_of_64_takeovers_is_granted,
        renewal_and_takeover_exclude_each_other,
    ],
    LooksThenRunsAgain => [one_of_64_waiters_runs_a_released_record],
    ReleasedBindsPrincipal => [a_released_record_binds_no_principal],
    NobodyIsNotNobody => [no_principal_equals_only_none],
    QuotaCountsRetries => [a_quota_counts_new_records_only],
    UnknownEnds => [an_unknown_record_never_ends],
    ZeroIsTheFirstAttempt => [
        a_completed_record_ends,
        a_forgotten_record_binds_nothing,
        a_released_record_ends,
        a_released_record_is_granted_again,
        an_abandoned_takeover_waits_for_its_lease,
        an_unused_key_is_granted,
        delete_any_removes_any_record,
        neighbours_do_not_exclude_each_other,
        progress_is_handed_to_the_next_claimant,
        resolved_as_not_applied_runs_again,
        takeover_by_the_same_claim_is_a_new_attempt,
        takeover_takes_what_is_over,
    ],
    HandsNoProgressOn => [progress_is_handed_to_the_next_claimant],
    KeepsTheFence => [
        a_delayed_resolution_does_not_resolve_a_later_run,
        a_forgotten_record_binds_nothing,
        a_late_abandon_is_superseded,
        a_late_completion_is_superseded_by_a_running_successor,
        a_late_completion_is_superseded_by_the_winners_answer,
        a_late_note_is_superseded,
        a_late_release_is_superseded_by_a_successor,
        a_late_renewal_is_superseded,
        a_released_record_is_granted_again,
        a_repeated_release_leaves_the_next_claim_alone,
        fences_grow_from_claim_to_claim,
        resolved_as_not_applied_runs_again,
        takeover_by_the_same_claim_is_a_new_attempt,
        takeover_takes_what_is_over,
        timestamps_are_in_order,
    ],
    FencesFall => [
        a_completed_record_ends,
        a_forgotten_record_binds_nothing,
        a_late_abandon_is_superseded,
        a_late_completion_is_superseded_by_a_running_successor,
        a_late_completion_is_superseded_by_the_winners_answer,
        a_late_note_is_superseded,
        a_late_release_is_superseded_by_a_successor,
        a_late_renewal_is_superseded,
        a_released_record_is_granted_again,
        a_renewed_lease_runs_on,
        a_repeated_release_leaves_the_next_claim_alone,
        a_repeated_resolution_is_applied_and_changes_nothing,
        a_resolution_of_another_fence_is_refused,
        a_resolution_supersedes_the_late_worker,
        an_unused_key_is_granted,
        fences_grow_across_deletion,
        fences_grow_across_reopening,
        fences_grow_from_claim_to_claim,
        resolved_as_not_applied_runs_again,
        takeover_by_the_same_claim_is_a_new_attempt,
        takeover_takes_what_is_over,
    ],
    FencesRestartWithTheRecord => [
        fences_grow_across_deletion,
        fences_grow_across_reopening,
    ],
    FencesRestartWithTheStore => [fences_grow_across_reopening],
    TellsNoRemaining => [a_running_record_is_held],
    ReplaysNothing => [
        a_body_ends_before_its_record,
        a_completed_record_is_answered,
        bodies_of_a_mebibyte,
        bodies_of_every_byte,
        empty_bodies,
        headers_repeat_and_hold_any_byte,
        references_are_kept,
        the_origin_is_kept,
        the_reason_for_no_body_is_kept,
        trailers_are_kept,
    ],
    RunsUnknown => [
        a_lapsed_hold_is_unknown_to_every_reader,
        a_late_completion_wins_over_unknown,
        an_unknown_record_is_not_run,
        an_unknown_record_never_ends,
        hold_is_never_taken_over,
    ],
    HoldYieldsToALaterRule => [hold_is_never_taken_over],
    TakesOverEarly => [
        a_renewed_lease_runs_on,
        a_takeovers_lease_is_renewed_until_it_is_taken,
        one_of_64_takeovers_is_granted,
        takeover_waits_for_the_lease,
    ],
    NeverRunsReleased => [
        a_delayed_resolution_does_not_resolve_a_later_run,
        a_forgotten_record_binds_nothing,
        a_quota_counts_new_records_only,
        a_released_record_binds_no_principal,
        a_released_record_is_granted_again,
        a_repeated_release_leaves_the_next_claim_alone,
        fences_grow_from_claim_to_claim,
        one_of_64_waiters_runs_a_released_record,
        progress_is_handed_to_the_next_claimant,
        resolved_as_not_applied_runs_again,
    ],
    RunsStale => [
        a_claim_is_released_by_its_own_number,
        a_delayed_packet_of_a_released_claim_is_stale,
    ],
    RunsStaleForgotten => [a_delayed_packet_of_a_forgotten_claim_is_stale],
    IgnoresPrincipal => [
        another_principal_differs,
        no_principal_equals_only_none,
    ],
    MismatchTakesRunning => [a_mismatch_changes_nothing_in_flight],
    MismatchTakesOver => [a_mismatch_changes_nothing_when_the_lease_is_over],
    LapseBeforeMismatch => [a_mismatch_comes_before_a_lapse],
    MismatchIsReplayed => [a_mismatch_changes_nothing_completed],
    MismatchRemovesUnknown => [a_mismatch_changes_nothing_unknown],
    MismatchTakesReleased => [
        a_mismatch_changes_nothing_released,
        a_released_record_binds_its_fingerprint,
    ],
    DropsReference => [references_are_kept],
    BodiesAreText => [
        bodies_of_a_mebibyte,
        bodies_of_every_byte,
    ],
    EmptyIsNothing => [empty_bodies],
    CutsLargeBodies => [bodies_of_a_mebibyte],
    HeadersDoNotRepeat => [headers_repeat_and_hold_any_byte],
    DropsTrailers => [trailers_are_kept],
    DropsOrigin => [the_origin_is_kept],
    OneReasonForAll => [the_reason_for_no_body_is_kept],
    TellsNoStatus => [
        a_completion_settles_the_record,
        a_release_after_completion_is_superseded,
        bodies_of_a_mebibyte,
        bodies_of_every_byte,
        empty_bodies,
        headers_repeat_and_hold_any_byte,
        references_are_kept,
        releasing_a_claim_that_never_arrived_changes_nothing,
        the_origin_is_kept,
        the_reason_for_no_body_is_kept,
        trailers_are_kept,
    ],
    CreatedMoves => [timestamps_are_in_order],
    KeepsProgress => [progress_is_dropped_at_completion],
    LapseIsUnseen => [
        a_lapsed_hold_is_not_renewed,
        a_lapsed_hold_is_unknown_to_every_reader,
        hold_is_never_taken_over,
    ],
    RenewsSorted => [a_batch_of_renewals_is_answered_in_its_order],
    RenewsNothing => [
        a_batch_of_renewals_is_answered_in_its_order,
        a_lapsed_hold_is_not_renewed,
        a_late_renewal_is_superseded,
        a_renewed_lease_runs_on,
        a_settled_record_is_not_renewed,
        a_takeovers_lease_is_renewed_until_it_is_taken,
        renewal_and_takeover_exclude_each_other,
        renewing_a_deleted_record_is_absent,
    ],
    RefusesLateRenewals => [a_takeovers_lease_is_renewed_until_it_is_taken],
    RenewsTheSuccessor => [
        a_late_renewal_is_superseded,
        renewal_and_takeover_exclude_each_other,
    ],
    RenewsLapsedHold => [a_lapsed_hold_is_not_renewed],
    RenewsSettled => [
        a_batch_of_renewals_is_answered_in_its_order,
        a_settled_record_is_not_renewed,
    ],
    RenewsTheAbsent => [
        a_batch_of_renewals_is_answered_in_its_order,
        renewing_a_deleted_record_is_absent,
    ],
    BodiesNeverEnd => [
        a_body_ends_before_its_record,
        a_sweep_counts_what_it_did,
    ],
    RecordsNeverEnd => [
        a_completed_record_ends,
        a_sweep_counts_what_it_did,
        a_sweep_works_in_batches,
    ],
    LateCompletionLoses => [
        a_late_completion_wins_over_unknown,
        progress_is_dropped_at_completion,
    ],
    LateTakeoverLoses => [a_late_truth_wins_when_nobody_took_over],
    RepeatedCompletionLoses => [
        a_record_is_completed_once,
        a_repeated_completion_is_applied_and_changes_nothing,
    ],
    CompletesTwice => [
        a_record_is_completed_once,
        a_repeated_completion_is_applied_and_changes_nothing,
    ],
    CompletesTheSuccessorsRun => [
        a_late_completion_is_superseded_by_a_running_successor,
        fences_grow_across_deletion,
    ],
    LateAnswerIsApplied => [a_late_completion_is_superseded_by_the_winners_answer],
    CompletesReleased => [
        a_completion_after_its_release_is_superseded,
        an_unclaimed_takeover_is_released_after_a_records_life,
    ],
    OverrulesTheOperator => [a_resolution_supersedes_the_late_worker],
    CompletesTheAbsent => [
        a_completed_record_ends,
        a_completion_of_a_deleted_record_is_absent,
    ],
    ReleasedNeverEnds => [a_released_record_ends],
    ReleasedBindsNothing => [
        a_mismatch_changes_nothing_released,
        a_released_record_binds_its_fingerprint,
        a_released_record_is_granted_again,
        a_repeated_release_is_applied_and_changes_nothing,
        one_of_64_waiters_runs_a_released_record,
        progress_is_handed_to_the_next_claimant,
    ],
    ForgottenBinds => [a_forgotten_record_binds_nothing],
    LateReleaseLoses => [a_late_release_wins_over_unknown],
    RepeatedReleaseLoses => [
        a_claim_is_released_by_its_own_number,
        a_repeated_release_is_applied_and_changes_nothing,
    ],
    ReleasesTheSuccessor => [
        a_late_release_is_superseded_by_a_successor,
        a_repeated_release_leaves_the_next_claim_alone,
    ],
    ReleasesAnyClaim => [
        a_late_release_is_superseded_by_a_successor,
        a_repeated_release_leaves_the_next_claim_alone,
        releasing_a_claim_that_never_arrived_changes_nothing,
    ],
    ReleasesCompleted => [a_release_after_completion_is_superseded],
    ReleasesNoClaims => [a_claim_is_released_by_its_own_number],
    ReleasesTheAbsent => [
        a_release_of_a_deleted_record_is_absent,
        releasing_a_claim_that_never_arrived_changes_nothing,
    ],
    AbandonsNothing => [
        a_batch_of_renewals_is_answered_in_its_order,
        a_delayed_resolution_does_not_resolve_a_later_run,
        a_late_abandon_is_superseded,
        a_late_note_is_superseded,
        a_list_holds_the_state_that_was_asked_for,
        a_repeated_resolution_is_applied_and_changes_nothing,
        a_resolution_of_another_fence_is_refused,
        a_resolution_supersedes_the_late_worker,
        a_settled_record_is_not_renewed,
        abandoning_a_deleted_record_is_absent,
        abandonment_wakes,
        an_abandoned_hold_is_unknown,
        an_unknown_record_is_not_run,
        resolution_wakes,
        resolved_as_applied_is_completed,
        resolved_as_not_applied_runs_again,
        resolved_without_an_answer_is_completed,
    ],
    AbandonFreesTakeovers => [an_abandoned_takeover_waits_for_its_lease],
    LateAbandonIsApplied => [a_late_abandon_is_superseded],
    AbandonsTheAbsent => [abandoning_a_deleted_record_is_absent],
    LateNoteIsApplied => [a_late_note_is_superseded],
    DeafToCompletion => [
        completion_wakes,
        every_waiter_is_woken,
    ],
    DeafToRelease => [release_wakes],
    DeafToAbandonment => [abandonment_wakes],
    DeafToResolution => [resolution_wakes],
    DeafToDeletion => [deletion_wakes],
    WakesOne => [every_waiter_is_woken],
    ListsEveryState => [
        a_lapsed_hold_is_unknown_to_every_reader,
        a_list_holds_the_state_that_was_asked_for,
        pages_have_no_gap_and_no_duplicate,
    ],
    PagesHaveGaps => [pages_have_no_gap_and_no_duplicate],
    RepeatedResolutionLoses => [a_repeated_resolution_is_applied_and_changes_nothing],
    ResolvesNoLapse => [a_lapsed_record_can_be_resolved],
    ResolutionsNeedAnAnswer => [resolved_without_an_answer_is_completed],
    ResolvesOnlyAsApplied => [
        a_delayed_resolution_does_not_resolve_a_later_run,
        a_repeated_resolution_is_applied_and_changes_nothing,
        a_resolution_supersedes_the_late_worker,
        resolution_wakes,
        resolved_as_not_applied_runs_again,
    ],
    ResolutionsLoseTheAnswer => [
        a_resolution_supersedes_the_late_worker,
        resolved_as_applied_is_completed,
    ],
    IgnoresExpect => [a_resolution_of_another_fence_is_refused],
    TakesAnOldResolutionForANewOne => [a_delayed_resolution_does_not_resolve_a_later_run],
    ResolvesTheRunning => [only_unknown_records_are_resolved],
    DeletesTheRunning => [delete_removes_settled_records_only],
    DeletesSettledOnly => [delete_any_removes_any_record],
    SweepsWithoutLimit => [a_sweep_works_in_batches],
    SweepsMiscount => [a_sweep_counts_what_it_did],
    SweepsTheLiving => [a_sweep_leaves_the_living_alone],
    SweepsTheRunning => [a_running_record_never_ends],
}

/// What no law says by itself: whole sequences and histories, which are judged in `searches`.
fn is_a_search(law: &LawName) -> bool {
    ["sequences", "histories"].contains(&law.theme)
}

async fn failing(how: Break) -> BTreeSet<&'static str> {
    let running: Vec<_> = all::<Bench>()
        .into_iter()
        .filter(|law| !is_a_search(&law.name))
        .map(|law| (law.name.name, tokio::spawn((law.judge)(Bench::new(how)))))
        .collect();
    let mut failing = BTreeSet::new();
    for (name, judged) in running {
        if judged.await.is_err() {
            failing.insert(name);
        }
    }
    failing
}

/// Laws are expected to panic here, hundreds of times: each break's difference is what is printed.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = work();
    std::panic::set_hook(loud);
    done
}

// A law that passes over a store that breaks it protects nobody; one that fails for another's fault misleads.
#[test]
fn a_broken_store_fails_exactly_the_laws_it_breaks() {
    let wrong = quietly(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut wrong = BTreeMap::new();
            let sound = (Break::Nothing, &[][..]);
            let all: Vec<_> = BREAKS.iter().copied().chain([sound]).collect();
            // A few at a time: ten thousand laws at once keep a waiter from its turn for longer than it is given.
            for some in all.chunks(8) {
                let running: Vec<_> =
                    some.iter().map(|(how, laws)| (how, laws, tokio::spawn(failing(*how)))).collect();
                for (how, laws, judged) in running {
                    let failed = judged.await.unwrap();
                    if failed != laws.iter().copied().collect() {
                        wrong.insert(format!("{how:?}"), failed);
                    }
                }
            }
            wrong
        })
    });
    let told: Vec<_> = wrong.iter().map(|(how, laws)| format!("{how} fails {laws:?}")).collect();
    assert!(wrong.is_empty(), "not what was expected:\n{}", told.join("\n"));
}

#[test]
fn each_law_is_broken_by_some_store() {
    let broken: BTreeSet<_> = BREAKS.iter().flat_map(|(_, laws)| laws.iter().copied()).collect();
    let names: BTreeSet<_> = LAWS.iter().map(|law| law.name).collect();
    assert_eq!(names.len(), LAWS.len(), "two laws of one name");
    let laws: BTreeSet<_> = LAWS.iter().filter(|law| !is_a_search(law)).map(|law| law.name).collect();
    assert_eq!(laws, broken);
}
