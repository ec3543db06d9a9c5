//! Objects in S3, from outside: what clients are told when storage fails, and what the cache does for them.
//!
//! S3 is a [`Scripted`] server, which counts what it is asked and fails as it is told, or moto.

mod addresses;
mod ahead;
mod disk;
mod faults;
mod holds;
mod keys;
mod lives;
mod load;
mod outage;
mod sharing;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use dunnage_testing::http::{Request as Call, Response};
use dunnage_testing::language::Language;
use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::{Answer, Request};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

/// How long anything may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that finds S3 at `endpoint`, with a script that tells what it is given.
fn setup(endpoint: &str) -> Setup {
    reaching(Setup::new(Language::Lua, "calls"), endpoint)
}

/// With all that it takes to find S3 at `endpoint`, and nothing to find credentials by that belong to whoever runs the tests.
fn reaching(setup: Setup, endpoint: &str) -> Setup {
    let entries = [
        ("DUNNAGE_S3_ENDPOINT", endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    entries.into_iter().fold(setup, |setup, (name, value)| setup.environment(name, value))
}

/// A server that has every object, with contents that `contents` makes of its key.
fn serving(contents: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request| Answer::object(request, &contents(key(request)), "\"one\""))
}

/// The key that a request is for, as it was encoded.
fn key(request: &Request) -> &str {
    let path = request.line().split_once(" /").map_or("", |(_, path)| path);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    path.split_once('/').map_or("", |(_, key)| key)
}

/// How many requests there were for a key.
fn count(s3: &Scripted, wanted: &str) -> usize {
    s3.requests().iter().filter(|request| key(request) == wanted).count()
}

fn address(key: &str) -> String {
    format!("s3://walks/{key}")
}

fn body(keys: &[&str], params: Value) -> Value {
    let files: Vec<_> = keys.iter().map(|key| address(key)).collect();
    json!({"Files": files, "Params": params})
}

/// Asks for the sizes of some objects.
#[track_caller]
fn sizes(service: &Service, keys: &[&str]) -> Response {
    service.post("/output", &body(keys, json!({"case": "sizes"})))
}

/// The bytes of one object, as the script reads them.
#[track_caller]
fn contents(service: &Service, key: &str) -> Vec<u8> {
    let read = service.output(&body(&[key], json!({"case": "contents"})));
    read.into_iter().map(|number| number as u8).collect()
}

/// Sends a request from a thread of its own.
fn in_background(service: &Service, target: &str, body: &Value) -> std::thread::JoinHandle<Response> {
    let (call, address) = (Call::new("POST", target).json(body), service.address());
    std::thread::spawn(move || call.send(address).expect("every request is answered"))
}

/// What `/metrics` says.
#[track_caller]
fn metric(service: &Service, name: &str) -> f64 {
    let answer = service.get("/metrics");
    let text = answer.text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("there is no `{name}` in {text}"))
}

/// The files in the folder that the cache of a service keeps them in, if nothing else uses it.
fn cached(setup: &Setup) -> Vec<PathBuf> {
    let folder = setup.data("cache").join("1");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The one file of an object in a cache that holds one.
fn only_copy(setup: &Setup) -> PathBuf {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files: Vec<_> = cached(setup).into_iter().filter(|path| !name(path).starts_with("about-")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// Something that a test decides while a server asks it.
type Switch = Arc<AtomicUsize>;
