//! How PostgreSQL goes about the statements that come often. With a million jobs in the table, a scan or a sort of it would hold
//! up everything else.

use std::future::poll_fn;

use dunnage_testing::postgres::Cluster;
use dunnage_types::JobState;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, NoTls};
use uuid::Uuid;

use super::{callbacks, jobs, state};
use crate::JobFilter;

/// A few jobs wait or run, some for a key, most have ended: as it is after a while.
const FILL: &str = "
    INSERT INTO job (service, id, kind, state, files, params, key, idempotency_key, digest, attempt, max_attempts, lease,
                     lease_expires_at, deadline_at, run_at, callback, callback_state, callback_due, created_at, finished_at)
    SELECT CASE WHEN number % 5 = 0 THEN 'other' ELSE 'mine' END, gen_random_uuid(), 'train', state, '[]', '{}',
           CASE WHEN number % 3 = 0 THEN '\"key ' || number % 100 || '\"' END,
           CASE WHEN number % 2 = 0 THEN '\"request ' || number || '\"' END, '\\x00', 1, 3, 1,
           CASE state WHEN 'running' THEN now() END, CASE state WHEN 'running' THEN now() + interval '1 hour' END,
           now() - number * interval '1 second', '\"https://example.com\"', 'pending',
           CASE WHEN state = 'done' AND number % 50 = 0 THEN now() END,
           now() - number * interval '1 second', CASE state WHEN 'done' THEN now() - number * interval '1 second' END
    FROM (SELECT number, CASE WHEN number % 100 < 3 THEN 'queued' WHEN number % 100 = 50 THEN 'running' ELSE 'done' END AS state
          FROM generate_series(1, 20000) AS number) AS numbered;
    INSERT INTO job_log (job, sequence, at, attempt, source, level, message)
    SELECT seq, sequence, now(), 1, 'log', 'info', '\"a line\"' FROM job, generate_series(1, 5) AS sequence WHERE seq % 10 = 0;
    INSERT INTO state (service, key, kind, value) SELECT 'mine', 'key ' || number, 'json', '1' FROM generate_series(1, 20000) AS number;
    ANALYZE";

/// Has the server tell the plans of what functions run, as notices.
const TELL_PLANS: &str = "
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET client_min_messages = log";

/// Calls the functions of every job, for three jobs of which one has a key.
const CALLS: [&str; 3] = [
    "SELECT * FROM enqueue_jobs('mine', ARRAY[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], ARRAY['input', 'train', 'train'],
         ARRAY['[]', '[]', '[]'], ARRAY['{}', '{}', '{}'], ARRAY[NULL, NULL, '\"key 7\"'], ARRAY[NULL, NULL, NULL]::text[],
         ARRAY[NULL, NULL, NULL]::bytea[], ARRAY[3, 3, 3], ARRAY[NULL, NULL, NULL]::text[], ARRAY[NULL, NULL, NULL]::text[],
         ARRAY[gen_random_uuid(), NULL, NULL], ARRAY[10, NULL, NULL], ARRAY[10, NULL, NULL], 15)",
    "SELECT * FROM claim_jobs('mine', 3, gen_random_uuid(), 10, 10, true)",
    "SELECT * FROM leave_jobs('mine', ARRAY(SELECT id FROM job WHERE service = 'mine' AND state = 'running' ORDER BY seq LIMIT 3),
         ARRAY[1, 1, 1], ARRAY['done', 'release', 'retry'], ARRAY['1', NULL, NULL], ARRAY[NULL, NULL, '{}'], ARRAY[0, 0, 0])",
];

/// What each of them goes along, and on which conditions.
const WAYS: [&[&str]; 3] = [
    &[
        "using job_due on job candidate",
        "Index Cond: ((service = $1) AND (run_at <= now()))",
        "using job_unfinished_by_key on job earlier",
        "Index Cond: ((((service || ' '::text) || key) = (($1 || ' '::text) || candidate.key)) AND (seq < candidate.seq))",
    ],
    &[
        "using job_due on job candidate",
        "using job_unfinished_by_key on job earlier",
        "using job_pkey on job",
        "Index Cond: (seq = chosen.seq)",
    ],
    &["using job_by_id on job", "Index Cond: (id = leaving.id)", "using job_pkey on job", "Index Cond: (seq = held.seq)"],
];

/// The plans are kept: those made while there was nothing have to do for what comes then, until the server looks at the tables.
#[tokio::test(flavor = "multi_thread")]
async fn functions_go_along_an_index_however_full_the_tables_were_when_they_were_planned() {
    let url = tokio::task::block_in_place(|| Cluster::shared().database());
    super::migrate(&url).await.unwrap();
    assert_ways(&url, "of empty tables").await;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(FILL).await.unwrap();
    assert_ways(&url, "of full tables").await;
}

async fn assert_ways(url: &str, plans: &str) {
    let (client, mut told) = client_that_is_told(url).await;
    client.batch_execute(TELL_PLANS).await.unwrap();
    for (call, ways) in CALLS.iter().zip(WAYS) {
        client.simple_query(call).await.unwrap();
        let plan = told.recv().await.unwrap();
        for way in ways {
            assert!(plan.contains(way), "`{way}` is not in the plan {plans} for {call}:\n{plan}");
        }
        for other in ["Seq Scan on job", "using job_by_seq", "using job_running", "Hash", "Merge", "Sort Key: candidate"] {
            assert!(!plan.contains(other), "`{other}` is in the plan {plans} for {call}:\n{plan}");
        }
        // That of the call itself.
        told.recv().await.unwrap();
    }
}

