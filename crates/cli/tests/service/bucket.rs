//! A fleet with a bucket: replicas that share a database and S3, and no folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::postgres::Cluster;
use dunnage_testing::proxy::{Mode, Modes, Proxy};
use dunnage_testing::s3::Server;
use dunnage_testing::service::{Service, job_id};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

in_both_languages!(
    what_one_replica_has_trained_serves_on_all,
    a_file_that_came_with_a_job_is_read_by_whichever_replica_runs_it,
    a_result_is_where_it_was_wanted_when_the_job_is_done,
);

/// How long another replica may lag behind, on a machine that is busy with other tests.
const LAG: Duration = Duration::from_secs(30);

/// A setup with a database and a bucket of its own, and the bucket's name.
fn fleet(setup: Setup, endpoint: &str) -> (Setup, String) {
    let bucket = Server::shared().bucket();
    let place = format!("s3://{bucket}/service");
    let setup = setup.flags(&["--bucket", &place, "--allow-output", &format!("s3://{bucket}/out/"), "--s3-endpoint", endpoint]);
    let setup = setup.environment("DUNNAGE_DATABASE_URL", &Cluster::shared().database());
    (with_credentials(setup), bucket)
}

fn with_credentials(setup: Setup) -> Setup {
    let known = Server::shared().environment();
    known.iter().filter(|(name, _)| *name != "AWS_ENDPOINT_URL").fold(setup, |setup, (name, value)| setup.environment(name, value))
}

#[track_caller]
fn served(setup: &Setup, replica: &Service) -> f64 {
    replica.output(&setup.body(json!({})))[0]
}

#[track_caller]
fn wait_until_served(setup: &Setup, replica: &Service, expected: f64) {
    eventually(&format!("{expected} is served"), LAG, || (served(setup, replica) == expected).then_some(()));
}

fn train(setup: &Setup, replica: &Service, value: u32) -> Value {
    replica.done("/train", &setup.body(json!({"value": value})))
}

/// The folders of the artifacts below a replica's data folder.
fn artifacts(setup: &Setup, data_dir: &str) -> Vec<PathBuf> {
    let folder = setup.folder().join(data_dir).join("artifacts").join("versions");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir() && path.join("value").exists()).collect()
}

fn what_one_replica_has_trained_serves_on_all(language: Language) {
    let (setup, bucket) = fleet(Setup::new(language, "versions"), &Server::shared().endpoint());
    let (first, second) = (setup.start_apart("first"), setup.start_apart("second"));
    train(&setup, &first, 1);
    wait_until_served(&setup, &second, 1.0);
    train(&setup, &second, 2);
    wait_until_served(&setup, &first, 2.0);
    let third = setup.start_apart("third");
    assert_eq!(served(&setup, &third), 2.0);
    let activated = third.post("/models/1/activate", &json!({}));
    assert_eq!(activated.status, 200, "{activated}");
    for replica in [&first, &second, &third] {
        wait_until_served(&setup, replica, 1.0);
    }
    let keys = Server::shared().keys(&bucket, "service/artifacts/versions/");
    assert_eq!(keys.iter().filter(|key| key.ends_with("/manifest.json")).count(), 2, "{keys:?}");
}

#[test]
fn a_damaged_artifact_is_fetched_again() {
    let (setup, _) = fleet(Setup::new(Language::Python, "versions"), &Server::shared().endpoint());
    let first = setup.start_apart("first");
    train(&setup, &first, 7);
    first.terminate();
    for artifact in artifacts(&setup, "first") {
        fs::write(artifact.join("value"), "8").unwrap();
    }
    let again = setup.start_apart("first");
    assert_eq!(served(&setup, &again), 7.0);
    let values: Vec<_> = artifacts(&setup, "first").iter().map(|it| fs::read_to_string(it.join("value")).unwrap()).collect();
    assert_eq!(values, ["7"]);
}

