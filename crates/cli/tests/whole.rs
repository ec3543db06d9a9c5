//! A new service, from `dunnage new` to SIGTERM, with the runtimes that were built beside the command.
//!
//! Where they were not (`cargo build --workspace` builds them), a test says so and ends.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Ended, dunnage, ended, run};

/// A server in a folder, ended with the test.
struct Server {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    folder: PathBuf,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let arguments = ["serve", "--port", "0", "--log-format", "json"];
        let mut child = dunnage(folder, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, log, folder: folder.to_owned(), url: String::new() };
        let listening = server.wait_for("listening");
        server.url = format!("http://{}", listening["address"].as_str().unwrap());
        server
    }

    /// Reads the log up to the line with this message.
    fn wait_for(&mut self, message: &str) -> serde_json::Value {
        let lines = self.log.by_ref().lines().map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
        let mut seen = Vec::new();
        for line in lines {
            if line["message"] == message {
                return line;
            }
            seen.push(line.to_string());
        }
        panic!("the server ended without saying `{message}`:\n{}", seen.join("\n"));
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        ended(dunnage(&self.folder, arguments).env("DUNNAGE_URL", &self.url).output().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads the rest of the log, so that the server can write it, and returns the exit code.
    fn exit_code(&mut self) -> Option<i32> {
        self.log.by_ref().lines().for_each(drop);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_runtime(name: &str) -> bool {
    let found = Path::new(env!("CARGO_BIN_EXE_dunnage")).with_file_name(name).exists();
    if !found {
        eprintln!("skipped: `{name}` has not been built");
    }
    found
}

/// Does what the new folder's README says.
fn a_new_service_works(language: &str) {
    if !has_runtime(&format!("dunnage-{language}")) {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    assert_eq!(run(parent.path(), &["new", "gait", "--lang", language]).code, Some(0));
    let folder = parent.path().join("gait");
    let checked = run(&folder, &["check"]);
    assert!(checked.stdout.contains("\nfunctions  train, input, output\n"), "{checked:?}");
    for (name, contents) in [("everybody.csv", "1,10\n2,14\n3,9\n"), ("ada.csv", "2,12\n"), ("now.csv", "4,12\n")] {
        fs::write(folder.join(name), contents).unwrap();
    }

    let mut server = Server::start(&folder);
    server.wait_for("a serving worker is ready");
    let early = server.ask(&["output", "ada.csv"]);
    assert!(early.code == Some(1) && early.stderr.contains("nothing is learned yet"), "{early:?}");
    let trained = server.ask(&["train", "everybody.csv", "--json"]);
    let job: serde_json::Value = serde_json::from_str(&trained.stdout).unwrap_or_else(|_| panic!("{trained:?}"));
    assert_eq!((&job["status"], &job["version"], &job["result"]["rows"]), (&"done".into(), &1.into(), &3.into()));
    let learned = server.ask(&["input", "ada.csv", "--param", "name=ada"]);
    assert!(learned.code == Some(0) && learned.stderr.contains("learned what is usual for ada from 1 measurements"), "{learned:?}");
    let answered = server.ask(&["output", "now.csv", "--param", "name=ada", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&answered.stdout).unwrap(),
        serde_json::json!({"outputVector": [2.0, 0.0]})
    );

    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_new_python_service_works() {
    a_new_service_works("python");
}

#[test]
fn a_new_lua_service_works() {
    a_new_service_works("lua");
}

#[test]
fn a_script_that_cannot_be_loaded_is_told_with_its_traceback() {
    if !has_runtime("dunnage-python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.py"), "raise ValueError('no weights')\n").unwrap();
    let checked = run(folder.path(), &["check"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""));
    assert!(checked.stderr.starts_with("Traceback (most recent call last):\n"), "{}", checked.stderr);
    assert!(checked.stderr.ends_with("\nerror: the script cannot be loaded: ValueError: no weights\n"), "{}", checked.stderr);
    let json: serde_json::Value = serde_json::from_str(&run(folder.path(), &["check", "--json"]).stdout).unwrap();
    assert_eq!((&json["loads"], &json["error"]), (&false.into(), &"the script cannot be loaded: ValueError: no weights".into()));
}

#[test]
fn a_script_that_fails_its_own_test_is_told_what_it_returned() {
    if !has_runtime("dunnage-lua") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = |returned: bool| format!("return {{ output = print, self_test = function() return {returned} end }}\n");
    fs::write(folder.path().join("model.lua"), script(false)).unwrap();
    let checked = run(folder.path(), &["check"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""));
    assert_eq!(checked.stderr, "error: the script cannot be loaded: `self_test` returned false\n");
    fs::write(folder.path().join("model.lua"), script(true)).unwrap();
    let checked = run(folder.path(), &["check"]);
    assert!(checked.code == Some(0) && checked.stdout.contains("output, self_test\n"), "{checked:?}");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    if !has_runtime("dunnage-python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "import time\n\ndef train(files, ctx):\n    ctx.log.info('begun')\n    time.sleep(600)\n";
    fs::write(folder.path().join("model.py"), script).unwrap();
    fs::write(folder.path().join("a.csv"), "1").unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut server = Server::start(folder.path());
        let submitted = server.ask(&["train", "a.csv", "--no-wait"]);
        let id = submitted.stdout.trim().to_owned();
        let mut following =
            dunnage(folder.path(), &["logs", "-f", &id, "--url", &server.url]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(following.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.ends_with("info     begun\n"), "{line}");
        following.kill().unwrap();
        following.wait().unwrap();
        server.signal(signal);
        server.wait_for("stopping");
        server.signal(signal);
        assert_eq!(server.exit_code(), Some(code));
    }
}

#[test]
fn interrupting_a_client_leaves_the_job_running() {
    if !has_runtime("dunnage-python") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "import os, time\n\ndef train(files, ctx):\n    print('begun')\n    while not os.path.exists(ctx.params['until']):\n        \
                  time.sleep(0.01)\n";
    fs::write(folder.path().join("model.py"), script).unwrap();
    fs::write(folder.path().join("a.csv"), "1").unwrap();
    let flag = folder.path().join("flag");
    let server = Server::start(folder.path());
    let until = format!("until={}", flag.display());
    let arguments = ["train", "a.csv", "--param", &until, "--url", &server.url];
    let mut client = dunnage(folder.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines().map(Result::unwrap);
    let id = lines.next().unwrap().trim_start_matches("train job ").to_owned();
    assert!(lines.next().unwrap().ends_with("begun"));
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    let farewell = format!("the job goes on; follow it with `dunnage logs -f {id}`, or end it with `dunnage cancel {id}`");
    assert_eq!(lines.collect::<Vec<_>>(), [farewell]);
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(server.ask(&["status", &id, "--json"]).stdout.contains("\"state\":\"running\""));
    fs::write(&flag, "").unwrap();
    assert_eq!(server.ask(&["logs", "-f", &id]).code, Some(0));
    assert!(server.ask(&["status", &id, "--json"]).stdout.contains("\"state\":\"done\""));
}
