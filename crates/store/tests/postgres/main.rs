//! The suite on PostgreSQL, and what only PostgreSQL has to answer for.

mod bench;

dunnage_store::store_suite!(bench::PostgresBench::start());
