//! Whether a server stays as it is for as long as it runs, whatever its scripts and clients do: its memory, descriptors, threads,
//! processes and files do not grow, and every answer is the right one.
//!
//! [`plan`] says how long, [`clients`] are what it has to bear, [`samples`] looks at it from outside meanwhile, and [`trend`] finds out
//! whether what was seen grows. `make soak` takes ten minutes; without being told otherwise it is a short one.

mod clients;
mod mischief;
mod plan;
mod report;
mod run;
mod samples;
mod trend;

use dunnage_testing::language::Language;
use dunnage_testing::mutant::{Change, breed};
use plan::Plan;
use run::soak;

#[test]
fn servers_stay_as_they_are_in_both_languages() {
    let plan = Plan::from_environment();
    std::thread::scope(|scope| {
        let soaks = [Language::Python, Language::Lua].map(|language| {
            let plan = &plan;
            scope.spawn(move || soak(language, plan, None))
        });
        for soak in soaks {
            let outcome = soak.join().expect("a soak comes to its end");
            assert_eq!(outcome.complaints, [] as [String; 0], "{outcome}");
        }
    });
}

/// A server that forgets to remove the files of its workers, and one that answers nothing as it should, must not pass.
#[test]
fn a_server_that_leaves_files_behind_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let leaves_files = Change::ReturnsZero("<dunnage_workers::scratch::WorkerScratch as core::ops::drop::Drop>::drop");
    let outcome = soak(Language::Lua, &Plan::brief(), Some(breed(leaves_files, folder.path())));
    assert!(outcome.complaints.iter().any(|complaint| complaint.starts_with("temporary files")), "{outcome}");
}
