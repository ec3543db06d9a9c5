//! What counts as an output vector.

use crate::{Worker, none};

/// Something that behaves like a tensor: `totable`, or a length and elements.
const OBJECTS: &str = "
    local function tensor(list) return setmetatable({ list = list }, { __index = { totable = function(self) return self.list end } }) end
    local function sequence(list)
      return setmetatable({}, { __len = function() return #list end, __index = function(_, i) return list[i] end })
    end
    local function wrapped(list)
      local object = newproxy(true)
      getmetatable(object).__len = function() return #list end
      getmetatable(object).__index = function(_, i) return list[i] end
      return object
    end
";

#[test]
fn numbers_in_any_container_are_a_vector() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("return {1, 2.5, -3}", vec![1.0, 2.5, -3.0]),
        ("return {true, false}", vec![1.0, 0.0]),
        ("return {}", vec![]),
        ("return {1}, {2}", vec![1.0]),
        ("ctx.params.code = nil return ctx.params", vec![]),
        ("return dunnage.array({0.5, 2})", vec![0.5, 2.0]),
        ("return dunnage.array({0.5, 2}, 'f32')", vec![0.5, 2.0]),
        ("return dunnage.array({-1, 127}, 'i8')", vec![-1.0, 127.0]),
        ("return dunnage.array({65535}, 'u16')", vec![65535.0]),
        ("return dunnage.array({4294967295}, 'u32')", vec![4_294_967_295.0]),
        ("return dunnage.array({7}, 'u64')", vec![7.0]),
        ("return dunnage.array(3)", vec![0.0; 3]),
        ("return dunnage.array(0, 'i32')", vec![]),
        ("return ffi.new('double[3]', 1, 2, 3)", vec![1.0, 2.0, 3.0]),
        ("return ffi.new('float[?]', 2, 0.5, 2)", vec![0.5, 2.0]),
        ("return ffi.new('int[2]', -1, 2)", vec![-1.0, 2.0]),
        ("return ffi.new('uint8_t[?]', 2, 1, 255)", vec![1.0, 255.0]),
        ("return ffi.new('int64_t[1]', -5)", vec![-5.0]),
        ("return tensor({1, 2})", vec![1.0, 2.0]),
        ("return sequence({3, 4})", vec![3.0, 4.0]),
        ("return wrapped({5, 6})", vec![5.0, 6.0]),
    ] {
        assert_eq!(worker.vector(&format!("{OBJECTS} {code}")), Ok(expected), "{code}");
    }
}

#[test]
fn lists_of_any_length_and_in_any_order_of_making_are_a_vector() {
    let mut worker = Worker::evaluator();
    for length in [1, 3, 128, 8192, 8193, 20_000] {
        let expected: Vec<f64> = (1..=length).map(f64::from).collect();
        for order in [format!("1, {length}"), format!("{length}, 1, -1")] {
            let code = format!("local list = {{}} for i = {order} do list[i] = i end");
            assert_eq!(worker.vector(&format!("{code} return list")), Ok(expected.clone()), "{order}");
            for (other, found) in
                [("list.x = 1", "a field `x`"), ("list[0] = 1", "an element 0"), ("list[1] = {}", "element 1 is a table")]
            {
                let error = worker.vector(&format!("{code} {other} return list")).unwrap_err();
                assert!(error.code == "bad_output" && error.message.contains(found), "{order}: {error:?}");
            }
        }
    }
}

#[test]
fn anything_else_is_refused_with_its_place() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("", "`output` returned nothing"),
        ("return 42", "`output` returned a number; return a vector: `return {value}`"),
        ("return 'text'", "`output` returned a string; return a flat vector of numbers"),
        ("return true", "`output` returned a boolean"),
        ("return print", "`output` returned a function"),
        ("return io.stdout", "`output` returned a userdata"),
        ("return {1, {2}}", "element 2 is a table; return a flat vector of numbers"),
        ("return {1, nil, 3}", "element 2 is nil"),
        ("return {nil, 2}", "element 1 is nil"),
        ("return {1, '2'}", "element 2 is a string"),
        ("return {1, dunnage.null}", "element 2 is a userdata"),
        ("return {1, x = 2}", "the table has a field `x`"),
        ("return {x = 2}", "the table has a field `x`"),
        ("return {[0] = 1, 2}", "there is an element 0"),
        ("return tensor({{1}, {2}})", "element 1 is a table"),
        ("return tensor(nil)", "its method `totable` returned nil"),
        ("return sequence({1, 'x'})", "element 2 is a string"),
        ("return ffi.new('double[2][2]')", "`output` returned a `double [2][2]`"),
        ("return ffi.cast('double *', 0)", "`output` returned a `double *`"),
        ("return 42LL", "`output` returned a `int64_t`"),
        ("local a = dunnage.array(1, 'u64') a.data[0] = -1ULL return a", "element 1 is greater than any 64-bit signed integer"),
    ] {
        let error = worker.vector(&format!("{OBJECTS} {code}")).unwrap_err();
        assert_eq!(error.code, "bad_output", "{code}: {error:?}");
        assert!(error.message.contains(expected), "{code}: {}", error.message);
    }
}

#[test]
fn a_length_that_is_none_is_refused() {
    let mut worker = Worker::evaluator();
    for length in ["1.5", "-1", "0/0", "1/0", "1e15"] {
        let code =
            format!("return setmetatable({{}}, {{ __len = function() return {length} end, __index = function() return 1 end }})");
        let error = worker.vector(&code).unwrap_err();
        assert_eq!(error.code, "bad_output", "{length}: {error:?}");
        assert!(error.message.contains("its length is"), "{length}: {}", error.message);
    }
}

#[test]
fn an_answer_that_raises_while_it_is_read_is_the_scripts_error() {
    let mut worker = Worker::evaluator();
    let error = worker.vector("return setmetatable({}, { __len = function() error('no length') end })").unwrap_err();
    assert_eq!(error.code, "script_error");
    assert!(error.message.contains("no length"), "{error:?}");
}

#[test]
fn a_bad_answer_in_a_batch_fails_alone() {
    let mut worker = Worker::start("return { output_batch = function(requests) return { {1}, 'text', {3} } end }");
    let request = || dunnage_protocol::Request { request_id: "r".into(), files: Vec::new(), params: none() };
    let answers = worker.driver.output(vec![request(), request(), request()]);
    assert_eq!((&answers[0], &answers[2]), (&Ok(vec![1.0]), &Ok(vec![3.0])));
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.message, "for request 2 `output_batch` returned a string; return a flat vector of numbers");
    let answers = worker.driver.output(vec![request(), request()]);
    for answer in answers {
        assert!(answer.unwrap_err().message.contains("3 answers to 2 requests"));
    }
}
