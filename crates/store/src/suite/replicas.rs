//! Who is there.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::time::Duration;

use dunnage_types::{Presence, ReplicaId, Version};

use super::Bench;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

pub async fn replicas_are_seen_while_they_announce_themselves(bench: &mut dyn Bench) {
    let store = bench.store();
    let (first, second) = (ReplicaId::random(), ReplicaId::random());
    let starting = Presence::default();
    let serving = Presence { serving: Version::new(3), ready: true, error: Some("version 4 does not load here".to_owned()) };
    store.announce(first, &starting, HOUR).await.unwrap();
    bench.advance(MINUTE).await;
    store.announce(second, &serving, HOUR).await.unwrap();
    let seen = store.replicas(HOUR).await.unwrap();
    let summary: Vec<_> = seen.iter().map(|replica| (replica.id, &replica.presence)).collect();
    assert_eq!(summary, [(first, &starting), (second, &serving)]);
    assert_eq!(store.replicas(MINUTE / 2).await.unwrap(), seen[1..]);

    store.announce(first, &serving, HOUR).await.unwrap();
    let again = store.replicas(MINUTE / 2).await.unwrap();
    assert_eq!(
        again.iter().map(|replica| (replica.id, &replica.presence)).collect::<Vec<_>>(),
        [(first, &serving), (second, &serving)]
    );
    assert!(again[0].started_at == seen[0].started_at && again[0].seen_at > seen[0].seen_at);
}

pub async fn a_replica_that_departs_is_no_longer_seen(bench: &mut dyn Bench) {
    let store = bench.store();
    let (stays, goes) = (ReplicaId::random(), ReplicaId::random());
    for replica in [stays, goes] {
        store.announce(replica, &Presence::default(), HOUR).await.unwrap();
    }
    store.depart(goes).await.unwrap();
    store.depart(goes).await.unwrap();
    let left: Vec<_> = store.replicas(HOUR).await.unwrap().iter().map(|replica| replica.id).collect();
    assert_eq!(left, [stays]);
    assert_eq!(bench.other_service().replicas(HOUR).await.unwrap(), []);
}

pub async fn a_replica_that_has_been_silent_for_long_is_forgotten(bench: &mut dyn Bench) {
    let store = bench.store();
    let (silent, speaks) = (ReplicaId::random(), ReplicaId::random());
    store.announce(silent, &Presence::default(), HOUR).await.unwrap();
    bench.advance(HOUR).await;
    store.announce(speaks, &Presence::default(), MINUTE).await.unwrap();
    let known: Vec<_> = store.replicas(HOUR * 24).await.unwrap().iter().map(|replica| replica.id).collect();
    assert_eq!(known, [speaks]);
}
