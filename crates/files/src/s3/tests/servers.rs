//! The client against real servers, which check signatures: moto, which has the whole of S3's interface, and garage.

use std::time::Duration;

use dunnage_testing::s3::{Account, Server};

use super::real::Habits;
use super::{client_as, fetch, object, real, settings};
use crate::{Bucket, FileProblem, S3, S3Settings};

/// They are slow, and slower beside other tests.
fn settings_for(account: &Account) -> S3Settings {
    let settings = settings(&account.endpoint());
    S3Settings { stall: Duration::from_secs(60), region: Some(account.region.clone()), ..settings }
}

fn client_of(account: &Account) -> S3 {
    client_as(settings_for(account), &account.key_id, &account.secret)
}

#[tokio::test]
async fn moto_writes_lists_reads_and_removes_objects() {
    let server = Server::shared();
    // It says of every upload that it began in 2010.
    real::behaves(&client_of(server), &server.bucket(), Habits { dates_uploads: false, keeps_leading_slashes: true }).await;
}

#[tokio::test]
async fn garage_writes_lists_reads_and_removes_objects() {
    if let Some(server) = Server::garage() {
        real::behaves(&client_of(&server), server.first_bucket(), Habits { dates_uploads: true, keeps_leading_slashes: false })
            .await;
    }
}

#[tokio::test]
async fn versions_are_told_apart() {
    let server = Server::shared();
    let bucket = server.bucket();
    server.keep_versions(&bucket);
    let versions = ["one", "two"].map(|body| server.put(&bucket, "versioned", body).unwrap());
    real::keeps_versions(&client_of(server), &bucket, [&versions[0], &versions[1]]).await;
}

#[tokio::test]
async fn wrong_keys_and_missing_buckets_are_told_apart() {
    let server = Server::shared();
    let bucket = server.bucket();
    Bucket::new(client_of(server), &bucket, "").put_bytes("key", "bytes", "text/plain").await.unwrap();
    let object = object(&bucket, "key");
    let refusal = async |id: &str, secret: &str| match fetch(&client_as(settings_for(server), id, secret), &object).await {
        Err(FileProblem::Credentials(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refusal(&server.key_id, "wrong").await.contains("SignatureDoesNotMatch"));
    assert!(refusal("AKIDNOBODY", &server.secret).await.contains("InvalidAccessKeyId"));
    let missing = fetch(&client_of(server), &super::object("nowhere-at-all", "key")).await;
    assert!(matches!(missing, Err(FileProblem::NoBucket)), "{missing:?}");
}
