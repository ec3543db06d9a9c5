//! The suite on SQLite, and what only SQLite has to answer for.

mod bench;
mod damage;
mod group_commit;
mod kill;
mod restart;
mod sharing;

dunnage_store::store_suite!(bench::SqliteBench::start());
