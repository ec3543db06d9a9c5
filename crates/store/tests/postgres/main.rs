//! The suite on PostgreSQL, directly and through PgBouncer, and what only PostgreSQL has to answer for.

mod bench;
mod connecting;
mod encryption;
mod faults;
mod given;
mod group_commit;
mod replicas;
mod schema;
mod versions;

/// Straight to the server.
mod direct {
    dunnage_store::store_suite!(crate::bench::PostgresBench::start());
}

/// Through PgBouncer, in transaction mode.
mod pooled {
    dunnage_store::store_suite!(crate::bench::PostgresBench::start_pooled());
}
