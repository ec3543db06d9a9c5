//! The forms of a script.

use dunnage_protocol::{CallError, Functions};
use dunnage_types::JobKind;
use serde_json::json;

use crate::{Worker, none};

fn load_error(source: &str) -> CallError {
    let error = Worker::new().load(source).unwrap_err();
    assert_eq!(error.code, "load_failed", "{error:?}");
    error
}

#[test]
fn the_first_wrappers_sample_answers_a_single_number() {
    let sample = "
        ML = {}
        function ML.handleTrainFile(name, contents) print('training on ' .. name) end
        function ML.handleInputFile(name, contents) return name .. contents end
        function ML.handleOutputFile(name, contents) return 42 end
        return ML
    ";
    let mut worker = Worker::start(sample);
    let file = worker.driver.file("a", b"\0x");
    assert_eq!(worker.output(vec![file.clone()], none()), Ok(vec![42.0]));
    assert_eq!(worker.train(vec![file.clone()], none()), Ok(json!(null)));
    let inputs = worker.driver.run(JobKind::Input, vec![file], none());
    assert_eq!(inputs, Ok(json!(["s3://suite/a\u{0}x"])));
}

#[test]
fn handlers_answers_are_put_one_behind_the_other() {
    let mut worker = Worker::start(
        "local answers = { a = 1, b = {2, 3}, c = require('dunnage').array({4}, 'i32') }
        return { handleOutputFile = function(_, contents) return answers[contents] end }",
    );
    let file = |worker: &Worker, text: &str| worker.driver.file(text, text.as_bytes());
    let files = ["a", "b", "c"].map(|text| file(&worker, text)).to_vec();
    assert_eq!(worker.output(files, none()), Ok(vec![1.0, 2.0, 3.0, 4.0]));
    let files = vec![file(&worker, "d")];
    assert!(worker.output(files, none()).unwrap_err().message.contains("`handleOutputFile` returned nothing"));
}

#[test]
fn functions_may_be_global_or_declared_with_a_colon() {
    let mut worker = Worker::new();
    let functions = worker.load("function train(files, ctx) return ctx.attempt end\nfunction output() return {1} end").unwrap();
    assert_eq!(functions, Functions { train: true, output: true, ..Functions::default() });
    assert_eq!(worker.train(Vec::new(), none()), Ok(json!(1)));
    let error = worker.driver.run(JobKind::Input, Vec::new(), none()).unwrap_err();
    assert_eq!(error.message, "`model.lua` has no `input`; add `function input(files, ctx)`");

    let mut worker =
        Worker::start("local m = {x = 5}\nfunction m:output(files, ctx) return {self.x, #files, #ctx.device} end\nreturn m");
    assert_eq!(worker.output(Vec::new(), none()), Ok(vec![5.0, 0.0, 3.0]));
    let mut worker =
        Worker::start("function setup() base = 1 end function handleOutputFile(name, contents) return base + #contents end");
    let file = worker.driver.file("a", b"abc");
    assert_eq!(worker.output(vec![file], none()), Ok(vec![4.0]));
}

#[test]
fn a_missing_function_is_named_with_what_to_add() {
    let mut worker = Worker::start("return { output = function() return {1} end }");
    let error = worker.train(Vec::new(), none()).unwrap_err();
    let expected = "`model.lua` has no `train`; add `function model.train(files, ctx)` to the table it returns";
    assert_eq!((error.code.as_str(), error.message.as_str()), ("function_missing", expected));
    let mut worker = Worker::start("return { handleOutputFile = function() return 1 end }");
    let error = worker.train(Vec::new(), none()).unwrap_err();
    assert_eq!(error.message, "`model.lua` has no `train`; add `handleTrainFile(name, contents)`");
    let mut worker = Worker::start("return { train = function() end }");
    assert_eq!(worker.output(Vec::new(), none()).unwrap_err().code, "function_missing");
}

#[test]
fn a_script_without_functions_is_told_the_forms() {
    for source in ["return 5", "return {}", "local model = {}", "return { predict = print }"] {
        let error = load_error(source);
        assert!(error.message.starts_with("`model.lua` returned ") && error.message.contains("output(files, ctx)"), "{error:?}");
        assert!(error.message.contains("handleOutputFile"), "{error:?}");
    }
}

#[test]
fn a_script_that_does_not_load_says_where() {
    assert_eq!(load_error("local x = = 1").message, "model.lua:1: unexpected symbol near '='");
    let error = load_error("local m = { output = print }\nfunction m.setup() error('no weights') end\nreturn m");
    assert_eq!(error.message, "model.lua:2: no weights");
    assert!(error.traceback.unwrap().contains("model.lua:2:"));
    assert!(load_error("require('no_such_module')").message.contains("module 'no_such_module' not found"));
}

#[test]
fn a_guard_against_unknown_globals_does_no_harm() {
    let guard = "setmetatable(_G, { __index = function(_, name) error('unknown global ' .. name) end })\n";
    let mut worker = Worker::start(&format!("function output() return {{1}} end\n{guard}"));
    assert_eq!(worker.output(Vec::new(), none()), Ok(vec![1.0]));
}
