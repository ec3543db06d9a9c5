//! The S3 servers of tests do what the tests rely on.

use dunnage_testing::s3::{Account, Faulty, Server};

#[test]
fn moto_keeps_objects_and_checks_signatures() {
    let server = Server::shared();
    behaves(server, &server.bucket());
}

#[test]
fn garage_keeps_objects_and_checks_signatures() {
    if let Some(server) = Server::garage() {
        behaves(&server, server.first_bucket());
    }
}

#[test]
fn moto_keeps_versions_where_it_is_told_to() {
    let server = Server::shared();
    let bucket = server.bucket();
    server.keep_versions(&bucket);
    let versions = [server.put(&bucket, "a", "1"), server.put(&bucket, "a", "2")];
    assert!(versions[0].is_some() && versions[0] != versions[1], "{versions:?}");
}

#[test]
fn a_faulty_server_keeps_objects_as_long_as_nothing_goes_wrong() {
    let server = Faulty::start();
    server.account().create_bucket("dunnage");
    keeps_objects(&server.account(), "dunnage");
}

fn behaves(account: &Account, bucket: &str) {
    keeps_objects(account, bucket);
    let stranger = Account { secret: "wrong".to_owned(), ..account.clone() };
    let refused = std::panic::catch_unwind(|| stranger.put(bucket, "b", "1"));
    assert!(refused.is_err(), "a wrong signature is refused");
}

fn keeps_objects(account: &Account, bucket: &str) {
    for key in ["a", "walks/ü b+c.csv", "walks/../d"] {
        account.put(bucket, key, key.as_bytes());
        assert_eq!(account.get(bucket, key).as_deref(), Some(key.as_bytes()), "{key}");
    }
    assert_eq!(account.keys(bucket, "walks/").len(), 2);
    account.remove(bucket, "a");
    assert_eq!(account.get(bucket, "a"), None);
}
