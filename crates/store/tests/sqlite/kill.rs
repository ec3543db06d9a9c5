//! What was acknowledged survives the death of the process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dunnage_store::{Enqueued, Finish, Jobs, NewJob, Terms};
use dunnage_types::{Job, JobId, JobKind, JobState, JsonObject, ReplicaId};
use serde_json::json;

use crate::bench::{open, raw};

const FOLDER: &str = "DUNNAGE_TEST_FOLDER";
const CYCLES: usize = 10;
const TERMS: Terms = Terms { lease: Duration::from_mins(1), limit: Duration::from_hours(1) };

#[tokio::test]
async fn acknowledged_jobs_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(JobId, JobState)> = Vec::new();
    for cycle in 0..CYCLES {
        acknowledged.extend(work_and_die(folder.path(), 10 + cycle * 7));

        let verdict: String = raw(folder.path()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        let store = open(folder.path());
        for (id, least) in &acknowledged {
            let job = store.job(*id).await.unwrap().expect("an acknowledged job is there");
            assert!(has_reached(&job, *least), "{id} was acknowledged as {least} and is {}", job.state);
        }
    }
    assert!(acknowledged.len() > CYCLES * 10);
}

/// Runs [`works_until_killed`] in a process of its own and kills it after some acknowledgements; all that it had printed.
fn work_and_die(folder: &Path, acknowledgements: usize) -> Vec<(JobId, JobState)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::works_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout.lines().map_while(Result::ok).filter_map(|line| parse(&line));
    let mut printed: Vec<_> = lines.by_ref().take(acknowledgements).collect();
    kill(&mut child);
    printed.extend(lines);
    printed
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `ack <state> <job>`, complete; anything else on standard output is the test harness's.
fn parse(line: &str) -> Option<(JobId, JobState)> {
    let (_, acknowledgement) = line.split_once("ack ")?;
    let (state, job) = acknowledgement.split_once(' ')?;
    Some((job.parse().ok()?, state.parse().ok()?))
}

/// Whether the job is where it was acknowledged to be, or further.
fn has_reached(job: &Job, least: JobState) -> bool {
    match least {
        JobState::Done => job.state == JobState::Done && job.result == Some(json!(job.id.to_string())),
        _ => true,
    }
}

/// The child of [`acknowledged_jobs_survive_a_kill`]: several tasks enqueue, claim and finish, and print what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for ever; acknowledged_jobs_survive_a_kill starts it"]
async fn works_until_killed() {
    let folder = std::env::var(FOLDER).expect("started by acknowledged_jobs_survive_a_kill");
    let store = open(Path::new(&folder));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                let id = JobId::random();
                let (files, params) = (Vec::new(), JsonObject::new());
                let job = NewJob {
                    id,
                    kind: JobKind::Input,
                    files,
                    params,
                    key: None,
                    idempotency: None,
                    callback: None,
                    output_uri: None,
                    max_attempts: 3,
                };
                assert_eq!(store.enqueue(job).await.unwrap(), Enqueued::Created(id));
                acknowledge(id, JobState::Queued);
                for claimed in store.claim(ReplicaId::random(), 1, TERMS).await.unwrap() {
                    let id = claimed.job.id;
                    let finish = Finish::Done { result: json!(id.to_string()), activate: None };
                    store.finish(claimed.lease, finish).await.unwrap();
                    acknowledge(id, JobState::Done);
                }
            }
        });
    }
    tasks.join_all().await;
}

fn acknowledge(job: JobId, state: JobState) {
    let line = format!("ack {state} {job}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
