//! Results that are to be written to S3, as far as no S3 is needed for it: where they may go, and what is told of that.

use std::time::Duration;

use dunnage_testing::http::Request;
use dunnage_testing::language::Language;
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

const ALLOWED: &str = "DUNNAGE_ALLOW_OUTPUT";
/// How long what a killed service leaves may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

fn setup() -> Setup {
    Setup::new(Language::Lua, "calls")
}

fn body(setup: &Setup, case: &str, uri: &str) -> Value {
    let mut body = setup.body(json!({ "case": case }));
    body["OutputUri"] = json!(uri);
    body
}

fn cancel(service: &Service, job: &str) {
    service.send(&Request::new("DELETE", &format!("/jobs/{job}")));
    service.ended(job);
}

#[test]
fn without_a_place_that_is_allowed_no_result_is_written() {
    let setup = setup();
    let service = setup.start();
    let given = body(&setup, "given", "s3://results/1.json");
    for call in ["/train", "/input"] {
        let detail = service.post(call, &given).expect_problem(422, "output_uri_refused");
        assert!(detail.contains("`--allow-output`"), "{detail}");
    }
    let form = Request::new("POST", "/input").form(&[("walk.csv", "1,2")], &[("OutputUri", "s3://results/1.json")]);
    service.send(&form).expect_problem(422, "output_uri_refused");
    let twice = Request::new("POST", "/input")
        .form(&[("walk.csv", "1,2")], &[("OutputUri", "s3://results/1.json"), ("OutputUri", "s3://results/2.json")]);
    service.send(&twice).expect_problem(400, "body_malformed");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]), "a refused request has made a job");
}

#[test]
fn only_objects_in_the_places_allowed_are_taken() {
    let setup = setup().environment(ALLOWED, "s3://results/gait/,s3://scratch");
    let service = setup.start();
    for uri in
        ["s3://results/1.json", "s3://others/gait/1.json", "file:///1.json", "s3://scratch/1.json?versionId=7", "s3://scratch", ""]
    {
        let detail = service.post("/input", &body(&setup, "given", uri)).expect_problem(422, "output_uri_refused");
        assert!(detail.starts_with("`OutputUri` "), "{detail}");
    }
    service.post("/output", &body(&setup, "sizes", "s3://scratch/1.json")).expect_problem(422, "request_invalid");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]), "a refused request has made a job");
}

#[test]
fn the_status_of_a_job_tells_its_object() {
    let setup = setup().environment(ALLOWED, "s3://results/gait/");
    let service = setup.start();
    let folder = service.submit("/input", &body(&setup, "wait", "s3://results/gait/"));
    let object = service.submit("/input", &body(&setup, "wait", "s3://results/gait/ada.json"));
    let neither = service.submit("/input", &setup.body(json!({"case": "wait"})));
    assert_eq!(service.status(&folder)["outputUri"], json!(format!("s3://results/gait/{folder}.json")));
    assert_eq!(service.get(&format!("/jobs/{object}")).expect(200)["outputUri"], "s3://results/gait/ada.json");
    assert_eq!(service.status(&neither).get("outputUri"), None);
    [&object, &neither, &folder].into_iter().for_each(|job| cancel(&service, job));
}

#[test]
fn an_idempotency_key_stands_for_one_output_uri() {
    let setup = setup().environment(ALLOWED, "s3://results/");
    let service = setup.start();
    let submit =
        |uri| service.send(&Request::new("POST", "/input").header("idempotency-key", "one").json(&body(&setup, "wait", uri)));
    let first = submit("s3://results/").expect(202);
    assert_eq!(submit("s3://results/").expect(202), first);
    submit("s3://results/a/").expect_problem(422, "idempotency_mismatch");
    cancel(&service, first["jobId"].as_str().unwrap());
}

#[test]
fn a_result_is_not_written_where_that_is_no_longer_allowed() {
    let setup = setup().environment(ALLOWED, "s3://results");
    let service = setup.start();
    // The only job worker is busy with the first.
    let first = service.submit("/input", &setup.body(json!({"case": "wait"})));
    let second = service.submit("/input", &body(&setup, "given", "s3://results/"));
    service.kill(PATIENCE);

    let setup = setup.environment(ALLOWED, "s3://others");
    let service = setup.start();
    cancel(&service, &first);
    let ended = service.ended(&second);
    let message = format!(
        "the result could not be written: `s3://results/{second}.json`: this server may not write there (`--allow-output`)"
    );
    assert_eq!(ended["error"], json!({"code": "output_not_written", "message": message}));
    assert_eq!((ended["state"].as_str(), ended.get("result")), (Some("error"), None));
}
