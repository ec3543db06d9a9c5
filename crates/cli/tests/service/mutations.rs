//! Whether the tests of this folder notice when what they test is broken: each change to the binary has to make the tests fail that are
//! named with it.

mod breaches;

use std::path::Path;
use std::process::Command;

use dunnage_testing::mutant::{Change, breed};
use dunnage_testing::setup::BINARY_UNDER_TEST;

/// Which mutants run: `all`, or those of these numbers in their tables (`3`, `breach3`), with commas between. Without it, it is only
/// seen to that the changes can still be made and that there are such tests.
const RUN: &str = "DUNNAGE_MUTATIONS";

/// A change, and the tests that have to notice it: in both languages, where the language matters.
struct Mutation {
    why: &'static str,
    change: Change,
    noticed_by: &'static [&'static str],
}

const MUTATIONS: [Mutation; 45] = [
    Mutation {
        why: "workers are not killed",
        change: Change::ReturnsZero("dunnage_workers::process::Process::signal"),
        noticed_by: &[
            "crashes::a_request_that_hangs_in_native_code_ends_at_its_deadline",
            "behaviours::a_script_that_ends_its_worker_answers_nothing",
        ],
    },
    Mutation {
        why: "any answer is taken for the one that is due",
        change: Change::ReturnsOne("dunnage_workers::worker::answers"),
        noticed_by: &["behaviours::answers_too_many_reach_no_other_request", "rogues::an_answer_that_is_made_up_is_not_believed"],
    },
    Mutation {
        why: "kills for want of memory are not looked up",
        change: Change::ReturnsZero("dunnage_workers::oom::OomKills::explains_a_kill"),
        noticed_by: &["confines::a_worker_that_the_system_kills_for_memory_is_told_apart"],
    },
    Mutation {
        why: "workers are as likely to be killed for memory as the server",
        change: Change::Text { find: "/proc/self/oom_score_adj", replace: "/proc/self/oom_score_bad" },
        noticed_by: &["confines::a_worker_leaves_no_core_file_and_goes_before_the_server"],
    },
    Mutation {
        why: "nobody looks after what a killed server leaves",
        change: Change::ReturnsZero("dunnage_workers::guard::stand_guard"),
        noticed_by: &["remains::what_a_script_has_started_ends_when_the_server_is_killed"],
    },
    Mutation {
        why: "what has left its worker's group is not found",
        change: Change::ReturnsZero("dunnage_workers::kin::kill_where"),
        noticed_by: &["remains::what_a_script_has_started_ends_with_its_worker_wherever_it_went"],
    },
    Mutation {
        why: "orphans are not reaped",
        change: Change::ReturnsZero("dunnage_workers::family::Family::reap_orphans"),
        noticed_by: &["remains::orphans_that_end_are_reaped"],
    },
    Mutation {
        why: "there is no wait between two starts",
        change: Change::ReturnsZero("dunnage_workers::slot::backoff"),
        noticed_by: &["confines::a_script_that_cannot_be_loaded_is_not_tried_without_end"],
    },
    Mutation {
        why: "failed devices are not known by their text",
        change: Change::Text { find: "device-side assert", replace: "device-side ascent" },
        noticed_by: &["behaviours::a_worker_that_has_lost_its_device_is_replaced_before_the_next_request"],
    },
    Mutation {
        why: "a worker may print without end",
        change: Change::ReturnsOne("dunnage_workers::allowance::Allowance::covers"),
        noticed_by: &["behaviours::a_flood_of_output_is_cut"],
    },
    Mutation {
        why: "nobody counts what a worker has answered",
        change: Change::ReturnsZero("dunnage_workers::wear::Wear::note"),
        noticed_by: &["recycling::workers_are_replaced_after_their_share_without_a_failed_request"],
    },
    Mutation {
        why: "a worker's memory is not found",
        change: Change::Text { find: "VmRSS:", replace: "VmXXX:" },
        noticed_by: &["recycling::a_script_that_leaks_keeps_its_memory_bounded"],
    },
    Mutation {
        why: "temporary files stay",
        change: Change::ReturnsZero("<dunnage_workers::scratch::WorkerScratch as core::ops::drop::Drop>::drop"),
        noticed_by: &["remains::temporary_files_go_with_their_worker"],
    },
    Mutation {
        why: "what a killed server has left is not known as such",
        change: Change::ReturnsZero("dunnage_workers::scratch::is_left"),
        noticed_by: &["remains::what_a_killed_server_leaves_in_the_temporary_folder_is_swept"],
    },
    Mutation {
        why: "requests stay in the queue when their clients have gone",
        change: Change::ReturnsZero("<dunnage_workers::admission::Place as core::ops::drop::Drop>::drop"),
        noticed_by: &["overload::requests_whose_clients_hang_up_leave_their_places_at_once"],
    },
    Mutation {
        why: "workers inherit what the server has inherited",
        change: Change::ReturnsZero("dunnage_workers::sys::withhold_inherited"),
        noticed_by: &["confines::a_worker_has_no_descriptor_but_its_own"],
    },
    Mutation {
        why: "no attempt is the last one",
        change: Change::ReturnsZero("dunnage_store::sqlite::jobs::attempt::Held::is_last_attempt"),
        noticed_by: &["crashes::a_job_whose_worker_always_dies_ends_after_its_attempts"],
    },
    Mutation {
        why: "the numbers of calls can be guessed",
        change: Change::ReturnsOne("dunnage_workers::worker::next_call"),
        noticed_by: &["rogues::an_answer_that_is_made_up_is_not_believed"],
    },
    Mutation {
        why: "a worker that is lost is not replaced",
        change: Change::ReturnsOne("dunnage_workers::slot::rest::{{closure}}"),
        noticed_by: &["flights::a_crash_costs_its_own_request_of_twenty_in_flight"],
    },
    Mutation {
        why: "lost workers are not counted",
        change: Change::ReturnsZero("dunnage_workers::losses::Losses::note"),
        noticed_by: &["flights::a_crash_costs_its_own_request_of_twenty_in_flight"],
    },
    Mutation {
        why: "requests are not answered together",
        change: Change::ReturnsZero("dunnage_workers::batch::is_output"),
        noticed_by: &["flights::a_crash_costs_its_own_batch_and_no_other"],
    },
    Mutation {
        why: "a server that ends says that it is ready",
        change: Change::ReturnsZero("dunnage_server::app::App::is_stopping"),
        noticed_by: &["flights::a_told_end_answers_what_is_in_flight_and_hands_jobs_back"],
    },
    Mutation {
        why: "numbers that JSON cannot say are passed on",
        change: Change::ReturnsZero("dunnage_types::vector::Vector<Bytes>::first_not_finite"),
        noticed_by: &["outputs::an_output_that_is_no_vector_of_numbers_is_refused"],
    },
    Mutation {
        why: "requests may wait however long",
        change: Change::ReturnsZero("dunnage_workers::admission::is_too_long"),
        noticed_by: &["overload::a_script_that_waits_is_used_to_capacity_under_three_times_its_load"],
    },
    Mutation {
        why: "requests wait that cannot be answered in time",
        change: Change::ReturnsZero("dunnage_workers::admission::is_too_late"),
        noticed_by: &["overload::what_cannot_be_answered_in_time_is_refused_at_once"],
    },
    Mutation {
        why: "shared memory stays",
        change: Change::ReturnsZero("dunnage_workers::shared_memory::SharedMemory::clear"),
        noticed_by: &["remains::shared_memory_goes_with_its_worker"],
    },
    Mutation {
        why: "any token shows why a script cannot be loaded",
        change: Change::ReturnsOne("dunnage_server::access::sight_with"),
        noticed_by: &["access::the_last_words_of_a_worker_are_told_to_those_who_may_train"],
    },
    Mutation {
        why: "a loop that stands still is not missed",
        change: Change::ReturnsZero("dunnage_loops::beat::Beat::within"),
        noticed_by: &["loops::a_keeper_that_stands_still_is_missed"],
    },
    Mutation {
        why: "nobody counts the failures of loops",
        change: Change::ReturnsZero("dunnage_loops::Loops::note_restart"),
        noticed_by: &[
            "loops::an_attempt_whose_keeper_panics_ends_and_is_tried_again",
            "loops::a_job_whose_attempt_panics_is_tried_again_and_others_go_on",
        ],
    },
    Mutation {
        why: "jobs may go on when the grace is over",
        change: Change::ReturnsZero("dunnage_server::app::Running::kill_all"),
        noticed_by: &["endings::a_job_that_is_longer_than_the_grace_is_handed_back_at_its_end"],
    },
    Mutation {
        why: "tokens that are taken away are good for what was begun with them",
        change: Change::ReturnsOne("dunnage_server::access::revoked::Standing::holds"),
        noticed_by: &["access::a_stream_of_events_ends_with_what_its_token_allows"],
    },
    Mutation {
        why: "clocks of connections never run out",
        change: Change::ReturnsZero("dunnage_server::http::timer::Timer::has_passed"),
        noticed_by: &[
            "slow::heads_that_do_not_come_in_time_are_refused",
            "slow::an_answer_that_is_not_taken_ends_its_connection_and_holds_no_worker",
        ],
    },
    Mutation {
        why: "a slow body is not known as one",
        change: Change::ReturnsZero("dunnage_server::http::awaited::is_too_slow"),
        noticed_by: &["slow::bodies_that_do_not_come_in_time_are_refused"],
    },
    Mutation {
        why: "connections beyond the limit are served",
        change: Change::ReturnsZero("dunnage_server::http::exchange::Exchange::is_for_probes"),
        noticed_by: &["connections::a_connection_too_many_is_told_so_at_once_and_probes_are_answered"],
    },
    Mutation {
        why: "a line of a head may end with a line feed alone",
        change: Change::ReturnsOne("dunnage_server::http::connection::Connection::take_head"),
        noticed_by: &["smuggling::ambiguous_requests_are_refused_and_nothing_is_smuggled"],
    },
    Mutation {
        why: "what the library refuses has no body",
        change: Change::ReturnsZero("dunnage_server::http::refusal::is_bare"),
        noticed_by: &[
            "heads::heads_beyond_the_limits_are_refused_and_end_the_connection",
            "smuggling::ambiguous_requests_are_refused_and_nothing_is_smuggled",
        ],
    },
    Mutation {
        why: "an answer may be taken however slowly",
        change: Change::ReturnsZero("dunnage_server::http::connection::Connection::is_taken_too_slowly"),
        noticed_by: &[
            "slow::an_answer_that_is_taken_too_slowly_ends_its_connection_and_others_do_not",
            "slow::an_answer_that_is_not_taken_ends_its_connection_and_holds_no_worker",
        ],
    },
    Mutation {
        why: "a compressed body is taken for what it is not",
        change: Change::ReturnsZero("dunnage_server::submission::is_encoded"),
        noticed_by: &["refusals::bodies_of_another_type_are_refused"],
    },
    Mutation {
        why: "every job has the same id",
        change: Change::ReturnsZero("dunnage_types::id::JobId::random"),
        noticed_by: &["methods::ids_of_jobs_cannot_be_guessed"],
    },
    Mutation {
        why: "nobody is told which methods there are",
        change: Change::ReturnsZero("dunnage_server::http::target::is_about_server"),
        noticed_by: &["methods::methods_that_a_path_does_not_take_are_refused_with_those_it_does"],
    },
    Mutation {
        why: "it is tried without a pause to take connections for which there are no files",
        change: Change::ReturnsOne("dunnage_server::http::arrivals::is_of_one_connection"),
        noticed_by: &["connections::the_server_serves_on_when_no_more_files_can_be_opened"],
    },
    Mutation {
        why: "a log that is not read grows without end",
        change: Change::ReturnsOne("dunnage::logging::outlet::State::has_room"),
        noticed_by: &["endings::a_server_whose_log_is_left_unread_goes_on_and_counts_what_is_lost"],
    },
    Mutation {
        why: "nobody notices that the guard has ended",
        change: Change::ReturnsZero("dunnage_workers::guard::Post::has_ended"),
        noticed_by: &["remains::a_guard_that_ends_is_replaced_and_the_next_one_does_its_work"],
    },
    Mutation {
        why: "files are for other users, too",
        change: Change::ReturnsZero("dunnage::commands::serve::withheld"),
        noticed_by: &["neighbours::another_user_reads_nothing_that_a_service_keeps_and_none_of_its_processes"],
    },
    Mutation {
        why: "a connection goes on behind a body that was not read",
        change: Change::ReturnsZero("dunnage_server::http::exchange::Turn::ends_connection"),
        noticed_by: &["pipelines::what_follows_a_refused_request_is_its_own_request_or_none"],
    },
];

