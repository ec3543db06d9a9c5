//! What a worker is given by the system: few descriptors, no core files, and the first place when memory runs out.

use std::collections::BTreeSet;
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::vector;
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    a_worker_has_no_descriptor_but_its_own,
    a_worker_leaves_no_core_file_and_goes_before_the_server,
    a_worker_begins_with_the_signals_of_a_new_program,
    requests_whose_clients_have_gone_reach_no_worker,
    a_script_that_cannot_be_loaded_is_not_tried_without_end,
    a_worker_that_the_system_kills_for_memory_is_told_apart,
    a_worker_killed_from_outside_is_told_apart,
);

/// A field of a process's status.
fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} in {text}")).trim().to_owned()
}

fn a_worker_has_no_descriptor_but_its_own(language: Language) {
    // The server has inherited one, as from a careless supervisor.
    let program = tempfile::tempdir().unwrap();
    let program_path = super::remains::wrapped(program.path(), "exec 9</dev/zero && exec DUNNAGE \"$@\"");
    let setup = Setup::new(language, "behaviours").binary(program_path);
    let service = setup.start();
    let folder = format!("/proc/{}/fd", service.workers()[0]);
    let (mut sockets, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (number, link) = (entry.file_name().into_string().unwrap(), std::fs::read_link(entry.path()).unwrap());
        let link = link.to_str().unwrap().to_owned();
        match link.split(':').next().unwrap() {
            "socket" => drop(sockets.insert(link)),
            "pipe" | "/dev/null" => assert!(["0", "1", "2"].contains(&number.as_str()), "{number}: {link}"),
            _ => panic!("{number}: {link}"),
        }
        numbers.insert(number);
    }
    assert_eq!(sockets.len(), 1, "one connection, to the server: {sockets:?}");
    assert!(["0", "1", "2", "3"].iter().all(|number| numbers.contains(*number)), "{numbers:?}");
}

fn a_worker_leaves_no_core_file_and_goes_before_the_server(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let worker = service.workers()[0];
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let core: Vec<_> = limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{core:?}");
    let readiness =
        |pid: i32| -> i32 { std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap() };
    assert_eq!(readiness(worker), (readiness(service.pid()) + 500).min(1000));
    assert_eq!(u32::from_str_radix(&status(worker, "Umask"), 8).unwrap() & 0o027, 0o027);
    service.post("/output", &setup.body(json!({"case": "segfault"}))).expect_problem(502, "worker_crashed");
    let names = std::fs::read_dir(setup.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("core")).count(), 0);
}

fn a_worker_begins_with_the_signals_of_a_new_program(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let worker = service.workers()[0];
    let signals = |field| u64::from_str_radix(&status(worker, field), 16).unwrap();
    assert_eq!(signals("SigBlk"), 0);
    let terminate = 1 << (15 - 1);
    assert_eq!(signals("SigIgn") & terminate, 0);
}

fn requests_whose_clients_have_gone_reach_no_worker(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let ask = |case: &str| Request::new("POST", "/output").json(&setup.body(json!({"case": case, "number": 1})));
    let queued = || service.get("/metrics").text().contains("dunnage_outputs_queued{service=\"behaviours\"} 20\n");
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| service.send(&ask("sleep")));
        let sleeps = || service.log().iter().any(|line| line.contains("sleeping"));
        eventually("the worker is busy", Duration::from_secs(5), || sleeps().then_some(()));
        let gone: Vec<_> = (0..20).map(|_| ask("nothing").begin(service.address()).unwrap()).collect();
        eventually("they wait", Duration::from_secs(5), || queued().then_some(()));
        drop(gone);
        assert_eq!(vector(&busy.join().unwrap()), [1.0], "a call in progress goes on");
    });
    // The script counts its calls: the busy one and this one.
    assert_eq!(service.output(&setup.body(json!({"case": "calls"}))), [2.0]);
}

