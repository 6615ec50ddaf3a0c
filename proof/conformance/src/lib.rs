//! The laws every Semel store keeps, as tests for anyone's store.
//!
//! A store is right when it passes all of them. There are laws with a name each, that say which mistake they guard
//! against; [`sequences`], which hold a store against a [`model`] of the contract, call by call; and [`histories`] of
//! callers at once, with answers that are lost, for which there has to be an order.
//!
//! # A store of your own, step by step
//!
//! `examples/stranger-store` in Semel's repository is a store that was made so, in a crate of its own.
//!
//! 1. **Implement [`Store`](semel_core::store::Store)**, from its documentation. Every method is one atomic step, judged
//!    by the backend's clock. Let its clock be replaced in tests, or be moved: a law cannot wait seven days.
//! 2. **Depend on this crate in tests**, `semel-conformance` under `[dev-dependencies]`.
//! 3. **Say how it is opened**: [`Fixture`], below. Each law opens a store of its own, so where laws share a server, give
//!    each a table, a prefix or a database of its own.
//! 4. **Write the tests**, one line: [`laws!`]. They run side by side, under `cargo test` or `cargo nextest`.
//! 5. **Read what fails.** A law's name is what it demands, and its documentation says why. A sequence comes as small as
//!    it gets, with the answer that the contract demands instead; a history with the longest order that was found.
//!    `SEMEL_SEED=n`, as it was printed, repeats the calls.
//! 6. **Search longer** once all is green: `SEMEL_CASES=5000 cargo test have_an_order`, and `every_sequence`.
//!
//! What no law can know is left to you: a crash of the backend, a commit whose acknowledgement is lost, a full disk.
//!
//! ```
//! use std::time::Duration;
//! use semel_conformance::Fixture;
//! use semel_core::store::AnyStore;
//! use semel_store_memory::{ManualClock, MemoryStore};
//!
//! struct Memory(MemoryStore, ManualClock);
//!
//! impl Fixture for Memory {
//!     async fn open() -> Self {
//!         let clock = ManualClock::new();
//!         Self(MemoryStore::builder().clock(clock.clone()).build(), clock)
//!     }
//!
//!     fn store(&self) -> AnyStore {
//!         AnyStore::new(self.0.clone())
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         self.1.advance(by);
//!     }
//!
//!     async fn reopen(self) -> Self {
//!         self
//!     }
//! }
//!
//! mod conformance {
//!     semel_conformance::laws!(open = super::Memory);
//! }
//! ```
//!
//! Each law is also a public function that panics where the law is broken, and says in its documentation which
//! mistake it guards against. The contract they judge by is that of
//! [`Store`](semel_core::store::Store). [`LAWS`] lists them; where the environment names a file in `SEMEL_LAWS`, each
//! law appends to it that it was judged, kept or skipped, and over what, for a table of which laws ran on which store.

#![expect(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a broken law is a panic: that is what a law is for"
)]

mod fixture;
mod kit;
mod report;
mod seed;

pub mod answers;
pub mod claim;
pub mod faulty;
pub mod fences;
pub mod histories;
pub mod lease;
pub mod lives;
pub mod mismatch;
pub mod model;
pub mod operate;
pub mod progress;
pub mod quota;
pub mod race;
pub mod sequences;
pub mod settle;
pub mod watching;

use std::future::Future;
use std::pin::Pin;

pub use fixture::{Fixture, Times};
#[doc(hidden)]
pub use report::Place;
use report::Word;

/// One law, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LawName {
    /// The module that holds it.
    pub theme: &'static str,
    /// Its function, named as what it demands: `an_unknown_record_never_ends`.
    pub name: &'static str,
}

impl LawName {
    #[doc(hidden)]
    pub const fn new(theme: &'static str, name: &'static str) -> Self {
        Self { theme, name }
    }

    /// The law as a sentence, for tables: `an unknown record never ends`.
    pub fn says(&self) -> String {
        self.name.replace('_', " ")
    }
}

/// All laws, in the order of the contract.
pub const LAWS: &[LawName] = laws!(@list [@names]);

/// A law that can be run over a fixture of one's own making.
#[expect(clippy::exhaustive_structs, reason = "a pair of a name and what it names")]
pub struct Law<F> {
    /// Its name.
    pub name: LawName,
    /// Judges the store of an opened fixture. Panics where the law is broken.
    pub judge: fn(F) -> Judgement,
}

/// A law at work; needs tokio's multi-thread runtime, since some laws run tasks in parallel.
pub type Judgement = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All laws, ready to run.
pub fn all<F: Fixture>() -> Vec<Law<F>> {
    laws!(@list [@judges])
}

