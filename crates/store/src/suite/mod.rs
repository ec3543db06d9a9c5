//! What every store must do, as tests against a real database.
//!
//! A store provides a [`Bench`] on a fresh database and lists the scenarios with [`store_suite!`]. A scenario's name states what
//! it holds the store to.
//!
//! [`store_suite!`]: crate::store_suite

mod given;

mod callbacks;
mod cancel;
mod claim;
mod claim_ahead;
mod enqueue;
mod finish;
mod hand_out;
mod interleaving;
mod isolation;
mod lease;
mod listing;
mod log;
mod prune;
mod reopen;
mod replicas;
mod rescue;
mod state;
mod texts;
mod versions;
mod waiting;
mod work_hint;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::callbacks::*;
pub use self::cancel::*;
pub use self::claim::*;
pub use self::claim_ahead::*;
pub use self::enqueue::*;
pub use self::finish::*;
pub use self::hand_out::*;
pub use self::interleaving::*;
pub use self::isolation::*;
pub use self::lease::*;
pub use self::listing::*;
pub use self::log::*;
pub use self::prune::*;
pub use self::reopen::*;
pub use self::replicas::*;
pub use self::rescue::*;
pub use self::state::*;
pub use self::texts::*;
pub use self::versions::*;
pub use self::waiting::*;
pub use self::work_hint::*;
use crate::{StateLimits, Store};

/// The limits a bench opens its stores with: small ones, so that they are easily met.
pub const LIMITS: StateLimits = StateLimits { value_bytes: 10_000, scan_bytes: 20_000 };

/// A store to be tested, on a database of its own.
#[async_trait]
pub trait Bench: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;

    /// The store of another service in the same database.
    fn other_service(&self) -> Arc<dyn Store>;

    /// Makes `time` pass for the database: moves every time it holds into the past.
    async fn advance(&self, time: Duration);

    /// Closes the store and opens it again. The stores handed out before have been dropped.
    async fn reopen(&mut self);
}

