//! The logs of jobs.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{LogLevel, LogLine, LogSource, NewLogLine, Timestamp};

use super::Bench;
use super::given::{claim_one, done, enqueue, line, new_job, retry_after, running};

pub async fn log_lines_are_numbered_across_attempts(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = running(&*store).await;
    let at = Timestamp(1_795_484_820_123);
    let printed = NewLogLine { at, source: LogSource::Stderr, level: LogLevel::Warning, message: "careful".to_owned() };
    store.append_log(first, &[line("a"), printed]).await.unwrap();
    store.append_log(first, &[]).await.unwrap();
    store.finish(first, retry_after(Duration::ZERO)).await.unwrap();
    let second = claim_one(&*store).await.lease;
    store.append_log(second, &[line("b")]).await.unwrap();
    store.finish(second, done()).await.unwrap();

    let log = store.log(first.job, 0, 10).await.unwrap();
    let summary: Vec<_> = log.iter().map(|line| (line.sequence, line.attempt, line.message.as_str())).collect();
    assert_eq!(summary, [(1, 1, "a"), (2, 1, "careful"), (3, 2, "b")]);
    let (source, level, message) = (LogSource::Stderr, LogLevel::Warning, "careful".to_owned());
    assert_eq!(log[1], LogLine { sequence: 2, at, attempt: 1, source, level, message });
}

pub async fn a_reader_resumes_behind_the_line_it_saw(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = running(&*store).await;
    let lines: Vec<_> = (1..=25).map(|number| line(&number.to_string())).collect();
    for chunk in lines.chunks(10) {
        store.append_log(lease, chunk).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = store.log(lease.job, after, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = last.sequence;
        seen.extend(page.into_iter().map(|line| line.message));
    }
    assert_eq!(seen, (1..=25).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(store.log(lease.job, u64::MAX, 7).await.unwrap().is_empty());
    assert!(store.log(lease.job, 0, 0).await.unwrap().is_empty());
}

pub async fn a_job_without_lines_has_an_empty_log(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = enqueue(&*store, new_job()).await;
    assert_eq!(store.log(id, 0, 10).await.unwrap(), []);
}
