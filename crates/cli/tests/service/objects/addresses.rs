//! Addresses that are refused before anything is opened.

use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::Answer;
use serde_json::json;

use super::setup;

const REFUSED: [&str; 44] = [
    "",
    "walk.csv",
    "/etc/passwd",
    "http://127.0.0.1/walk.csv",
    "https://walks.s3.amazonaws.com/walk.csv",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "ftp://walks/walk.csv",
    "gopher://walks/walk.csv",
    "data:text/csv,1",
    "arn:aws:s3:::walks/walk.csv",
    "S3://walks/walk.csv",
    " s3://walks/walk.csv",
    "s3:/walks/walk.csv",
    "s3:walks/walk.csv",
    "s3:///walk.csv",
    "s3://",
    "s3://walks",
    "s3://walks/",
    "s3://walks/?versionId=7",
    "s3://127.0.0.1/walk.csv",
    "s3://169.254.169.254/latest/meta-data/",
    "s3://user@walks/walk.csv",
    "s3://user:secret@walks/walk.csv",
    "s3://walks:9000/walk.csv",
    "s3://[::1]/walk.csv",
    "s3://WALKS/walk.csv",
    "s3://walks_/walk.csv",
    "s3://-walks/walk.csv",
    "s3://walks-/walk.csv",
    "s3://.walks/walk.csv",
    "s3://wa..lks/walk.csv",
    "s3://wa%6cks/walk.csv",
    "s3://wälks/walk.csv",
    "s3://wa/walk.csv",
    "s3://wa lks/walk.csv",
    "s3://walks?/walk.csv",
    "s3://walks#/walk.csv",
    "s3://walks\\walk.csv",
    "s3://walks/walk\n.csv",
    "s3://walks/walk\0.csv",
    "s3://walks/walk\u{85}.csv",
    "s3://walks/walk.csv?versionId=",
    "s3://walks/walk.csv?versionId=7 8",
    "upload:00000000-0000-0000-0000-000000000000/walk.csv",
];

#[test]
fn what_is_no_object_is_refused_before_a_socket_opens() {
    let s3 = Scripted::start(|_| Answer::error(404, "NoSuchKey"));
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    let too_long = [format!("s3://walks/{}", "k".repeat(1025)), format!("s3://{}/walk.csv", "w".repeat(64))];
    for address in REFUSED.into_iter().chain(too_long.iter().map(String::as_str)) {
        for call in ["/output", "/train", "/input"] {
            let answer = service.post(call, &json!({"Files": [address], "Params": {}}));
            assert_eq!(answer.status, 422, "`{address}`: {answer}");
            answer.expect_problem(422, "file_address_invalid");
        }
    }
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]), "a refused request has made a job");
    assert!(s3.requests().is_empty(), "{:?}", s3.requests());
}

#[test]
fn objects_that_clients_may_not_name_are_not_asked_for() {
    let s3 = super::serving(|_| b"1,2,3\n".to_vec());
    let setup = setup(&s3.endpoint).flags(&["--allow-files", "s3://walks/incoming/", "--allow-files", "s3://open-data"]);
    let service = setup.start_with(&["--bucket", "s3://walks/incoming/own"]);
    let ask = |address: &str| service.post("/output", &json!({"Files": [address], "Params": {"case": "sizes"}}));
    for address in
        ["s3://walks/walk.csv", "s3://walks/incoming", "s3://walks/Incoming/1", "s3://open-data-2/1", "s3://walks//incoming/1"]
    {
        let detail = ask(address).expect_problem(422, "file_not_allowed");
        assert!(detail.contains(address) && detail.contains("`--allow-files`"), "{detail}");
        let status = service.ended(&service.submit("/input", &json!({"Files": [address], "Params": {}})));
        assert_eq!((status["error"]["code"].as_str(), status["attempt"].as_u64()), (Some("file_not_allowed"), Some(1)), "{status}");
    }
    let asked = |s3: &Scripted| s3.requests().iter().filter(|request| request.line().starts_with("GET /walks/walk")).count();
    assert_eq!(asked(&s3), 0);
    for address in ["s3://walks/incoming/1", "s3://open-data/1", "s3://walks/incoming/../walk.csv"] {
        assert_eq!(ask(address).expect(200)["outputVector"], json!([6.0]), "{address}: a key is a text and no path");
    }
}

#[test]
fn what_a_service_keeps_in_its_bucket_is_not_for_its_clients() {
    let s3 = super::serving(|_| b"1,2,3\n".to_vec());
    let setup = setup(&s3.endpoint).flags(&["--bucket", "s3://walks/own/"]);
    let service = setup.start();
    for key in ["own/artifacts/calls/1", "own/uploads/calls/1/walk.csv", "own/"] {
        super::sizes(&service, &[key]).expect_problem(422, "file_not_allowed");
    }
    let of_clients = |s3: &Scripted| s3.requests().iter().filter(|request| super::key(request).starts_with("own/")).count();
    assert_eq!(of_clients(&s3), 0, "{:?}", s3.requests());
    assert_eq!(super::sizes(&service, &["owner/walk.csv"]).expect(200)["outputVector"], json!([6.0]));
}
