//! `files` and `ctx`.

use dunnage_types::{JobKind, LogLevel};
use serde_json::json;

use crate::{Worker, none, object};

#[test]
fn a_file_can_be_read_in_every_way() {
    let mut worker = Worker::evaluator();
    let file = worker.driver.file("a.csv", b"1\n\xff\n");
    let code = "
        local file = files[1]
        local handle = file:open()
        local first = handle:read('*l')
        handle:close()
        local lines = 0
        for _ in file:lines() do lines = lines + 1 end
        assert(file:read() == '1\\n\\255\\n' and io.open(file.path):read('*a') == file:read() and file.etag == nil)
        return { file.uri, file.size, first, lines }
    ";
    let returned = worker.train(vec![file.clone()], object(json!({ "code": code })));
    assert_eq!(returned, Ok(json!(["s3://suite/a.csv", 4, "1", 2])));
    let misused = object(json!({ "code": "files[1].read()" }));
    let error = worker.train(vec![file.clone()], misused).unwrap_err();
    assert!(error.message.ends_with("call `read` with a colon, as in `files[1]:read()`"), "{error:?}");
    std::fs::remove_file(&file.path).unwrap();
    for method in ["read", "open"] {
        let code = format!("files[1]:{method}()");
        let error = worker.train(vec![file.clone()], object(json!({ "code": code }))).unwrap_err();
        assert!(error.message.contains("a.csv") && error.message.contains("No such file"), "{error:?}");
    }
}

#[test]
fn a_job_and_a_request_know_who_they_are() {
    let mut worker = Worker::evaluator();
    let returned = worker
        .eval("return { #ctx.job_id, ctx.attempt, type(ctx.seed), ctx.device, ctx.service, ctx.cancelled, type(ctx.artifact), type(ctx.params.x) }");
    assert_eq!(
        returned.unwrap().as_array().unwrap()[1..],
        json!([1, "number", "cpu", "suite", false, "nil", "nil"]).as_array().unwrap()[..]
    );
    assert_eq!(worker.vector("assert(ctx.request_id == 'r1' and ctx.job_id == nil) return {1}"), Ok(vec![1.0]));
}

#[test]
fn parameters_are_tables_that_keep_their_kinds() {
    let mut worker = Worker::evaluator();
    let params =
        json!({ "code": "ctx.params.code = nil return ctx.params", "list": [], "object": {}, "null": null, "deep": [[1.5], "ä"] });
    let returned = worker.train(Vec::new(), object(params)).unwrap();
    assert_eq!(returned, json!({ "list": [], "object": {}, "null": null, "deep": [[1.5], "ä"] }));
}

#[test]
fn functions_of_the_context_may_be_called_with_a_dot_or_a_colon() {
    let mut worker = Worker::evaluator();
    let code = "
        ctx.progress(0.25, 'a', { loss = 1 })
        ctx:progress(0.5)
        ctx.log('one', 2, nil)
        ctx:log('two')
        ctx.log.debug('three')
        ctx.log:error('f\\255ur')
        assert(ctx.new_artifact() == ctx:new_artifact())
    ";
    worker.eval(code).unwrap();
    let progress: Vec<_> = worker.driver.progress.iter().map(|progress| (progress.fraction, progress.message.as_deref())).collect();
    assert_eq!(progress, [(Some(0.25), Some("a")), (Some(0.5), None)]);
    assert_eq!(worker.driver.progress[0].metrics, object(json!({ "loss": 1 })));
    let log: Vec<_> = worker.driver.log.iter().map(|line| (line.level, line.message.as_str())).collect();
    let (info, debug, error) = (LogLevel::Info, LogLevel::Debug, LogLevel::Error);
    assert_eq!(log, [(info, "one 2 nil"), (info, "two"), (debug, "three"), (error, "f\u{fffd}ur")]);
}

#[test]
fn progress_that_makes_no_sense_is_refused() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("ctx.progress('half')", "the fraction is a number, not a string"),
        ("ctx.progress(0.5, {})", "the message is a string, not a table"),
        ("ctx.progress(0.5, 'x', { loss = 0/0 })", ".loss is NaN; metrics are a table of names and numbers"),
        ("ctx.progress(0.5, 'x', { 1 })", "the value is no table with named fields"),
    ] {
        let error = worker.eval(code).unwrap_err();
        assert!(error.message.starts_with("code:1: ") && error.message.contains(expected), "{code}: {error:?}");
    }
}

#[test]
fn a_context_cannot_be_used_after_its_call() {
    let mut worker = Worker::evaluator();
    worker.eval("kept = ctx").unwrap();
    for code in [
        "return kept.state.k",
        "kept.state.k = 1",
        "kept.progress(1)",
        "kept.new_artifact()",
        "for _ in kept.state:scan('') do end",
    ] {
        let error = worker.eval(code).unwrap_err();
        assert!(error.message.contains("this call has ended"), "{code}: {error:?}");
    }
    assert_eq!(worker.eval("return kept.cancelled"), Ok(json!(true)));
}

#[test]
fn a_context_of_a_request_cannot_be_used_after_its_call() {
    let mut worker = Worker::evaluator();
    // One that has asked the server within its call, and one that has not.
    assert_eq!(worker.vector("asked = ctx ctx.state.k = 7 return { ctx.state.k, ctx.cancelled }"), Ok(vec![7.0, 0.0]));
    assert_eq!(worker.vector("silent = ctx return { asked.cancelled }"), Ok(vec![1.0]));
    worker.vector("return {}").unwrap();
    for kept in ["asked", "silent"] {
        for code in ["return { KEPT.state.k }", "KEPT.state.k = 1", "KEPT.progress(1)", "KEPT.state:set('k', 1)"] {
            let code = code.replace("KEPT", kept);
            let error = worker.vector(&code).unwrap_err();
            assert!(error.message.contains("this call has ended"), "{code}: {error:?}");
        }
        assert_eq!(worker.vector(&format!("return {{ {kept}.cancelled, ctx.cancelled, ctx.state.k }}")), Ok(vec![1.0, 0.0, 7.0]));
    }
}

#[test]
fn requests_of_one_call_share_it() {
    let mut worker = Worker::start("return { output = function(files, ctx) kept = kept or ctx return { kept.state.k or 0 } end }");
    let request = || dunnage_protocol::Request { request_id: "r".into(), files: Vec::new(), params: none() };
    assert_eq!(worker.driver.output(vec![request(), request()]), [Ok(vec![0.0]), Ok(vec![0.0])]);
    assert!(worker.driver.output(vec![request()])[0].as_ref().unwrap_err().message.contains("this call has ended"));
}

#[test]
fn what_is_printed_arrives_whole() {
    let mut worker = Worker::start("return { input = function() io.write('no line end') io.stderr:write('') end }");
    worker.driver.run(JobKind::Input, Vec::new(), none()).unwrap();
    let printed = worker.driver.printed();
    let status = worker.driver.close();
    assert!(status.success());
    assert_eq!(printed, "no line end");
}
