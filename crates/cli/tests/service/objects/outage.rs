//! An outage of S3: it takes up no worker, no attempts and nobody's time, and ends by itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request as Call;
use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::Answer;
use dunnage_testing::service::{Service, job_id};
use serde_json::json;

use super::{PATIENCE, Switch, body, in_background, metric, setup, sizes};

/// What an answer that asks nobody takes, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A server that is out of order until it is told otherwise.
fn out_of_order() -> (Scripted, Switch) {
    let works = Switch::default();
    let now = works.clone();
    let s3 = Scripted::start(move |request| match now.load(Ordering::SeqCst) {
        0 => Answer::error(500, "InternalError"),
        _ => Answer::object(request, b"1,2,3\n", "\"one\""),
    });
    (s3, works)
}

/// Fails five times, at the same time.
fn fail(service: &Service) {
    let calls: Vec<_> = (0..5)
        .map(|index| in_background(service, "/output", &body(&[&format!("failed-{index}")], json!({"case": "sizes"}))))
        .collect();
    for call in calls {
        call.join().unwrap().expect_problem(503, "s3_unavailable");
    }
}

#[test]
fn an_outage_costs_nobody_time_and_no_job_an_attempt() {
    let (s3, works) = out_of_order();
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    fail(&service);
    eventually("the outage is noticed", PATIENCE, || (metric(&service, "dunnage_s3_outage") == 1.0).then_some(()));

    let fastest = (0..10).map(|_| {
        let begin = Instant::now();
        let answer = sizes(&service, &["walk"]);
        answer.expect_problem(503, "s3_unavailable");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{answer}");
        begin.elapsed()
    });
    let fastest = fastest.min().unwrap();
    assert!(fastest < AT_ONCE, "it took {fastest:?} to say that nobody is asked");
    assert_eq!(service.output(&setup.body(json!({"case": "sizes"}))), [6.0], "what needs no object goes on");
    service.get("/healthz/ready").expect(200);

    // One worker, which is not waited for.
    let waiting: Vec<_> = (0..3).map(|index| service.submit("/input", &body(&[&format!("job-{index}")], json!({})))).collect();
    let local = service.submit("/input", &setup.body(json!({})));
    let upload = service.send(&Call::new("POST", "/input").form(&[("walk.csv", "1,2")], &[]));
    for job in [local, job_id(&upload)] {
        assert_eq!(service.ended(&job)["state"], "done");
    }
    for job in &waiting {
        let status = service.status(job);
        assert_eq!(status["state"], "queued", "{status}");
    }
    let told = service.job_log(&waiting[0]);
    assert!(told.iter().any(|line| line["message"].as_str().unwrap_or_default().contains("the job waits: ")), "{told:?}");

    works.store(1, Ordering::SeqCst);
    for job in &waiting {
        let status = service.ended(job);
        assert_eq!(status["state"], "done", "{status}");
        assert!(status["attempt"].as_u64().unwrap() <= 2, "{status}");
    }
    eventually("objects are had again", PATIENCE, || (sizes(&service, &["walk"]).status == 200).then_some(()));
    assert_eq!(metric(&service, "dunnage_s3_outage"), 0.0);
}

#[test]
fn a_job_with_a_single_attempt_outlives_an_outage() {
    let (s3, works) = out_of_order();
    let setup = setup(&s3.endpoint).flags(&["--max-attempts", "1", "--prefetch", "0"]);
    let service = setup.start();
    fail(&service);
    let job = service.submit("/input", &body(&["walk"], json!({})));
    let asked = s3.requests().len();
    // It has been the one that found out that the outage lasts.
    eventually("S3 is tried again", PATIENCE, || {
        (sizes(&service, &["other"]).status == 503 && s3.requests().len() > asked + 3).then_some(())
    });
    let status = service.status(&job);
    assert_ne!(status["state"], "error", "{status}");
    works.store(1, Ordering::SeqCst);
    assert_eq!(service.ended(&job)["state"], "done");
}