/// A client, and what its server tells it of its own accord.
async fn client_that_is_told(url: &str) -> (Client, UnboundedReceiver<String>) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message.unwrap() {
                // Nobody listens any more once the test has ended.
                let _ = tell.send(notice.message().to_owned());
            }
        }
    });
    (client, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn frequent_statements_go_along_an_index() {
    let url = tokio::task::block_in_place(|| Cluster::shared().database());
    super::migrate(&url).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(FILL).await.unwrap();

    let (service, id, ids) = ("mine", Uuid::new_v4(), vec![Uuid::new_v4(); 3]);
    let (number, numbers, wait, waits) = (10_i64, vec![1_i64; 3], 60_f64, vec![60_f64; 3]);
    let (text, texts, no_text) = ("\"key 7\"", vec!["\"a\""; 3], None::<&str>);
    let before = i64::MAX;
    let (service, id, ids): (Given<'_>, Given<'_>, Given<'_>) =
        ((&service, Type::TEXT), (&id, Type::UUID), (&ids, Type::UUID_ARRAY));
    let (number, numbers): (Given<'_>, Given<'_>) = ((&number, Type::INT8), (&numbers, Type::INT8_ARRAY));
    let (wait, waits): (Given<'_>, Given<'_>) = ((&wait, Type::FLOAT8), (&waits, Type::FLOAT8_ARRAY));
    let (text, texts): (Given<'_>, Given<'_>) = ((&text, Type::TEXT), (&texts, Type::TEXT_ARRAY));
    let (before, no_text): (Given<'_>, Given<'_>) = ((&before, Type::INT8), (&no_text, Type::TEXT));
    let list = |filter: JobFilter| jobs::listing::list(&filter);
    let in_state = JobFilter { state: Some(JobState::Error), ..JobFilter::default() };
    let of_key = JobFilter { key: Some("key 7".to_owned()), ..JobFilter::default() };
    let cases: [(&str, String, Vec<&Given<'_>>); 16] = [
        ("job_due", jobs::claim::WAITING.to_owned(), vec![&service, &number]),
        ("job_unfinished_by_key", jobs::claim::WAITING.to_owned(), vec![&service, &number]),
        ("job_by_id", jobs::enqueue::FIND.to_owned(), vec![&service, &texts, &ids]),
        ("job_by_idempotency_key", jobs::enqueue::FIND.to_owned(), vec![&service, &texts, &ids]),
        ("job_running", jobs::rescue::EXPIRED.to_owned(), vec![&service, &number, &number]),
        ("job_pkey", jobs::keep::RENEW.to_owned(), vec![&service, &ids, &numbers, &waits]),
        ("job_pkey", jobs::keep::NOTE_PROGRESS.to_owned(), vec![&service, &ids, &numbers, &texts]),
        ("job_by_id", jobs::listing::JOB.to_owned(), vec![&service, &id]),
        ("job_log_pkey", jobs::log::READ.to_owned(), vec![&service, &id, &number, &number]),
        ("job_running", jobs::listing::BACKLOG.to_owned(), vec![&service]),
        ("job_ended_by_state", list(in_state), vec![&service, &before, &number, &text]),
        ("job_ended_by_key", list(of_key.clone()), vec![&service, &before, &number, &text]),
        ("job_unfinished_by_key", list(of_key), vec![&service, &before, &number, &text]),
        ("job_ended", jobs::prune::PRUNE.to_owned(), vec![&service, &wait, &number]),
        ("job_callback_due", callbacks::CLAIM.to_owned(), vec![&service, &number, &wait]),
        ("state_pkey", state::SCAN.to_owned(), vec![&service, &text, &no_text, &no_text, &number, &number]),
    ];
    for (index, statement, parameters) in cases {
        let plan = plan(&client, &statement, &parameters).await;
        assert!(plan.contains(index), "{index} is not used for {statement}:\n{plan}");
        for table in ["job", "job_log", "state"] {
            assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{statement}:\n{plan}");
        }
    }
    for (statement, parameters) in [
        (list(JobFilter::default()), vec![&service, &before, &number]),
        (state::SCAN.to_owned(), vec![&service, &text, &no_text, &no_text, &number, &number]),
    ] {
        let plan = plan(&client, &statement, &parameters).await;
        assert!(!plan.contains("Sort"), "{statement}:\n{plan}");
    }
    // What is claimed is not chosen by sorting all that waits.
    let waiting = plan(&client, jobs::claim::WAITING, &[&service, &number]).await;
    assert!(!waiting.contains("Sort"), "{waiting}");
}

type Given<'a> = (&'a (dyn ToSql + Sync), Type);

async fn plan(client: &Client, statement: &str, parameters: &[&Given<'_>]) -> String {
    let parameters: Vec<Given<'_>> = parameters.iter().map(|(value, kind)| (*value, kind.clone())).collect();
    let rows = client.query_typed(&format!("EXPLAIN {statement}"), &parameters).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}
