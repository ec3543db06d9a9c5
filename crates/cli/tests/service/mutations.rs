//! Whether the tests of this folder notice when what they test is broken: each change to the binary has to make the tests fail that are
//! named with it.

use std::path::Path;
use std::process::Command;

use dunnage_testing::mutant::{Change, breed};
use dunnage_testing::setup::BINARY_UNDER_TEST;

/// Which mutants run: `all`, or those whose number in the table is this. Without it, it is only seen to that the changes can still be
/// made and that there are such tests.
const RUN: &str = "DUNNAGE_MUTATIONS";

/// A change, and the tests that have to notice it, each in both languages.
struct Mutation {
    why: &'static str,
    change: Change,
    noticed_by: &'static [&'static str],
}

const MUTATIONS: [Mutation; 22] = [
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
        noticed_by: &["behaviours::answers_too_many_reach_no_other_request"],
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
        why: "requests that nobody waits for are answered",
        change: Change::ReturnsOne("dunnage_workers::batch::Pending::is_wanted"),
        noticed_by: &["confines::requests_whose_clients_have_gone_reach_no_worker"],
    },
    Mutation {
        why: "workers inherit what the server has inherited",
        change: Change::ReturnsZero("dunnage_workers::sys::withhold_inherited"),
        noticed_by: &["confines::a_worker_has_no_descriptor_but_its_own"],
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
        why: "a connection goes on behind a body that was not read",
        change: Change::ReturnsZero("dunnage_server::http::exchange::Turn::ends_connection"),
        noticed_by: &["pipelines::what_follows_a_refused_request_is_its_own_request_or_none"],
    },
];

#[test]
fn each_mutation_is_noticed_in_both_languages() {
    let wanted = std::env::var(RUN).unwrap_or_default();
    let unchanged_folder = tempfile::tempdir().expect("a temporary folder");
    let unchanged = breed(Change::Nothing, unchanged_folder.path());
    let mut unnoticed = Vec::new();
    for (number, mutation) in MUTATIONS.iter().enumerate() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mutant = breed(mutation.change, folder.path());
        for test in mutation.noticed_by.iter().flat_map(|test| in_each_language(test)) {
            assert!(exists(&test), "there is no test `{test}`");
            if wanted != "all" && wanted != number.to_string() {
                continue;
            }
            assert!(passes(&test, &unchanged), "`{test}` fails with a copy in which nothing was changed");
            if passes(&test, &mutant) {
                unnoticed.push(format!("{number}: {}: `{test}` passes", mutation.why));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// `crashes::name` is two tests: `crashes::python::name` and `crashes::lua::name`.
fn in_each_language(test: &str) -> [String; 2] {
    let (module, name) = test.split_once("::").expect("a test lies in a module");
    ["python", "lua"].map(|language| format!("{module}::{language}::{name}"))
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
