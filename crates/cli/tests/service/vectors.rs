//! What scripts answer, case by case: a vector comes out digit for digit, and what is none is refused, with the place.

use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    every_vector_comes_out_digit_for_digit,
    everything_else_is_refused_with_its_place,
    a_vector_without_elements_is_refused_whatever_it_is_made_of,
    a_vector_too_long_for_the_socket_comes_out_digit_for_digit,
);

/// What the script evaluates and what it must be: the digits that are answered, or a part of what is told.
type Case = (&'static str, &'static str);

/// Answers what its parameter says.
fn evaluator(language: Language) -> Setup {
    let script = match language {
        Language::Python => {
            "import array, collections, ctypes, decimal, fractions\n\
             def output(files, ctx):\n    return eval(ctx.params['code'])\n"
        }
        Language::Lua => {
            "dunnage, ffi = require('dunnage'), require('ffi')\n\
             return { output = function(_, ctx) return assert(loadstring('return ' .. ctx.params.code))() end }\n"
        }
    };
    Setup::inline(language, "evaluator", script)
}

const PYTHON_VECTORS: [Case; 26] = [
    ("[1, 2, 3]", "1,2,3"),
    ("(1, -2)", "1,-2"),
    ("[0.1, 1 / 3, 2 / 3]", "0.1,0.3333333333333333,0.6666666666666666"),
    ("[1.0, -0.0]", "1.0,-0.0"),
    ("[1, 0.5]", "1.0,0.5"),
    ("[True, False]", "1,0"),
    ("[2 ** 63 - 1, -2 ** 63]", "9223372036854775807,-9223372036854775808"),
    ("[2 ** 53 + 1]", "9007199254740993"),
    ("[2 ** 53 + 1.0]", "9007199254740992.0"),
    ("[5e-324, 2.2250738585072011e-308]", "5e-324,2.225073858507201e-308"),
    ("[1.7976931348623157e308, -1.7976931348623157e308]", "1.7976931348623157e+308,-1.7976931348623157e+308"),
    ("[1e21, 1e22, 1e-7]", "1e+21,1e+22,1e-7"),
    ("range(3)", "0,1,2"),
    ("collections.deque([1, 2.5])", "1.0,2.5"),
    ("[decimal.Decimal('0.5'), fractions.Fraction(1, 4)]", "0.5,0.25"),
    ("array.array('f', [0.1, 1e-45, 3.4028235e38])", "0.1,1e-45,3.4028235e+38"),
    ("array.array('d', [0.1])", "0.1"),
    ("array.array('b', [-128, 127])", "-128,127"),
    ("array.array('B', [255])", "255"),
    ("array.array('H', [65535])", "65535"),
    ("array.array('I', [2 ** 32 - 1])", "4294967295"),
    ("array.array('q', [-2 ** 63])", "-9223372036854775808"),
    ("array.array('Q', [2 ** 63 - 1])", "9223372036854775807"),
    ("memoryview(array.array('d', [1, 2, 3]))[::2]", "1.0,3.0"),
    ("(ctypes.c_float * 2)(1, 0.1)", "1.0,0.1"),
    ("[0.0] * 3", "0.0,0.0,0.0"),
];

