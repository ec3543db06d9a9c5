//! What many who want the same objects cost S3.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use dunnage_testing::language::Language;
use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::{Answer, End, Request};
use dunnage_testing::setup::Setup;
use serde_json::json;

use super::{body, count, key, metric, reaching, setup, sizes};

const CLIENTS: usize = 500;
const LARGE: usize = 8 << 20;

/// Reads some bytes here and there, and how many there are.
const SAMPLE: &str = r#"
local function output(files)
  local file = assert(io.open(files[1].path, "rb"))
  local seen = { file:seek("end") }
  for index = 1, 8 do
    file:seek("set", index * 1000003 % seen[1])
    seen[index + 1] = file:read(1):byte()
  end
  file:close()
  return seen
end
return { output = output }
"#;

fn large() -> Vec<u8> {
    (0..LARGE).map(|index| (index % 253) as u8).collect()
}

fn expected_sample() -> Vec<f64> {
    let places = (1..=8).map(|index| (index * 1_000_003 % LARGE % 253) as f64);
    std::iter::once(LARGE as f64).chain(places).collect()
}

/// A gate that a server waits at before it answers.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        drop(self.changed.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }
}

fn unconditional(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.header("if-none-match").is_none()).count()
}

#[test]
fn five_hundred_who_want_a_cold_object_cause_one_download() {
    let (gate, bytes) = (Arc::<Gate>::default(), large());
    let waits = Arc::clone(&gate);
    let s3 = Scripted::start(move |request| {
        waits.pass();
        Answer::object(request, &bytes, "\"one\"")
    });
    // All of them are to be answered, however long the last has to wait.
    let setup = reaching(Setup::inline(Language::Lua, "sample", SAMPLE), &s3.endpoint).flags(&["--max-queue-wait", "0s"]);
    let service = setup.start();
    let body = body(&["large.bin"], json!({}));
    let clients: Vec<_> = (0..CLIENTS).map(|_| super::in_background(&service, "/output", &body)).collect();
    dunnage_testing::census::eventually("S3 is asked", super::PATIENCE, || (!s3.requests().is_empty()).then_some(()));
    gate.open();
    for client in clients {
        assert_eq!(dunnage_testing::service::vector(&client.join().unwrap()), expected_sample());
    }
    assert_eq!(unconditional(&s3.requests()), 1, "{:?}", s3.requests());
    assert_eq!(metric(&service, "dunnage_files_fetched_bytes_total"), LARGE as f64);
}

/// Answers with a version of each object, which a test may replace; and counts the bytes of bodies.
fn replaceable() -> (Scripted, super::Switch) {
    let version = super::Switch::default();
    let current = version.clone();
    let s3 = Scripted::start(move |request| {
        let version = current.load(Ordering::SeqCst);
        Answer::object(request, &vec![b'1'; 1000 + version], &format!("\"{version}\""))
    });
    (s3, version)
}

#[test]
fn a_warm_hit_asks_nothing_unless_it_is_told_to() {
    let (s3, version) = replaceable();
    let setup = setup(&s3.endpoint);
    for (revalidate, asked) in [("never", 1), ("60s", 1), ("never", 1)] {
        let service = setup.start_with(&["--revalidate", revalidate]);
        for _ in 0..10 {
            assert_eq!(sizes(&service, &["walk"]).expect(200)["outputVector"], json!([1000.0]));
        }
        assert_eq!(s3.requests().len(), asked, "`{revalidate}`, and what an earlier life fetched is still good");
        assert_eq!(metric(&service, "dunnage_file_cache_revalidations_total"), 0.0);
        // Nobody is told of it.
        version.store(1, Ordering::SeqCst);
        assert_eq!(sizes(&service, &["walk"]).expect(200)["outputVector"], json!([1000.0]));
        version.store(0, Ordering::SeqCst);
    }
}

#[test]
fn a_warm_hit_under_always_costs_one_question_and_no_body() {
    let (s3, version) = replaceable();
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    for index in 0..10 {
        assert_eq!(sizes(&service, &["walk"]).expect(200)["outputVector"], json!([1000.0]));
        assert_eq!(s3.requests().len(), index + 1);
    }
    assert_eq!(unconditional(&s3.requests()), 1);
    assert_eq!(metric(&service, "dunnage_files_fetched_bytes_total"), 1000.0);
    assert_eq!(metric(&service, "dunnage_file_cache_hits_total"), 9.0);

    let clients: Vec<_> =
        (0..40).map(|_| super::in_background(&service, "/output", &body(&["walk"], json!({"case": "sizes"})))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap().expect(200)["outputVector"], json!([1000.0]));
    }
    assert!(s3.requests().len() <= 50, "one question each at most");
    assert_eq!(unconditional(&s3.requests()), 1);

    for replaced in 1..5 {
        version.store(replaced, Ordering::SeqCst);
        assert_eq!(sizes(&service, &["walk"]).expect(200)["outputVector"], json!([1000.0 + replaced as f64]), "at once");
    }
}

#[test]
fn a_named_version_is_never_asked_for_again() {
    let (s3, version) = replaceable();
    let setup = setup(&s3.endpoint);
    for _ in 0..2 {
        let service = setup.start();
        for _ in 0..5 {
            assert_eq!(sizes(&service, &["walk?versionId=3%2F4"]).expect(200)["outputVector"], json!([1000.0]));
        }
        version.store(1, Ordering::SeqCst);
    }
    let requests = s3.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].line().contains("versionId=3%252F4"), "nothing in it is decoded: {}", requests[0].line());
}

#[test]
fn a_file_that_is_named_twice_is_fetched_once_and_the_order_stays() {
    let s3 = super::serving(|key| vec![b'1'; key.len()]);
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    for times in 1..3 {
        let answer = sizes(&service, &["aaa", "b", "aaa", "cc", "b", "aaa"]).expect(200);
        assert_eq!(answer["outputVector"], json!([3.0, 1.0, 3.0, 2.0, 1.0, 3.0]));
        assert_eq!(["aaa", "b", "cc"].map(|key| count(&s3, key)), [times; 3], "the second time, each is asked about once");
    }
}

#[test]
fn the_files_of_a_request_arrive_at_the_same_time() {
    const DRIP: Duration = Duration::from_secs(1);
    let arrivals = Arc::<Mutex<Vec<Instant>>>::default();
    let seen = Arc::clone(&arrivals);
    let s3 = Scripted::start(move |request| {
        seen.lock().unwrap().push(Instant::now());
        let length: usize = key(request).parse().unwrap();
        // The last twenty bytes take a second.
        Answer::object(request, &vec![b'1'; length], "\"one\"").ending(End::Drip(length - 20))
    });
    let setup = setup(&s3.endpoint).flags(&["--max-files", "50"]);
    let service = setup.start();
    let keys: Vec<String> = (0..50).map(|index| (100 + index).to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<f64> = (0..50).map(|index| f64::from(100 + index)).collect();
    assert_eq!(sizes(&service, &keys).expect(200)["outputVector"], json!(expected));
    let arrivals = arrivals.lock().unwrap();
    assert_eq!(arrivals.len(), 50);
    let during = |begin: &Instant| arrivals.iter().filter(|other| **other >= *begin && **other < *begin + DRIP).count();
    let most = arrivals.iter().map(during).max().unwrap();
    assert!(most >= 25, "no more than {most} were on their way at once");
}
