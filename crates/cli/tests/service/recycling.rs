//! Workers that are replaced while they live, as clients see it: not at all.

use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::vector;
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(workers_are_replaced_after_their_share_without_a_failed_request, a_script_that_leaks_keeps_its_memory_bounded,);

fn workers_are_replaced_after_their_share_without_a_failed_request(language: Language) {
    let setup = Setup::new(language, "behaviours").flags(&["--workers", "2", "--recycle-after", "20"]);
    let service = setup.start();
    let two = || Some(service.workers()).filter(|workers| workers.len() == 2);
    let before = eventually("both run", Duration::from_secs(10), two);
    let ask = |number: u32| Request::new("POST", "/output").json(&setup.body(json!({"number": number})));
    let is_replaced = || two().is_some_and(|workers| workers.iter().all(|worker| !before.contains(worker)));
    let begin = Instant::now();
    // Nothing says which worker a request goes to, so that one of them may have to wait for its share.
    while !is_replaced() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not both are replaced: {before:?}, {:?}", service.workers());
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (service, ask) = (&service, &ask);
                scope.spawn(move || {
                    for number in (0..20).map(|round| thread * 1000 + round) {
                        assert_eq!(vector(&service.send(&ask(number))), [f64::from(number)]);
                    }
                });
            }
        });
    }
    let metrics = service.get("/metrics").text().to_owned();
    assert!(!metrics.lines().any(|line| line.starts_with("dunnage_workers_lost_total") && !line.ends_with(" 0")), "{metrics}");
}

/// The memory that a process takes up, in KiB.
fn rss(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn a_script_that_leaks_keeps_its_memory_bounded(language: Language) {
    let text = match language {
        Language::Python => "kept = []\ndef output(files, ctx):\n    kept.append(b'x' * (2 << 20))\n    return [len(kept)]\n",
        Language::Lua => {
            "local ffi = require('ffi')\nffi.cdef('void *malloc(unsigned long); void *memset(void *, int, unsigned long);')\n\
             return { output = function()\n  ffi.C.memset(ffi.C.malloc(2 ^ 21), 1, 2 ^ 21)\n  return { 1 }\nend }\n"
        }
    };
    let setup = Setup::inline(language, "leaks", text).flags(&["--recycle-rss", "128MiB"]);
    let service = setup.start();
    let first = service.workers()[0];
    let mut most = 0;
    let begin = Instant::now();
    while service.workers().contains(&first) {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is never replaced; it takes up {most} KiB");
        // Slowly enough for the next worker to be loaded meanwhile.
        service.output(&setup.body(json!({})));
        std::thread::sleep(Duration::from_millis(10));
        most = most.max(service.workers().into_iter().map(rss).max().unwrap_or(0));
    }
    assert!(most > 100 << 10, "{most} KiB");
}