#[test]
fn an_artifact_that_was_altered_in_the_bucket_never_serves() {
    let (setup, bucket) = fleet(Setup::new(Language::Python, "versions"), &Server::shared().endpoint());
    let first = setup.start_apart("first");
    train(&setup, &first, 1);
    let second = setup.start_apart("second");
    assert_eq!(served(&setup, &second), 1.0);
    second.terminate();
    train(&setup, &first, 2);
    for key in Server::shared().keys(&bucket, "service/artifacts/") {
        if Server::shared().get(&bucket, &key).as_deref() == Some(b"2") {
            Server::shared().put(&bucket, &key, "3");
        }
    }
    let reason = |models: &Value| {
        let replicas = models["replicas"].as_array().unwrap();
        replicas.iter().find(|it| it["isThis"] == true)?["error"].as_str().map(str::to_owned)
    };
    let second = setup.launch_apart("second");
    let told = eventually("the replica says why it lags", LAG, || reason(&second.get("/models").expect(200)));
    assert!(told.contains("version 2"), "{told}");
    assert_eq!(served(&setup, &first), 2.0, "the replica that has the right one goes on");
}

fn a_file_that_came_with_a_job_is_read_by_whichever_replica_runs_it(language: Language) {
    let (setup, bucket) = fleet(Setup::new(language, "files"), &Server::shared().endpoint());
    let (first, second) = (setup.start_apart("first"), setup.start_apart("second"));
    let jobs: Vec<_> = (0..6)
        .map(|number| {
            let contents = format!("{number},{number}\n");
            let replica = if number % 2 == 0 { &first } else { &second };
            (job_id(&replica.send(&Request::new("POST", "/input").form(&[("walk.csv", &contents)], &[]))), contents)
        })
        .collect();
    for (job, contents) in &jobs {
        let ended = second.ended(job);
        assert_eq!(ended["status"], "done", "{ended}");
        assert_eq!(ended["result"]["contents"], json!([contents]), "{ended}");
        assert!(ended["result"]["paths"][0].as_str().unwrap().ends_with(".csv"), "{ended}");
    }
    eventually("nothing is left in the bucket", LAG, || {
        Server::shared().keys(&bucket, "service/uploads/").is_empty().then_some(())
    });
    for data_dir in ["first", "second"] {
        let left = fs::read_dir(setup.folder().join(data_dir).join("uploads/files")).unwrap().count();
        assert_eq!(left, 0, "nothing is left on the disk of the {data_dir}");
    }
}

#[test]
fn files_that_come_twice_with_one_key_are_kept_once() {
    let (setup, bucket) = fleet(Setup::new(Language::Python, "files").flags(&["--job-workers", "1"]), &Server::shared().endpoint());
    let service = setup.start_apart("first");
    let busy = service.submit("/input", &setup.body(json!({"sleep": 2})));
    let submit = || {
        let request = Request::new("POST", "/input").header("Idempotency-Key", "walk").form(&[("walk.csv", "1\n")], &[]);
        job_id(&service.send(&request))
    };
    let job = submit();
    assert_eq!(submit(), job);
    assert_eq!(Server::shared().keys(&bucket, "service/uploads/").len(), 1);
    assert_eq!(service.ended(&busy)["status"], "done");
    assert_eq!(service.ended(&job)["status"], "done");
}

fn a_result_is_where_it_was_wanted_when_the_job_is_done(language: Language) {
    let (setup, bucket) = fleet(Setup::new(language, "versions"), &Server::shared().endpoint());
    let service = setup.start_apart("first");
    let mut body = setup.body(json!({"value": 4}));
    body["OutputUri"] = json!(format!("s3://{bucket}/out/"));
    let ended = service.done("/train", &body);
    let key = format!("out/{}.json", ended["jobId"].as_str().unwrap());
    assert_eq!(ended["outputUri"], json!(format!("s3://{bucket}/{key}")));
    let document: Value = serde_json::from_slice(&Server::shared().get(&bucket, &key).unwrap()).unwrap();
    assert_eq!((&document["status"], &document["version"], &document["result"]), (&json!("done"), &json!(1), &ended["result"]));

    body["OutputUri"] = json!(format!("s3://{bucket}/elsewhere.json"));
    service.post("/train", &body).expect_problem(422, "output_uri_refused");
}

