//! Keys that are no good as paths, through a real S3 and back.

use std::fs;
use std::path::Path;

use dunnage_testing::language::Language;
use dunnage_testing::s3::Server;
use dunnage_testing::setup::Setup;
use serde_json::json;

/// Tells where its file lies, and what is in it.
const READ: &str = r#"
def input(files, ctx):
    return [[str(file.path), file.read().decode(), file.uri] for file in files]
"#;

const KEYS: [&str; 21] = [
    "../../../../etc/passwd",
    "a/../b",
    "..",
    ".",
    "./a",
    "/etc/passwd",
    "//two",
    "trailing/",
    "a//b",
    "spaces and + plus",
    "percent%2e%2e%252e",
    "question?mark#hash&versionId=1",
    "übergröße/日本語.csv",
    "u\u{308}bergro\u{308}ße",
    "back\\slash",
    "<&\"'>",
    "~",
    "-rf *;`$(touch x)`",
    "about-0.json",
    "part-1",
    "ends.in blanks",
];

fn paths_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { paths_below(&entry.path()) } else { 1 }).sum()
}

#[test]
fn every_key_is_an_object_of_its_own_and_lies_below_the_cache() {
    let s3 = Server::shared();
    let bucket = s3.bucket();
    let long = ["k".repeat(1024), format!("{}/{}.csv", "ü".repeat(255), "l".repeat(509))];
    let keys: Vec<&str> = KEYS.into_iter().chain(long.iter().map(String::as_str)).collect();
    for key in &keys {
        s3.put(&bucket, key, format!("this is {key}"));
    }
    let setup = s3
        .environment()
        .iter()
        .fold(super::reaching(Setup::inline(Language::Python, "read", READ), &s3.endpoint()), |setup, (name, value)| {
            setup.environment(name, value)
        });
    let service = setup.start();
    let files: Vec<_> = keys.iter().map(|key| format!("s3://{bucket}/{key}")).collect();
    let status = service.done("/input", &json!({"Files": files, "Params": {}}));
    let seen = status["result"].as_array().unwrap();
    let cache = setup.data("cache").canonicalize().unwrap();
    for ((key, uri), seen) in keys.iter().zip(&files).zip(seen) {
        assert_eq!((seen[1].as_str(), seen[2].as_str()), (Some(format!("this is {key}").as_str()), Some(uri.as_str())));
        let path = Path::new(seen[0].as_str().unwrap());
        assert_eq!(path.canonicalize().unwrap().parent(), Some(cache.join("1").as_path()), "{key}");
        assert_eq!(path.extension().is_some(), key.ends_with(".csv") || key.ends_with(".json"), "{key}: {}", path.display());
    }
    assert_eq!(paths_below(&cache), 2 * keys.len() + 1, "a file and what is known of it for each, and a lock");
}

#[test]
fn a_real_server_tells_what_is_missing() {
    let s3 = Server::shared();
    let bucket = s3.bucket();
    let setup = super::setup(&s3.endpoint());
    let setup = s3.environment().iter().fold(setup, |setup, (name, value)| setup.environment(name, value));
    let service = setup.start();
    let ask = |address: &str| service.post("/output", &json!({"Files": [address], "Params": {}}));
    ask(&format!("s3://{bucket}/missing")).expect_problem(422, "file_not_found");
    ask("s3://nowhere-at-all/missing").expect_problem(422, "bucket_not_found");
    drop(service);
    let stranger = setup.environment("AWS_SECRET_ACCESS_KEY", "wrong");
    let service = stranger.start();
    let answer = service.post("/output", &json!({"Files": [format!("s3://{bucket}/missing")], "Params": {}}));
    answer.expect_problem(503, "s3_credentials_refused");
}