/// Runs one law over a store opened for it, where there is one to be had.
///
/// # Panics
///
/// Where the law is broken, or after two minutes.
pub fn run<F: Fixture, Fut: Future<Output = ()> + Send>(law: impl FnOnce(F) -> Fut) {
    if !F::available() {
        return;
    }
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = built.unwrap_or_else(|error| panic!("no runtime for the law: {error}"));
    runtime.block_on(async {
        let judged = async { law(F::open().await).await };
        let bound = std::time::Duration::from_mins(2);
        assert!(tokio::time::timeout(bound, judged).await.is_ok(), "the law came to no end in {bound:?}");
    });
}

/// As [`run`], and says so to whoever makes a table: the tests of [`laws!`].
#[doc(hidden)]
pub fn run_at<F: Fixture, Fut: Future<Output = ()> + Send>(place: &Place, law: impl FnOnce(F) -> Fut) {
    if !F::available() {
        place.tell(Word::Skipped);
        return;
    }
    place.tell(Word::Judged);
    run(law);
    place.tell(Word::Kept);
}

/// Writes one `#[test]` a law, named after it: `laws!(open = path::to::MyFixture);`
///
/// A layer that sends calls again by itself, over a store whose answers are lost, makes two calls of one, and the first
/// may arrive after the second: [`histories`] of it need not have an order. For such a fixture, and for no store,
/// `laws!(open = MyFixture, without = histories);`. A store with a difference that is known and not mended yet may leave
/// out `sequences`; the table of laws names it.
#[macro_export]
macro_rules! laws {
    (open = $fixture:ty $(,)?) => {
        $crate::laws! { @list [@tests ($fixture)] }
    };
    (open = $fixture:ty, without = histories $(,)?) => {
        $crate::laws! { @list [@tests_without_histories ($fixture)] }
    };
    (open = $fixture:ty, without = sequences $(,)?) => {
        $crate::laws! { @list [@tests_without_sequences ($fixture)] }
    };
    (@list [$($then:tt)*]) => {
        $crate::laws! { $($then)*
            (claim an_unused_key_is_granted)
            (claim a_repeated_claim_finds_itself)
            (claim a_running_record_is_held)
            (claim a_completed_record_is_answered)
            (claim an_unknown_record_is_not_run)
            (claim hold_is_never_taken_over)
            (claim takeover_waits_for_the_lease)
            (claim takeover_takes_what_is_over)
            (claim takeover_by_the_same_claim_is_a_new_attempt)
            (claim a_released_record_is_granted_again)
            (claim a_released_record_binds_no_principal)
            (claim a_released_record_binds_its_fingerprint)
            (claim a_forgotten_record_binds_nothing)
            (claim a_delayed_packet_of_a_released_claim_is_stale)
            (claim a_delayed_packet_of_a_forgotten_claim_is_stale)
            (mismatch a_mismatch_changes_nothing_in_flight)
            (mismatch a_mismatch_changes_nothing_when_the_lease_is_over)
            (mismatch a_mismatch_comes_before_a_lapse)
            (mismatch a_mismatch_changes_nothing_completed)
            (mismatch a_mismatch_changes_nothing_unknown)
            (mismatch a_mismatch_changes_nothing_released)
            (mismatch another_principal_differs)
            (mismatch no_principal_equals_only_none)
            (race one_of_64_claims_is_granted)
            (race one_of_64_takeovers_is_granted)
            (race one_of_64_waiters_runs_a_released_record)
            (race neighbours_do_not_exclude_each_other)
            (race a_record_is_completed_once)
            (race renewal_and_takeover_exclude_each_other)
            (settle a_completion_settles_the_record)
            (settle a_repeated_completion_is_applied_and_changes_nothing)
            (settle a_late_completion_is_superseded_by_a_running_successor)
            (settle a_late_completion_is_superseded_by_the_winners_answer)
            (settle a_completion_after_its_release_is_superseded)
            (settle a_completion_of_a_deleted_record_is_absent)
            (settle a_repeated_release_is_applied_and_changes_nothing)
            (settle a_late_release_is_superseded_by_a_successor)
            (settle a_repeated_release_leaves_the_next_claim_alone)
            (settle a_release_after_completion_is_superseded)
            (settle a_release_of_a_deleted_record_is_absent)
            (settle a_claim_is_released_by_its_own_number)
            (settle releasing_a_claim_that_never_arrived_changes_nothing)
            (settle an_abandoned_hold_is_unknown)
            (settle an_abandoned_takeover_waits_for_its_lease)
            (settle a_late_abandon_is_superseded)
            (settle abandoning_a_deleted_record_is_absent)
            (settle a_late_completion_wins_over_unknown)
            (settle a_late_release_wins_over_unknown)
            (settle a_late_truth_wins_when_nobody_took_over)
            (lease a_renewed_lease_runs_on)
            (lease a_lapsed_hold_is_not_renewed)
            (lease a_takeovers_lease_is_renewed_until_it_is_taken)
            (lease a_late_renewal_is_superseded)
            (lease a_settled_record_is_not_renewed)
            (lease renewing_a_deleted_record_is_absent)
            (lease a_batch_of_renewals_is_answered_in_its_order)
            (lease a_lapsed_hold_is_unknown_to_every_reader)
            (lives an_unknown_record_never_ends)
            (lives a_running_record_never_ends)
            (lives a_body_ends_before_its_record)
            (lives a_completed_record_ends)
            (lives a_released_record_ends)
            (lives an_unclaimed_takeover_is_released_after_a_records_life)
            (lives a_sweep_works_in_batches)
            (lives a_sweep_counts_what_it_did)
            (lives a_sweep_leaves_the_living_alone)
            (lives an_old_key_is_expired)
            (lives timestamps_are_in_order)
            (operate a_list_holds_the_state_that_was_asked_for)
            (operate pages_have_no_gap_and_no_duplicate)
            (operate resolved_as_applied_is_completed)
            (operate resolved_without_an_answer_is_completed)
            (operate resolved_as_not_applied_runs_again)
            (operate a_lapsed_record_can_be_resolved)
            (operate only_unknown_records_are_resolved)
            (operate a_resolution_of_another_fence_is_refused)
            (operate a_repeated_resolution_is_applied_and_changes_nothing)
            (operate a_delayed_resolution_does_not_resolve_a_later_run)
            (operate a_resolution_supersedes_the_late_worker)
            (operate delete_removes_settled_records_only)
            (operate delete_any_removes_any_record)
            (fences fences_grow_from_claim_to_claim)
            (fences fences_grow_across_deletion)
            (fences fences_grow_across_reopening)
            (fences a_durable_store_remembers)
            (answers bodies_of_every_byte)
            (answers empty_bodies)
            (answers bodies_of_a_mebibyte)
            (answers headers_repeat_and_hold_any_byte)
            (answers trailers_are_kept)
            (answers the_origin_is_kept)
            (answers references_are_kept)
            (answers the_reason_for_no_body_is_kept)
            (progress progress_is_handed_to_the_next_claimant)
            (progress progress_is_dropped_at_completion)
            (progress a_late_note_is_superseded)
            (quota a_quota_limits_records)
            (quota a_quota_limits_bytes)
            (quota a_quota_counts_new_records_only)
            (quota a_removed_record_frees_its_quota)
            (quota a_burst_stays_within_its_quota)
            (watching completion_wakes)
            (watching release_wakes)
            (watching abandonment_wakes)
            (watching resolution_wakes)
            (watching deletion_wakes)
            (watching every_waiter_is_woken)
            (sequences every_sequence_is_one_the_model_allows)
            (histories calls_at_once_have_an_order)
            (histories calls_whose_answers_are_lost_have_an_order)
        }
    };
    (@tests $fixture:tt $(($theme:ident $name:ident))*) => {
        $($crate::laws! { @test $fixture $theme $name })*
    };
    (@tests_without_histories $fixture:tt $(($theme:ident $name:ident))*) => {
        $($crate::laws! { @test_unless_history $fixture $theme $name })*
    };
    (@tests_without_sequences $fixture:tt $(($theme:ident $name:ident))*) => {
        $($crate::laws! { @test_unless_sequence $fixture $theme $name })*
    };
    (@test_unless_sequence $fixture:tt sequences $name:ident) => {};
    (@test_unless_sequence $fixture:tt $theme:ident $name:ident) => {
        $crate::laws! { @test $fixture $theme $name }
    };
    (@test_unless_history $fixture:tt histories $name:ident) => {};
    (@test_unless_history $fixture:tt $theme:ident $name:ident) => {
        $crate::laws! { @test $fixture $theme $name }
    };
    (@test ($fixture:ty) $theme:ident $name:ident) => {
        #[test]
        fn $name() {
            let place = $crate::Place {
                package: env!("CARGO_PKG_NAME"),
                module: module_path!(),
                law: $crate::LawName::new(stringify!($theme), stringify!($name)),
            };
            $crate::run_at::<$fixture, _>(&place, $crate::$theme::$name);
        }
    };
    (@names $(($theme:ident $name:ident))*) => {
        &[$($crate::LawName::new(stringify!($theme), stringify!($name))),*]
    };
    (@judges $(($theme:ident $name:ident))*) => {
        vec![$($crate::Law {
            name: $crate::LawName::new(stringify!($theme), stringify!($name)),
            judge: |fixture| Box::pin($crate::$theme::$name(fixture)),
        }),*]
    };
}
