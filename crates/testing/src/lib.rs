//! What the tests of several crates share: a private PostgreSQL, and later whatever else finds faults.
//!
//! Only tests may depend on this crate, which `crates/cli/tests/architecture.rs` holds true. Everything here panics when it
//! cannot do what it promises, since a test has no better use of an error.

pub mod postgres;
