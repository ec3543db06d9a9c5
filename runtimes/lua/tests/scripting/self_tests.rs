//! A script's test of itself, before it serves.

use dunnage_protocol::CallError;

use crate::{Worker, none};

fn failure(source: &str) -> CallError {
    let error = Worker::new().load(source).unwrap_err();
    assert_eq!(error.code, "self_test_failed", "{error:?}");
    error
}

#[test]
fn it_runs_once_after_setup_and_may_call_the_scripts_own_output() {
    let source = "
        local model, tested = {}, 0
        function model.setup(ctx) model.device = ctx.device end
        function model.output() return { tested } end
        function model.self_test(ctx)
          assert(model.output()[1] == 0 and model.device == ctx.device and ctx.state.absent == nil)
          tested = tested + 1
          ctx.log('tested')
        end
        return model
    ";
    let mut worker = Worker::new();
    assert!(worker.load(source).unwrap().self_test);
    assert_eq!(worker.output(Vec::new(), none()), Ok(vec![1.0]));
    assert_eq!(worker.driver.log.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["tested"]);
}

#[test]
fn it_may_be_global_declared_with_a_colon_or_stand_beside_handlers() {
    for source in [
        "function self_test() error('found') end function output() return {1} end",
        "local m = { text = 'found' } function m:self_test(ctx) error(self.text .. ctx.device) end function m.output() end return m",
        "return { self_test = function() error('found') end, handleOutputFile = print }",
    ] {
        assert!(failure(source).message.contains("found"), "{source}");
    }
}

#[test]
fn what_it_raises_is_told_with_the_scripts_frames() {
    let error = failure("return {\n  output = print,\n  self_test = function() error('the golden input scored 3') end,\n}");
    assert_eq!(error.message, "`self_test` failed: model.lua:3: the golden input scored 3");
    let expected = "stack traceback:\n\t[C]: in function 'error'\n\tmodel.lua:3: in function 'self_test'";
    assert_eq!(error.traceback.as_deref(), Some(expected));
}

#[test]
fn only_false_is_a_failure_among_what_it_may_return() {
    let returning = |value: &str| format!("return {{ output = print, self_test = function() return {value} end }}");
    assert_eq!(failure(&returning("false")).message, "`self_test` returned false");
    for value in ["", "nil", "true", "0", "{}"] {
        assert!(Worker::new().load(&returning(value)).unwrap().self_test, "{value}");
    }
}
