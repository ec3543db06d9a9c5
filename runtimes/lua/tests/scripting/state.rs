//! Values in the state, from Lua and back.

use serde_json::json;

use crate::Worker;

#[test]
fn values_read_back_as_they_were_set() {
    let mut worker = Worker::evaluator();
    for (value, expected) in [
        ("'ä'", json!("ä")),
        ("5", json!(5)),
        ("2.5", json!(2.5)),
        ("2^53", json!(9_007_199_254_740_992_i64)),
        ("false", json!(false)),
        ("dunnage.null", json!(null)),
        ("{1, {2, 'x'}, {a = {}}}", json!([1, [2, "x"], {"a": {}}])),
        ("{a = dunnage.empty_array(), b = dunnage.null}", json!({"a": [], "b": null})),
        ("dunnage.empty_array()", json!([])),
    ] {
        // Once round, then once more with what was read.
        let code = format!("ctx.state.k = {value} ctx.state.l = ctx.state.k return ctx.state.l");
        assert_eq!(worker.eval(&code), Ok(expected), "{value}");
    }
    assert_eq!(worker.eval("return ctx.state.k == dunnage.null or #ctx.state.k == 0"), Ok(json!(true)));
}

#[test]
fn bytes_are_strings() {
    let mut worker = Worker::evaluator();
    let code = "
        ctx.state.raw, ctx.state.text = '\\0\\255', dunnage.bytes('abc')
        assert(ctx.state.raw == '\\0\\255' and ctx.state.text == 'abc')
        assert(#dunnage.bytes('abc') == 3)
        -- Bytes are not text, even where they look the same.
        return { ctx.state:compare_and_set('text', 'abc', 1), ctx.state:compare_and_set('text', dunnage.bytes('abc'), 1) }
    ";
    assert_eq!(worker.eval(code), Ok(json!([false, true])));
}

#[test]
fn arrays_keep_their_type_and_their_elements() {
    let mut worker = Worker::evaluator();
    for dtype in ["f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"] {
        let code = format!(
            "ctx.state.k = dunnage.array({{1, 2, 100}}, '{dtype}')
            local array = ctx.state.k
            assert(array.dtype == '{dtype}' and #array == 3 and array[3] == 100 and array[4] == nil and array[0] == nil)
            array[1] = 7
            ctx.state.k = array
            return {{ ctx.state.k:totable(), ctx.state.k.shape, tostring(array) }}"
        );
        assert_eq!(worker.eval(&code), Ok(json!([[7, 2, 100], [3], format!("dunnage.array: {dtype} [3]")])), "{dtype}");
    }
}

#[test]
fn an_array_takes_only_what_it_can_hold() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("local a = dunnage.array({300}, 'u8')", "300 does not fit into an element of type u8"),
        ("local a = dunnage.array({1.5}, 'i32')", "1.5 does not fit into an element of type i32"),
        ("local a = dunnage.array({1, 'x'})", "an array holds numbers, not a string"),
        ("dunnage.array(2)[3] = 1", "index 3 is outside of the array, which has 2 elements"),
        ("dunnage.array(2).x = 1", "index x is outside of the array"),
        ("local a = dunnage.array(1, 'f16')", "there is no element type `f16`"),
        ("local a = dunnage.array(-1)", "an array is made from a length or from a list of numbers"),
        ("local a = dunnage.array('abc')", "an array is made from a length or from a list of numbers"),
    ] {
        let error = worker.eval(code).unwrap_err();
        assert!(error.message.starts_with("code:1: ") && error.message.contains(expected), "{code}: {error:?}");
    }
}

#[test]
fn keys_are_strings_and_methods_do_not_hide_them() {
    let mut worker = Worker::evaluator();
    let code = "
        ctx.state.get, ctx.state['a b'] = 1, 2
        assert(ctx.state:get('get') == 1 and ctx.state['a b'] == 2)
        ctx.state['a b'] = nil
        assert(ctx.state['a b'] == nil and ctx.state:get('a b', 'default') == 'default')
        assert(ctx.state:increment('n') == 1 and ctx.state:increment('n', -3) == -2)
        assert(ctx.state:compare_and_set('new', nil, 1) and not ctx.state:compare_and_set('new', nil, 2))
        return { ctx.state:compare_and_set('new', 1, nil), ctx.state:delete('new') }
    ";
    assert_eq!(worker.eval(code), Ok(json!([true, false])));
    let error = worker.eval("return ctx.state[1]").unwrap_err();
    assert!(error.message.contains("a key of the state is a string, not a number"), "{error:?}");
}

#[test]
fn a_method_that_is_misused_says_how_it_is_used() {
    let mut worker = Worker::evaluator();
    for (code, expected) in [
        ("ctx.state.get('k')", "call `get` with a colon, as in `ctx.state:get(…)`"),
        ("for _ in ctx.state.scan('k') do end", "call `scan` with a colon, as in `ctx.state:scan(…)`"),
        ("ctx.state:increment('k', '1')", "the increment is a number, not a string"),
        ("ctx.state:scan(1)", "the prefix of a scan is a string, not a number"),
        ("ctx.state['\\255'] = 1", "a key of the state must be UTF-8"),
        ("ctx.state.k = { a = '\\255' }", ".a is a string that is not UTF-8"),
        ("ctx.state.k = dunnage.bytes(1)", "bytes are made from a string, not a number"),
        ("ctx.state.k = 1LL", "the value is a cdata"),
    ] {
        let error = worker.eval(code).unwrap_err();
        assert!(error.message.starts_with("code:1: ") && error.message.contains(expected), "{code}: {error:?}");
    }
}

#[test]
fn the_state_can_be_used_in_a_coroutine() {
    let mut worker = Worker::evaluator();
    let code = "local step = coroutine.wrap(function() ctx.state.k = 1 coroutine.yield() ctx.state:increment('k') return ctx.state.k end) step() return step()";
    assert_eq!(worker.eval(code), Ok(json!(2)));
}

#[test]
fn a_scan_goes_through_every_page() {
    let mut worker = Worker::evaluator();
    let code = "
        for i = 1, 1000 do ctx.state[('user/%04d'):format(i)] = i end
        ctx.state.other = 1
        local function count()
          local sum, last = 0, ''
          for key, value in ctx.state:scan('user/') do
            assert(key > last and tonumber(key:sub(6)) == value)
            sum, last = sum + 1, key
          end
          return sum
        end
        local full = count()
        ctx.state['user/1001'] = 1001
        return { full, count() }
    ";
    assert_eq!(worker.eval(code), Ok(json!([1000, 1001])));
}
