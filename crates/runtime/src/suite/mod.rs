//! What every runtime must do, as tests against the runtime's own program.
//!
//! A runtime provides one script a scenario, in its language, and lists the scenarios with [`backend_suite!`]. The scenario's
//! function says what the script has to do. A runtime that lacks an ability (see its `Hello`) passes over the scenarios that
//! need it, and says so.
//!
//! [`backend_suite!`]: crate::backend_suite

mod driver;
mod scenarios;

use std::path::PathBuf;

pub use driver::Driver;
pub use scenarios::*;

/// A runtime to be tested.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// The folder that holds one script a scenario.
    pub scripts: PathBuf,
    /// The scripts' extension, without a dot.
    pub extension: String,
}

impl Subject {
    /// The script of a scenario.
    #[must_use]
    pub fn script(&self, scenario: &str) -> PathBuf {
        self.scripts.join(format!("{scenario}.{}", self.extension))
    }
}

/// Makes one test of every scenario, for the [`Subject`] that the given expression yields.
#[macro_export]
macro_rules! backend_suite {
    ($subject:expr) => {
        $crate::backend_suite!($subject;
            a_script_answers_vectors,
            a_script_in_the_first_wrappers_form_is_called_once_a_file,
            a_batch_is_answered_in_order,
            a_script_that_raises_fails_alone,
            an_output_that_is_no_vector_is_refused,
            a_missing_function_is_named,
            a_broken_script_says_where,
            a_job_returns_what_the_script_returned,
            progress_log_and_printed_lines_arrive_before_the_end,
            state_reaches_the_server,
            a_refusal_reaches_the_script,
            an_artifact_is_written_and_read_back,
            a_cancelled_job_is_told,
            the_worker_exits_when_the_server_is_gone,
        );
    };
    ($subject:expr; $($scenario:ident),* $(,)?) => {
        $(
            #[test]
            fn $scenario() {
                $crate::suite::$scenario(&$subject);
            }
        )*
    };
}
