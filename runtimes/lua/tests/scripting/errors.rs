//! How a script's failures are told.

use dunnage_protocol::CallError;

use crate::{Worker, none};

fn script_error(result: Result<impl std::fmt::Debug, CallError>) -> CallError {
    let error = result.unwrap_err();
    assert_eq!(error.code, "script_error", "{error:?}");
    error
}

#[test]
fn a_traceback_shows_the_scripts_frames_and_not_ours() {
    let mut worker =
        Worker::start("local function inner()\n  error('boom')\nend\nreturn { output = function() inner() return {1} end }");
    let error = script_error(worker.output(Vec::new(), none()));
    assert_eq!(error.message, "model.lua:2: boom");
    let traceback = error.traceback.unwrap();
    let expected = "stack traceback:\n\t[C]: in function 'error'\n\tmodel.lua:2: in function 'inner'\n\tmodel.lua:4: in function <model.lua:4>";
    assert_eq!(traceback, expected);
}

#[test]
fn any_value_can_be_raised() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("error('text', 0)", "text"),
        ("error(42)", "42"),
        ("error({ code = 7 })", "the script raised a table value: {\"code\":7}"),
        ("error({ message = 'told' })", "told"),
        ("error(setmetatable({}, { __tostring = function() return 'shown' end }))", "shown"),
        ("error(setmetatable({}, { __tostring = function() error('again') end }))", "the script raised a table value: {}"),
        ("error()", "the script raised a nil value: null"),
        ("error(print)", "the script raised a function value"),
        ("error('a\\255b', 0)", "a\u{fffd}b"),
        ("string.rep()", "bad argument #1 to 'rep'"),
        ("local x = nil; x.y = 1", "attempt to index local 'x' (a nil value)"),
        ("coroutine.wrap(function() error('inside', 0) end)()", "inside"),
    ] {
        let error = script_error(worker.eval(code));
        assert!(error.message.contains(expected), "{code}: {}", error.message);
    }
}

#[test]
fn a_text_without_end_is_shortened() {
    let mut worker = Worker::evaluator();
    let error = script_error(worker.eval("error(('ü'):rep(2 ^ 25), 0)"));
    assert!(error.message.starts_with("üüü") && error.message.ends_with("ü […]"), "{}", error.message.len());
    assert!(error.message.len() < 2_010, "{}", error.message.len());
}

#[test]
fn endless_recursion_is_an_error_and_not_the_end() {
    let mut worker = Worker::evaluator();
    let error = script_error(worker.eval("local function f() return 1 + f() end return f()"));
    assert!(error.message.contains("stack overflow"), "{error:?}");
    assert_eq!(worker.vector("return {1}"), Ok(vec![1.0]));
}

#[test]
fn too_little_memory_is_an_error_and_not_the_end() {
    let program = env!("CARGO_BIN_EXE_dunnage-lua");
    let limited = format!("ulimit -v 500000; exec {program}");
    let mut worker = Worker::with_command(["/bin/sh", "-c", &limited].map(str::to_owned).to_vec());
    worker.load(crate::EVALUATOR).unwrap();
    let error = script_error(worker.eval("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end"));
    assert!(error.message.contains("not enough memory"), "{error:?}");
    assert_eq!(worker.vector("collectgarbage() return {1}"), Ok(vec![1.0]));
}

#[test]
fn what_the_host_refuses_is_raised_as_a_string_at_the_scripts_line() {
    let mut worker = Worker::start("return {\n  train = function(_, ctx)\n    ctx.state.k = print\n  end\n}");
    let error = script_error(worker.train(Vec::new(), none()));
    let expected = "model.lua:3: the value is a function; the state keeps numbers, strings, booleans, tables of them, and arrays";
    assert_eq!(error.message, expected);
    assert!(error.traceback.unwrap().contains("model.lua:3:"));
}

#[test]
fn a_script_can_ask_to_be_tried_again() {
    let mut worker = Worker::evaluator();
    let error = worker.eval("dunnage.retry('the camera is busy', 2.5)").unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("script_retry", "the camera is busy"));
    assert_eq!(error.retry_after, Some(2.5));
    let error = worker.eval("local ok, caught = pcall(dunnage.retry) error(caught)").unwrap_err();
    assert_eq!((error.code.as_str(), error.retry_after), ("script_retry", None));
    let error = worker.eval("dunnage.cancelled()").unwrap_err();
    assert_eq!(error.code, "script_cancelled");
    let error = script_error(worker.eval("dunnage.retry('x', 'soon')"));
    assert!(error.message.contains("a number of seconds"), "{error:?}");
}

#[test]
fn a_result_without_a_place_in_json_is_named() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("return print", "the value is a function"),
        ("return io.stdout", "the value is a userdata"),
        ("return { loss = { 1, 0/0 } }", ".loss[2] is NaN"),
        ("return 1/0", "the value is inf"),
        ("return { x = dunnage.array(1) }", ".x is a cdata"),
    ] {
        let error = worker.eval(code).unwrap_err();
        assert_eq!(error.code, "bad_result", "{code}: {error:?}");
        assert!(error.message.contains("`train`") && error.message.contains(expected), "{code}: {}", error.message);
    }
}
