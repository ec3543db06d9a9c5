//! Objects that are fetched before it is their job's turn.

use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request as Call;
use dunnage_testing::service::Service;
use serde_json::json;

use super::{PATIENCE, body, count, setup};

/// A job that keeps the only job worker until it is cancelled.
fn busy(service: &Service, body: &serde_json::Value) -> String {
    let job = service.submit("/input", body);
    service.wait_for(&job, "it runs", |status| status["progress"]["message"] == "waiting");
    job
}

fn end(service: &Service, job: &str) {
    service.send(&Call::new("DELETE", &format!("/jobs/{job}")));
    service.ended(job);
}

#[test]
fn the_objects_of_waiting_jobs_are_fetched_while_others_run() {
    let s3 = super::serving(|_| b"1,2,3\n".to_vec());
    let setup = setup(&s3.endpoint).flags(&["--revalidate", "never", "--prefetch", "2"]);
    let service = setup.start();
    let first = busy(&service, &setup.body(json!({"case": "wait"})));
    let waiting: Vec<_> = ["a", "b", "c"].map(|key| service.submit("/input", &body(&[key], json!({})))).into();
    for key in ["a", "b"] {
        eventually("it is fetched ahead", PATIENCE, || (count(&s3, key) == 1).then_some(()));
    }
    assert_eq!(service.status(&first)["state"], "running");
    assert_eq!(count(&s3, "c"), 0, "only so many jobs are looked ahead");
    end(&service, &first);
    for job in &waiting {
        assert_eq!(service.ended(job)["result"]["contents"], json!(["1,2,3\n"]));
    }
    assert_eq!(["a", "b", "c"].map(|key| count(&s3, key)), [1; 3], "what was fetched ahead is not fetched again");
}

#[test]
fn nothing_is_fetched_ahead_where_that_is_not_wanted() {
    let s3 = super::serving(|_| b"1,2,3\n".to_vec());
    let setup = setup(&s3.endpoint).flags(&["--prefetch", "0"]);
    let service = setup.start();
    let first = busy(&service, &setup.body(json!({"case": "wait"})));
    let second = service.submit("/input", &body(&["a"], json!({})));
    // Twice as long as it takes to look at the queue.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(s3.requests().len(), 0);
    end(&service, &first);
    assert_eq!(service.ended(&second)["state"], "done");
    assert_eq!(count(&s3, "a"), 1);
}
