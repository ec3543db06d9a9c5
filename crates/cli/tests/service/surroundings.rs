//! What a worker gets to see of the machine, and the user's own Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use dunnage_testing::census;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(a_worker_sees_no_credential, the_guard_is_given_no_environment_at_all, a_worker_is_fenced_off);

fn a_worker_sees_no_credential(language: Language) {
    let secrets = ["DUNNAGE_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "DATABASE_URL"];
    let setup = secrets.iter().fold(Setup::new(language, "calls"), |setup, name| setup.environment(name, "hush"));
    let setup = setup.environment("MODEL_SIZE", "large");
    let service = setup.start();
    for worker in service.workers() {
        let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        assert!(!environment.contains("hush"), "{environment}");
        let has_prefix = |entry: &str| ["DUNNAGE_", "AWS_", "PG"].iter().any(|prefix| entry.starts_with(prefix));
        assert_eq!(environment.split('\0').filter(|entry| has_prefix(entry)).collect::<Vec<_>>(), [""; 0]);
        assert!(environment.contains("MODEL_SIZE=large"), "the rest is the script's to use");
    }
}

fn the_guard_is_given_no_environment_at_all(language: Language) {
    let setup = Setup::new(language, "calls").environment("DUNNAGE_TOKEN", "hush").environment("OTHER_SECRET", "hush");
    let service = setup.start();
    let environment = std::fs::read(format!("/proc/{}/environ", service.guard())).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "");
    assert!(!census::command_line(service.guard()).contains("hush"));
}

fn a_worker_is_fenced_off(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    for worker in service.workers() {
        assert_eq!(census::group(worker), worker, "it leads a process group");
        assert_ne!(census::group(worker), census::group(service.pid()));
        let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
        let standard = [0, 1, 2].map(|number| std::fs::read_link(format!("/proc/{worker}/fd/{number}")).unwrap());
        let server = std::fs::read_link(format!("/proc/{worker}/fd/3")).unwrap();
        let known = |target: &PathBuf| standard.contains(target) || *target == server;
        let foreign: Vec<_> = descriptors(worker).into_iter().filter(|target| !known(target)).collect();
        assert!(foreign.is_empty() && server.to_string_lossy().starts_with("socket:"), "{server:?} and {foreign:?}");
    }
}

fn descriptors(pid: i32) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect()
}

/// A virtual environment with a module of its own.
fn environment_with_module(folder: &Path) -> PathBuf {
    let environment = folder.join("venv");
    let made = Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&environment).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let library = std::fs::read_dir(environment.join("lib")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(library.join("site-packages/gaitlib.py"), "SECRET = 41\n").unwrap();
    environment
}

const IMPORTS: &str = "import gaitlib\ndef output(files, ctx):\n    return [gaitlib.SECRET + 1]\n";

#[test]
fn a_script_imports_what_is_installed_in_the_environment_named() {
    let setup = Setup::inline(Language::Python, "model", IMPORTS);
    let environment = environment_with_module(setup.folder());
    for named in [environment.clone(), environment.join("bin/python")] {
        let setup = Setup::inline(Language::Python, "model", IMPORTS).flags(&["--python", named.to_str().unwrap()]);
        assert_eq!(setup.start().output(&setup.body(json!({}))), [42.0]);
    }
}

#[test]
fn a_script_imports_what_is_installed_in_the_active_environment() {
    let setup = Setup::inline(Language::Python, "model", IMPORTS);
    let environment = environment_with_module(setup.folder());
    let setup = setup.environment("VIRTUAL_ENV", environment.to_str().unwrap());
    assert_eq!(setup.start().output(&setup.body(json!({}))), [42.0]);
}

#[test]
fn a_script_imports_its_neighbours() {
    let setup = Setup::inline(Language::Python, "model", IMPORTS);
    std::fs::write(setup.folder().join("gaitlib.py"), "SECRET = 1\n").unwrap();
    assert_eq!(setup.start().output(&setup.body(json!({}))), [2.0]);
}

#[test]
fn a_python_that_is_not_there_is_told() {
    let setup = Setup::new(Language::Python, "calls").flags(&["--python", "/nowhere/python"]);
    let service = setup.launch();
    let told = || Some(service.get("/healthz/ready")).filter(|refused| refused.text().contains("/nowhere/python"));
    census::eventually("the reason is told", std::time::Duration::from_secs(10), told).expect_problem(503, "worker_unavailable");
}