const PYTHON_REFUSED: [Case; 26] = [
    ("None", "returned None"),
    ("[float('nan')]", "element 0 of the output vector is NaN"),
    ("[1, float('inf')]", "element 1 of the output vector is inf"),
    ("[0.0, 0.0, float('-inf')]", "element 2 of the output vector is -inf"),
    ("[1e308 * 10]", "element 0 of the output vector is inf"),
    ("array.array('f', [1, float('nan')])", "element 1 of the output vector is NaN"),
    ("array.array('d', [float('inf')])", "element 0 of the output vector is inf"),
    ("[[1, 2]]", "element 0 is a list"),
    ("[[1.0], [2.0]]", "element 0 is a list"),
    ("[1, (2, 3)]", "element 1 is a tuple"),
    ("[1, []]", "element 1 is a list"),
    ("[1, None]", "element 1 is a NoneType"),
    ("[1, 'a']", "element 1 is a str"),
    ("['1']", "element 0 is a str"),
    ("[1j]", "element 0 is a complex"),
    ("[2 ** 63]", "more than 64 bits"),
    ("[10 ** 400]", "more than 64 bits"),
    ("array.array('Q', [2 ** 63])", "more than 63 bits"),
    ("'12'", "returned a str"),
    ("b'12'", "returned a bytes"),
    ("{'a': 1}", "returned a dict"),
    ("{1, 2}", "returned a set"),
    ("(x for x in [1])", "returned a generator"),
    ("3", "returned a single number (3)"),
    ("0.5", "returned a single number (0.5)"),
    ("((ctypes.c_float * 2) * 2)()", "of shape (2, 2)"),
];

const LUA_VECTORS: [Case; 24] = [
    ("{1, 2, 3}", "1.0,2.0,3.0"),
    ("{1, -2}", "1.0,-2.0"),
    ("{0.1, 1 / 3, 2 / 3}", "0.1,0.3333333333333333,0.6666666666666666"),
    ("{1, -0.0}", "1.0,-0.0"),
    ("{1, 0.5}", "1.0,0.5"),
    ("{true, false}", "1.0,0.0"),
    ("{2 ^ 53 + 1}", "9007199254740992.0"),
    ("{5e-324, 2.2250738585072011e-308}", "5e-324,2.225073858507201e-308"),
    ("{1.7976931348623157e308, -1.7976931348623157e308}", "1.7976931348623157e+308,-1.7976931348623157e+308"),
    ("{1e21, 1e22, 1e-7}", "1e+21,1e+22,1e-7"),
    ("{1, 2, nil}", "1.0,2.0"),
    ("setmetatable({}, {__len = function() return 2 end, __index = function(_, i) return i / 2 end})", "0.5,1.0"),
    ("dunnage.array({0.1, 1e-45, 3.4028235e38}, 'f32')", "0.1,1e-45,3.4028235e+38"),
    ("dunnage.array({0.1}, 'f64')", "0.1"),
    ("dunnage.array({-128, 127}, 'i8')", "-128,127"),
    ("dunnage.array({255}, 'u8')", "255"),
    ("dunnage.array({65535}, 'u16')", "65535"),
    ("dunnage.array({4294967295}, 'u32')", "4294967295"),
    ("dunnage.array({-5}, 'i64')", "-5"),
    ("ffi.new('int64_t[2]', 9223372036854775807LL, -9223372036854775807LL - 1)", "9223372036854775807,-9223372036854775808"),
    ("ffi.new('uint64_t[1]', 9223372036854775807ULL)", "9223372036854775807"),
    ("ffi.new('float[2]', 1, 0.1)", "1.0,0.1"),
    ("ffi.new('double[2]', 1, 0.1)", "1.0,0.1"),
    ("dunnage.array(3)", "0.0,0.0,0.0"),
];

const LUA_REFUSED: [Case; 25] = [
    ("nil", "returned nothing"),
    ("{0 / 0}", "element 0 of the output vector is NaN"),
    ("{1, 1 / 0}", "element 1 of the output vector is inf"),
    ("{0, 0, -1 / 0}", "element 2 of the output vector is -inf"),
    ("{1e308 * 10}", "element 0 of the output vector is inf"),
    ("dunnage.array({1, 0 / 0}, 'f32')", "element 1 of the output vector is NaN"),
    ("ffi.new('double[1]', 1 / 0)", "element 0 of the output vector is inf"),
    ("{{1, 2}}", "element 1 is a table"),
    ("{{1}, {2}}", "element 1 is a table"),
    ("{1, {}}", "element 2 is a table"),
    ("{1, nil, 3}", "element 2 is nil"),
    ("{nil, 2}", "element 1 is nil"),
    ("{1, 'a'}", "element 2 is a string"),
    ("{'1'}", "element 1 is a string"),
    ("{1, dunnage.null}", "element 2 is a userdata"),
    ("{1, print}", "element 2 is a function"),
    ("{1, x = 2}", "the table has a field `x`"),
    ("{x = 2}", "the table has a field `x`"),
    ("{[0] = 1, 2}", "there is an element 0"),
    ("'12'", "returned a string"),
    ("true", "returned a boolean"),
    ("3", "returned a number"),
    ("42LL", "returned a `int64_t`"),
    ("ffi.new('double[2][2]')", "returned a `double [2][2]`"),
    ("ffi.new('uint64_t[1]', 9223372036854775808ULL)", "greater than any 64-bit signed integer"),
];