#[test]
fn a_result_that_may_not_be_written_fails_its_job() {
    let setup = Setup::new(Language::Python, "versions").flags(&["--allow-output", "s3://no-such-bucket-here/"]);
    let setup = with_credentials(setup.flags(&["--s3-endpoint", &Server::shared().endpoint()]));
    let service = setup.start();
    let mut body = setup.body(json!({"value": 4}));
    body["OutputUri"] = json!("s3://no-such-bucket-here/a.json");
    let ended = service.ended(&service.submit("/train", &body));
    assert_eq!(
        (&ended["state"], &ended["error"]["code"], &ended["attempt"]),
        (&json!("error"), &json!("output_not_written"), &json!(1))
    );
    assert_eq!(service.get("/models").expect(200)["active"], Value::Null, "no version was made active");
}

#[test]
fn training_waits_for_storage_that_is_away() {
    let proxy = Proxy::start(Server::shared().address);
    let (setup, _) = fleet(Setup::new(Language::Python, "versions"), &format!("http://{}", proxy.address()));
    let service = setup.start_apart("first");
    proxy.set(Modes::both(Mode::Reset));
    let job = service.submit("/train", &setup.body(json!({"value": 5})));
    eventually("the server says that it waits", LAG, || {
        service.log().iter().any(|line| line.contains("trying again") || line.contains("tried again")).then_some(())
    });
    assert_eq!(service.status(&job)["status"], "running");
    proxy.set(Modes::PASS);
    let ended = service.ended(&job);
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("done"), &json!(1)), "{ended}");
    assert_eq!(served(&setup, &service), 5.0);
}

#[test]
fn training_that_waits_for_storage_can_be_cancelled() {
    let proxy = Proxy::start(Server::shared().address);
    let (setup, _) = fleet(Setup::new(Language::Python, "versions"), &format!("http://{}", proxy.address()));
    let service = setup.start_apart("first");
    proxy.set(Modes::both(Mode::Reset));
    let job = service.submit("/train", &setup.body(json!({"value": 5})));
    eventually("the server says that it waits", LAG, || {
        service.log().iter().any(|line| line.contains("trying again") || line.contains("tried again")).then_some(())
    });
    assert_eq!(service.send(&Request::new("DELETE", &format!("/jobs/{job}"))).status, 202);
    let ended = service.ended(&job);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert_eq!(service.get("/models").expect(200)["active"], Value::Null);
}

#[test]
fn a_file_that_the_bucket_does_not_take_makes_no_job() {
    let proxy = Proxy::start(Server::shared().address);
    let (setup, bucket) = fleet(Setup::new(Language::Python, "files"), &format!("http://{}", proxy.address()));
    let service = setup.start_apart("first");
    proxy.set(Modes::both(Mode::Reset));
    let refused = service.send(&Request::new("POST", "/input").form(&[("walk.csv", "1\n")], &[]));
    let detail = refused.expect_problem(503, "s3_unavailable");
    assert!(!detail.contains(&bucket), "where the service keeps its things is not told: {detail}");
    assert_eq!(service.get("/jobs").expect(200)["jobs"], json!([]));
}

#[test]
fn a_bucket_that_does_not_exist_is_refused_at_the_start() {
    let setup = Setup::new(Language::Python, "versions").flags(&["--bucket", "s3://no-such-bucket-here/service"]);
    let setup = with_credentials(setup.flags(&["--s3-endpoint", &Server::shared().endpoint()]));
    let (status, said) = setup.refused();
    assert!(!status.success());
    assert!(said.contains("--bucket") && said.contains("no such bucket"), "{said}");
}

#[test]
fn a_bucket_that_is_away_is_waited_for() {
    let setup = Setup::new(Language::Python, "versions").flags(&["--bucket", "s3://dunnage/service"]);
    let setup = with_credentials(setup.flags(&["--s3-endpoint", "http://127.0.0.1:9"]));
    let service = setup.start();
    assert_eq!(served(&setup, &service), 0.0);
}