/// Makes one test of every scenario, for the [`Bench`] that the given asynchronous expression yields.
#[macro_export]
macro_rules! store_suite {
    ($bench:expr) => {
        $crate::store_suite!($bench;
            // Enqueueing
            a_job_is_kept_as_it_was_given,
            a_commit_repeated_with_its_id_makes_no_second_job,
            a_repeated_request_finds_its_job,
            another_request_under_the_same_idempotency_key_is_refused,
            concurrent_requests_under_one_idempotency_key_make_one_job,
            jobs_committed_together_keep_each_its_own_output_uri,
            a_repeated_request_leaves_the_output_uri_as_it_was,
            // Claiming
            jobs_are_claimed_in_the_order_of_their_commits,
            a_claim_takes_no_more_than_its_limit,
            a_claim_starts_an_attempt,
            no_job_is_claimed_twice,
            jobs_of_a_key_run_one_at_a_time_in_order,
            a_key_holds_up_no_other_jobs,
            a_job_waits_for_the_retry_of_an_earlier_one_of_its_key,
            the_jobs_that_wait_are_those_that_the_next_claim_takes,
            no_more_waiting_jobs_are_told_than_asked_for,
            a_job_waits_to_be_claimed_once_it_is_due_and_first_of_its_key,
            jobs_claimed_ahead_come_in_their_order_and_are_charged,
            a_job_that_cannot_wait_is_handed_out_alone_to_an_idle_worker,
            a_job_is_claimed_ahead_once,
            jobs_of_a_key_are_not_claimed_ahead_of_each_other,
            a_claim_tells_the_version_that_was_active,
            // Handing out with the commit
            a_job_is_handed_out_with_its_commit,
            a_job_handed_out_with_its_commit_is_rescued_like_any_other,
            a_job_that_waits_for_long_is_not_passed_by,
            a_job_that_cannot_wait_is_not_passed_by,
            a_job_that_nobody_may_run_yet_holds_up_no_others,
            jobs_that_others_may_have_to_wait_for_go_through_the_queue,
            a_repeated_request_hands_out_nothing,
            jobs_committed_together_are_each_handed_out_once,
            a_job_handed_out_with_its_commit_meets_the_active_version,
            // Leases
            a_lease_taken_over_by_another_replica_is_refused_everything,
            a_lease_taken_over_by_the_same_replica_is_refused_everything,
            a_lease_of_a_job_that_waits_again_is_refused_everything,
            a_lease_of_a_job_that_has_ended_is_refused_everything,
            a_lease_that_was_never_given_is_refused_everything,
            a_late_holder_goes_on_while_nobody_took_over,
            a_renewed_lease_does_not_end,
            a_renewal_tells_of_the_cancellation,
            a_holder_can_learn_that_it_has_ended_its_attempt_itself,
            // Ends of attempts
            a_finished_job_keeps_its_result,
            a_failed_job_is_not_tried_again,
            a_retried_job_waits_as_long_as_it_was_told,
            the_last_retry_ends_in_its_own_error,
            a_retried_job_that_succeeds_has_no_error,
            a_released_job_is_not_charged,
            a_released_job_waits_as_long_as_it_was_told,
            an_attempt_begins_without_the_progress_of_the_last,
            // Rescue
            a_job_whose_lease_has_ended_is_queued_again,
            a_rescue_leaves_live_leases_alone,
            an_attempt_that_takes_too_long_is_given_up_though_it_is_renewed,
            a_job_that_always_loses_its_worker_runs_out_of_attempts,
            the_last_error_is_kept_when_attempts_run_out,
            concurrent_rescues_return_each_job_once,
            a_rescue_and_a_finish_never_both_count,
            a_rescued_job_that_was_to_be_cancelled_is_cancelled,
            // Cancellation
            a_queued_job_is_cancelled_at_once,
            the_holder_of_a_running_job_is_asked_to_cancel,
            an_ended_job_is_not_changed_by_a_cancellation,
            a_cancellation_beats_a_later_retry_or_release,
            a_cancelled_job_makes_way_for_the_next_of_its_key,
            a_job_that_returned_before_it_noticed_is_done,
            // Logs
            log_lines_are_numbered_across_attempts,
            a_reader_resumes_behind_the_line_it_saw,
            a_job_without_lines_has_an_empty_log,
            // Lists
            jobs_are_listed_newest_first_page_by_page,
            lists_are_narrowed_by_state_and_kind,
            the_jobs_of_a_key_are_listed_in_their_order,
            the_backlog_counts_what_waits_and_runs,
            unknown_jobs_are_told_apart,
            // Retention
            ended_jobs_are_removed_after_their_retention,
            unfinished_jobs_are_never_removed,
            jobs_are_removed_in_batches,
            an_idempotency_key_lives_as_long_as_its_job,
            // Versions
            versions_are_numbered_in_order,
            a_published_version_is_not_yet_active,
            a_finished_job_activates_its_version_with_its_end,
            a_finish_that_cannot_activate_changes_nothing,
            one_version_at_most_is_active,
            a_bad_version_never_becomes_active,
            marking_the_active_version_bad_leaves_it_active,
            a_version_is_retracted_unless_it_has_come_to_serve,
            versions_of_training_that_was_cut_off_are_retracted,
            an_unknown_version_is_refused,
            concurrent_publications_get_different_numbers,
            // State
            values_read_back_as_they_were_set,
            a_value_replaces_one_of_another_kind,
            keys_are_checked_by_every_call,
            a_value_that_is_too_large_is_refused,
            an_inconsistent_array_is_refused,
            a_removed_key_is_gone,
            increments_add_whole_numbers_exactly,
            an_increment_of_something_else_is_refused,
            concurrent_increments_lose_nothing,
            a_value_is_swapped_for_the_one_expected_only,
            of_concurrent_swaps_one_succeeds,
            a_scan_goes_on_page_by_page_in_byte_order,
            a_scan_finds_every_key_with_its_prefix_and_no_other,
            a_scan_ends_early_but_never_without_an_entry,
            the_holder_may_write_state,
            // Callbacks
            a_callback_is_due_once_its_job_has_ended,
            a_job_that_ends_without_its_holder_is_told_of_too,
            a_job_without_a_callback_has_none_due,
            a_callback_in_delivery_is_hidden_until_its_patience_ends,
            a_failed_delivery_is_tried_again_after_its_wait,
            a_settled_callback_is_never_due_again,
            a_late_deliverer_settles_nothing,
            a_job_is_kept_until_its_callback_is_settled,
            // Replicas
            replicas_are_seen_while_they_announce_themselves,
            a_replica_that_departs_is_no_longer_seen,
            a_replica_that_has_been_silent_for_long_is_forgotten,
            // Everything
            texts_read_back_unchanged,
            any_texts_read_back_unchanged,
            services_see_nothing_of_each_other,
            whoever_waits_for_work_is_told,
            everything_is_there_after_reopening,
            random_interleavings_keep_the_promises,
        );
    };
    ($bench:expr; $($scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let mut bench = $bench.await;
                $crate::suite::$scenario(&mut bench).await;
            }
        )*
    };
}
