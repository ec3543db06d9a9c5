//! What a script remembers: in its state, and in the memory of its workers.

use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    what_input_stores_output_reads_now_and_after_a_restart,
    the_first_wrappers_scripts_run_as_they_are,
    with_no_job_workers_a_script_may_keep_what_it_learns_in_memory,
);

fn what_input_stores_output_reads_now_and_after_a_restart(language: Language) {
    let script = match language {
        Language::Python => {
            "def input(files, ctx):\n    ctx.state[ctx.params['user']] = {'steps': [file.size for file in files]}\n\n\
             def output(files, ctx):\n    return ctx.state[ctx.params['user']]['steps']\n"
        }
        Language::Lua => {
            "return {\n  input = function(files, ctx) ctx.state[ctx.params.user] = { steps = { files[1].size } } end,\n\
             output = function(_, ctx) return ctx.state[ctx.params.user].steps end,\n}\n"
        }
    };
    let setup = Setup::inline(language, "steps", script).flags(&["--workers", "2"]);
    let body = |user: &str| setup.body(json!({"user": user}));
    let first = setup.start();
    first.done("/input", &body("Ada ä"));
    for _ in 0..4 {
        assert_eq!(first.output(&body("Ada ä")), [6.0]);
    }
    first.post("/output", &body("nobody")).expect_problem(500, "script_error");
    drop(first);
    assert_eq!(setup.start().output(&body("Ada ä")), [6.0]);
}

fn the_first_wrappers_scripts_run_as_they_are(language: Language) {
    let setup = Setup::new(language, "wrapper");
    let service = setup.start();
    let (a, b) = (setup.file("a", "xyz"), setup.file("b", "z"));
    assert_eq!(service.output(&json!({"files": [a, b]})), [0.0, 3.0, 0.0, 1.0]);
    service.done("/train", &json!({"files": [a]}));
    service.done("/input", &json!({"files": [a, b]}));
}

fn with_no_job_workers_a_script_may_keep_what_it_learns_in_memory(language: Language) {
    let setup = Setup::new(language, "wrapper").flags(&["--job-workers", "0"]);
    let service = setup.start();
    let body = json!({"files": [setup.file("a", "xyz"), setup.file("b", "z")]});
    service.done("/train", &body);
    service.done("/input", &body);
    assert_eq!(service.output(&body), [8.0, 3.0, 8.0, 1.0]);
    assert_eq!(service.workers().len(), 1);
}

#[test]
fn what_one_language_stores_the_other_reads() {
    let python = "def input(files, ctx):\n    ctx.state['shared'] = {'list': [1, 2.5, 'ä', None], 'raw': True}\n    ctx.state['bytes'] = b'\\x00\\xff'\n";
    let setup = Setup::inline(Language::Python, "model", python).flags(&["--name", "both"]);
    setup.start().done("/input", &setup.body(json!({})));
    let lua = "local function read(_, ctx)\n  return { shared = ctx.state.shared, length = #ctx.state.bytes }\nend\nreturn { input = read }\n";
    let setup = setup.with_script(Language::Lua, lua);
    let status = setup.start().done("/input", &setup.body(json!({})));
    assert_eq!(status["result"], json!({"shared": {"list": [1, 2.5, "ä", null], "raw": true}, "length": 2}));
}

#[test]
fn increments_from_many_workers_at_once_are_all_counted() {
    let script = "def output(files, ctx):\n    return [ctx.state.increment('seen', 1)]\n";
    let setup = Setup::inline(Language::Python, "counter", script).flags(&["--workers", "2"]);
    let service = setup.start();
    let body = setup.body(json!({}));
    let count = || (0..25).map(|_| service.output(&body)[0]).collect::<Vec<_>>();
    let mut seen: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seen.sort_by(f64::total_cmp);
    assert_eq!(seen, (1..=100).map(f64::from).collect::<Vec<_>>());
}
