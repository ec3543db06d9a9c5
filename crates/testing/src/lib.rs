//! What the tests of several crates share.
//!
//! [`setup`] describes a service of the real `dunnage`, [`service`] is one that runs, [`http`] speaks to it, [`raw`] misbehaves, and [`census`] counts
//! the processes it leaves. [`postgres`] is a private PostgreSQL, [`s3`] a private S3, and [`proxy`] a network that can be made to fail.
//! [`audit`] has a service's database note what happens to its jobs, and [`history`] says whether that was allowed to happen.
//! [`mutant`] breaks the product on purpose.
//!
//! Only tests may depend on this crate, which `crates/cli/tests/architecture.rs` holds true. Everything here panics when it
//! cannot do what it promises, since a test has no better use of an error.

pub mod audit;
pub mod census;
pub mod history;
pub mod http;
mod keeper;
pub mod language;
pub mod mutant;
mod port;
pub mod postgres;
pub mod proxy;
pub mod raw;
pub mod s3;
pub mod service;
pub mod setup;
