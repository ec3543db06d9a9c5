//! The suite on SQLite, and what only SQLite has to answer for.

mod bench;

dunnage_store::store_suite!(bench::SqliteBench::start());