fn every_vector_comes_out_digit_for_digit(language: Language) {
    let (setup, cases) = match language {
        Language::Python => (evaluator(language), PYTHON_VECTORS.as_slice()),
        Language::Lua => (evaluator(language), LUA_VECTORS.as_slice()),
    };
    let service = setup.start();
    for (code, digits) in cases {
        let answer = service.post("/output", &setup.body(json!({"code": code})));
        assert_eq!((answer.status, answer.text()), (200, format!("{{\"outputVector\":[{digits}]}}").as_str()), "{code}");
    }
}

#[track_caller]
fn refuses(setup: &Setup, service: &Service, code: &str, told: &str) {
    let answer = service.post("/output", &setup.body(json!({"code": code})));
    assert_eq!(answer.status, 500, "{code}: {answer}");
    let detail = answer.expect_problem(500, "bad_output");
    assert!(detail.contains(told), "{code}: {detail}");
}

fn everything_else_is_refused_with_its_place(language: Language) {
    let setup = evaluator(language);
    let cases = match language {
        Language::Python => PYTHON_REFUSED.as_slice(),
        Language::Lua => LUA_REFUSED.as_slice(),
    };
    let service = setup.start();
    let workers = service.workers();
    cases.iter().for_each(|(code, told)| refuses(&setup, &service, code, told));
    assert_eq!(service.workers(), workers, "an answer that is refused costs no worker");
}

/// A model that has nothing to say has failed, and an empty table of Lua could as well be an object that was forgotten.
fn a_vector_without_elements_is_refused_whatever_it_is_made_of(language: Language) {
    let setup = evaluator(language);
    let empty = match language {
        Language::Python => ["[]", "()", "range(0)", "array.array('d')", "memoryview(b'')"],
        Language::Lua => ["{}", "{nil}", "dunnage.empty_array()", "dunnage.array(0, 'i32')", "ffi.new('float[?]', 0)"],
    };
    let service = setup.start();
    empty.iter().for_each(|code| refuses(&setup, &service, code, "the output vector is empty; return at least one number"));
}

/// 40 MiB, which come from the worker in a file of their own.
fn a_vector_too_long_for_the_socket_comes_out_digit_for_digit(language: Language) {
    let setup = evaluator(language);
    let code = match language {
        Language::Python => "array.array('d', [0.1, 0.25]) * (5 << 19)",
        Language::Lua => {
            "(function()\n\
             local numbers = ffi.new('double[?]', 5 * 2 ^ 20)\n\
             for i = 0, 5 * 2 ^ 20 - 1, 2 do numbers[i], numbers[i + 1] = 0.1, 0.25 end\n\
             return numbers\n\
             end)()"
        }
    };
    let service = setup.start();
    let workers = service.workers();
    let expected = format!("{{\"outputVector\":[{}]}}", vec!["0.1,0.25"; 5 << 19].join(","));
    for _ in 0..2 {
        let answer = service.post("/output", &setup.body(json!({"code": code})));
        assert!(
            (answer.status, answer.text()) == (200, expected.as_str()),
            "{} bytes with status {}",
            answer.text().len(),
            answer.status
        );
    }
    assert_eq!(service.workers(), workers);
}