fn a_script_that_cannot_be_loaded_is_not_tried_without_end(language: Language) {
    let setup = Setup::new(language, "behaviours");
    std::fs::write(setup.folder().join("on_load"), "hard_exit").unwrap();
    let service = setup.launch();
    let starts = || service.log().iter().filter(|line| line.contains("a serving worker could not be started")).count();
    eventually("it is tried again", Duration::from_secs(10), || (starts() >= 3).then_some(()));
    let (before, begin) = (starts(), std::time::Instant::now());
    while begin.elapsed() < Duration::from_secs(4) {
        assert_eq!((service.get("/healthz/live").status, service.get("/healthz/ready").status), (200, 503));
        std::thread::sleep(Duration::from_millis(100));
    }
    // The waits are 0.8 s and 1.6 s by now, less up to a quarter, and then longer.
    assert!(starts() - before <= 4, "{} starts in 4 s", starts() - before);
}

fn a_worker_killed_from_outside_is_told_apart(language: Language) {
    let setup = Setup::new(language, "behaviours");
    let service = setup.start();
    let worker = service.workers()[0];
    let refused = std::thread::scope(|scope| {
        let asking = scope.spawn(|| service.post("/output", &setup.body(json!({"case": "deaf"}))));
        eventually("it does not hear SIGTERM", Duration::from_secs(5), || {
            (u64::from_str_radix(&status(worker, "SigIgn"), 16).unwrap() & (1 << 14) != 0).then_some(())
        });
        dunnage_testing::service::signal(worker, "KILL");
        asking.join().unwrap()
    });
    let detail = refused.expect_problem(502, "worker_crashed");
    assert!(detail.contains("signal 9 (killed from outside"), "{detail}");
}

/// The memory that the server and its workers may have together.
const MEMORY: &str = "200M";

fn a_worker_that_the_system_kills_for_memory_is_told_apart(language: Language) {
    let Some(group) = Group::make(language) else {
        eprintln!("skipped: there may be no new control groups here");
        return;
    };
    let text = match language {
        Language::Python => "def output(files, ctx):\n    return [1] if not ctx.params else [len(bytearray(b'x') * (1 << 30))]\n",
        Language::Lua => {
            "local ffi = require('ffi')\nffi.cdef('void *malloc(unsigned long); void *memset(void *, int, unsigned long);')\n\
             return { output = function(_, ctx)\n  if next(ctx.params) then\n    ffi.C.memset(ffi.C.malloc(2 ^ 30), 1, 2 ^ 30)\n  end\n  \
             return { 1 }\nend }\n"
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let program = super::remains::wrapped(folder.path(), &format!("echo $$ > {} && exec DUNNAGE \"$@\"", group.processes()));
    let setup = Setup::inline(language, "hungry", text).binary(program);
    let service = setup.start();
    let server = service.pid();
    let detail = service.post("/output", &setup.body(json!({"eat": true}))).expect_problem(502, "worker_crashed");
    assert!(detail.contains("was killed by the system because memory ran out"), "{detail}");
    assert_eq!(service.output(&setup.body(json!({}))), [1.0]);
    assert_eq!(service.pid(), server, "the worker went, not the server");
    let metrics = service.get("/metrics").text().to_owned();
    assert!(metrics.contains("dunnage_workers_lost_total{reason=\"out_of_memory\",service=\"hungry\"} 1"), "{metrics}");
}

/// A control group with a limit, where the machine lets us make one.
struct Group(std::path::PathBuf);

impl Group {
    fn make(language: Language) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let path_of =
            |controllers: &str| own.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(controllers)?.strip_prefix(':'));
        let name = format!("memory-{}-{}", std::process::id(), language.extension());
        let version_1 = path_of("memory").map(|path| (format!("/sys/fs/cgroup/memory{path}/{name}"), "memory.limit_in_bytes"));
        let version_2 = path_of("").map(|path| (format!("/sys/fs/cgroup{path}/{name}"), "memory.max"));
        let (path, limit) = version_1.or(version_2)?;
        std::fs::create_dir(&path).ok()?;
        let group = Self(path.into());
        std::fs::write(group.0.join(limit), MEMORY).ok()?;
        Some(group)
    }

    fn processes(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed only when its processes are gone, which may take a moment longer than this.
        let _ = std::fs::remove_dir(&self.0);
    }
}
