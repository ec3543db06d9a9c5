//! What is under way when somebody looks at versions.

use dunnage_store::{Finish, Jobs, Lease, PostgresStore, Versions};
use dunnage_types::{Version, VersionState};
use serde_json::json;

use crate::bench::{database, open};
use crate::given::{client, running, until_blocked};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_not_retracted_while_it_is_about_to_serve() {
    let url = database().await;
    let (store, other) = (open(&url).await, client(&url).await);
    finish(&store, trained(&store).await).await;
    let (lease, version) = trained(&store).await;
    // Whoever puts the former version aside has to wait here, when all has been checked.
    other.batch_execute("BEGIN; UPDATE version SET active = active WHERE active").await.unwrap();
    let finishing = tokio::spawn({
        let store = store.clone();
        async move { finish(&store, (lease, version)).await }
    });
    until_blocked(&other, 1).await;
    let retracting = tokio::spawn({
        let store = store.clone();
        async move { store.retract(version, "nobody heard how it ended").await.unwrap() }
    });
    until_blocked(&other, 2).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    finishing.await.unwrap();
    assert!(!retracting.await.unwrap(), "it serves");
    let active = store.active().await.unwrap().expect("an active version");
    assert_eq!((active.version, active.state), (version, VersionState::Ready));
}

async fn trained(store: &PostgresStore) -> (Lease, Version) {
    let lease = running(store).await;
    (lease, store.publish(lease, "artifact").await.unwrap())
}

async fn finish(store: &PostgresStore, (lease, version): (Lease, Version)) {
    store.finish(lease, Finish::Done { result: json!(null), activate: Some(version) }).await.unwrap();
}