#[test]
fn each_mutation_is_noticed_in_both_languages() {
    are_noticed("", &MUTATIONS);
}

/// Makes each mutant that is wanted, and sees which of the tests that are named with it fail. The number of each is preceded by `family`.
fn are_noticed(family: &str, mutations: &[Mutation]) {
    let wanted = std::env::var(RUN).unwrap_or_default();
    let unchanged_folder = tempfile::tempdir().expect("a temporary folder");
    let unchanged = breed(Change::Nothing, unchanged_folder.path());
    let mut unnoticed = Vec::new();
    for (number, mutation) in mutations.iter().enumerate() {
        let name = format!("{family}{number}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mutant = breed(mutation.change, folder.path());
        for test in mutation.noticed_by.iter().flat_map(|test| named(test)) {
            if wanted != "all" && !wanted.split(',').any(|wanted| wanted == name) {
                continue;
            }
            assert!(passes(&test, &unchanged), "`{test}` fails with a copy in which nothing was changed");
            if passes(&test, &mutant) {
                unnoticed.push(format!("{name}: {}: `{test}` passes", mutation.why));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// What is said to be tested, and how.
const DOCUMENTED: &str = include_str!("../../../../docs/workers.md");

#[test]
fn every_test_and_change_that_is_documented_exists() {
    let rows = DOCUMENTED.lines().skip_while(|line| *line != "## How this is held true").filter(|line| line.contains("::"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert!(rows.len() > 10, "the table was found");
    for row in rows {
        let tests: Vec<String> = row[1].split(", ").flat_map(|test| named(test.trim_matches('`'))).collect();
        assert!(!tests.is_empty(), "{row:?}");
        for why in row[2].split("; ").filter(|why| !why.is_empty()) {
            assert!(MUTATIONS.iter().any(|mutation| mutation.why == why), "there is no change `{why}`");
        }
    }
}

/// The tests of a name: one, where the language does not matter, or `crashes::python::name` and `crashes::lua::name` for `crashes::name`.
fn named(test: &str) -> Vec<String> {
    if exists(test) {
        return vec![test.to_owned()];
    }
    let (module, name) = test.rsplit_once("::").expect("a test lies in a module");
    let both: Vec<_> = ["python", "lua"].into_iter().map(|language| format!("{module}::{language}::{name}")).collect();
    both.iter().for_each(|test| assert!(exists(test), "there is no test `{test}`"));
    both
}

fn own_tests() -> Command {
    Command::new(std::env::current_exe().expect("a test knows its file"))
}

fn exists(test: &str) -> bool {
    let listed = own_tests().args(["--list", "--exact", test]).output().expect("the tests can be listed");
    String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == format!("{test}: test"))
}

fn passes(test: &str, mutant: &Path) -> bool {
    let run = own_tests().args(["--exact", test]).env(BINARY_UNDER_TEST, mutant).env_remove(RUN).output().expect("it can be run");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let failure = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or("passes");
    eprintln!("{test}: {failure}");
    run.status.success()
}
