//! The most important scenarios on every Python that is served: 3.10 to 3.13, where found on PATH or below pyenv's folder.

mod common;

use std::env;
use std::path::{Path, PathBuf};

use dunnage_runtime::suite::{self, Subject};

#[test]
fn python_3_10_is_served() {
    passes("python3.10");
}

#[test]
fn python_3_11_is_served() {
    passes("python3.11");
}

#[test]
fn python_3_12_is_served() {
    passes("python3.12");
}

#[test]
fn python_3_13_is_served() {
    passes("python3.13");
}

fn passes(name: &str) {
    let Some(interpreter) = find(name) else {
        eprintln!("skipped: there is no {name} on PATH or below pyenv's folder");
        return;
    };
    let subject = common::subject(interpreter.to_str().expect("a path in UTF-8"));
    let version = name.trim_start_matches("python");
    let language = suite::Driver::spawn(&subject).hello.language.clone();
    assert!(language.starts_with(&format!("CPython {version}.")), "{language} should be a {name}");
    let scenarios: [fn(&Subject); 8] = [
        suite::a_script_answers_vectors,
        suite::a_script_in_the_first_wrappers_form_is_called_once_a_file,
        suite::a_batch_is_answered_in_order,
        suite::an_output_that_is_no_vector_is_refused,
        suite::a_broken_script_says_where,
        suite::progress_log_and_printed_lines_arrive_before_the_end,
        suite::state_reaches_the_server,
        suite::an_artifact_is_written_and_read_back,
    ];
    for scenario in scenarios {
        scenario(&subject);
    }
}

/// pyenv's shims are passed over: they are there for versions that are not chosen, too.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter(|folder| !folder.ends_with("shims"));
    on_path.chain(pyenv_folders()).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

fn pyenv_folders() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let Some(root) = env::var_os("PYENV_ROOT").map(PathBuf::from).or(home) else { return Vec::new() };
    let versions = std::fs::read_dir(root.join("versions")).into_iter().flatten();
    versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect()
}
