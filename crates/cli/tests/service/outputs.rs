//! Scripts that answer nonsense, raise, or lack a function.

use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::setup::Setup;
use serde_json::json;

in_both_languages!(
    an_output_that_is_no_vector_of_numbers_is_refused,
    numbers_come_out_as_they_went_in,
    an_error_in_the_script_shows_no_traceback_and_no_path,
    a_missing_function_is_told_at_once,
    an_error_in_a_job_ends_it_and_is_explained,
);

fn an_output_that_is_no_vector_of_numbers_is_refused(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    for case in ["nan", "infinite", "nested", "empty", "nothing", "text", "texts"] {
        let refused = service.post("/output", &setup.body(json!({"case": case})));
        assert!(!refused.expect_problem(500, "bad_output").is_empty(), "{case}");
    }
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
}

/// Where formats of numbers have their edges.
const EDGES: [f64; 16] = [
    0.0,
    -0.0,
    0.1,
    -1.5,
    1e21,
    1e-7,
    5e-324,
    2.225_073_858_507_201e-308,
    f64::MIN_POSITIVE,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    9_007_199_254_740_993.0,
    1.797_693_134_862_315_5e308,
    0.300_000_000_000_000_04,
    123_456_789.123_456_79,
];

fn numbers_come_out_as_they_went_in(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let answered = service.output(&setup.body(json!({"case": "values", "values": EDGES})));
    assert_eq!(bits(&answered), bits(&EDGES));
    let singles = [0.1_f32, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON, 16_777_217.0, -2.5e-8];
    let response = service.post("/output", &setup.body(json!({"case": "floats", "values": singles})));
    let shortest: Vec<String> = singles.iter().map(|value| serde_json::to_string(value).unwrap()).collect();
    assert_eq!(response.text(), format!("{{\"outputVector\":[{}]}}", shortest.join(",")));
}

fn an_error_in_the_script_shows_no_traceback_and_no_path(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let workers = service.workers();
    let refused = service.post("/output", &setup.body(json!({"case": "raise"})));
    let detail = refused.expect_problem(500, "script_error");
    assert!(detail.contains("no such luck"), "{detail}");
    for secret in ["raceback", "File \"", setup.folder().to_str().unwrap()] {
        assert!(!refused.text().contains(secret), "`{secret}` in {refused}");
    }
    let file = format!("calls.{}", language.extension());
    let explained = || service.log().into_iter().find(|line| line.contains("traceback") && line.contains(&file));
    eventually("the traceback is in the log", Duration::from_secs(5), explained);
    assert_eq!(service.output(&setup.body(json!({}))), [6.0]);
    assert_eq!(service.workers(), workers, "an error costs no worker");
}

fn a_missing_function_is_told_at_once(language: Language) {
    let only = |function: &str| match language {
        Language::Python => format!("def {function}(files, ctx):\n    return [1]\n"),
        Language::Lua => format!("return {{ {function} = function() return {{ 1 }} end }}\n"),
    };
    for present in ["train", "input", "output"] {
        let setup = Setup::inline(language, "partial", &only(present));
        let service = setup.start();
        for missing in ["train", "input", "output"].into_iter().filter(|name| *name != present) {
            let refused = service.post(&format!("/{missing}"), &setup.body(json!({})));
            let detail = refused.expect_problem(501, "function_missing");
            assert!(detail.contains(&format!("`{missing}`")), "{detail}");
        }
        assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
    }
}

fn an_error_in_a_job_ends_it_and_is_explained(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    for (call, case, code) in
        [("/train", "raise", "script_error"), ("/input", "raise", "script_error"), ("/input", "unfit", "bad_result")]
    {
        let job = service.submit(call, &setup.body(json!({"case": case})));
        let status = service.ended(&job);
        assert_eq!(
            (&status["status"], &status["state"], &status["attempt"]),
            (&json!("error"), &json!("error"), &json!(1)),
            "{status}"
        );
        assert_eq!(status["error"]["code"], code, "{status}");
        let shown = status.to_string();
        assert!(!shown.contains(setup.folder().to_str().unwrap()) && !shown.contains("raceback"), "{shown}");
        let log = service.job_log(&job);
        if case == "raise" {
            assert!(status["error"]["message"].as_str().unwrap().contains("no such luck"), "{status}");
            let mentions_script =
                |line: &serde_json::Value| line["message"].as_str().unwrap().contains(&format!("calls.{}", language.extension()));
            assert!(log.iter().any(mentions_script), "{log:?}");
        }
        assert!(log.iter().any(|line| line["source"] == "server" && line["level"] == "error"), "{log:?}");
    }
    assert_eq!(service.done("/input", &setup.body(json!({})))["attempt"], 1);
}
