//! What is done with the inputs that a fuzzer makes up.
//!
//! Each function of [`TARGETS`] takes any bytes, gives them to what reads foreign bytes in the product, and panics when that does not keep
//! what it promises. `fuzz/` has a program for each, which libFuzzer feeds; `tests/corpora.rs` feeds them what has been kept.

mod addresses;
mod bodies;
mod forms;
mod frames;
mod manifests;
mod messages;
mod tokens;

pub use addresses::addresses;
pub use bodies::bodies;
pub use forms::forms;
pub use frames::frames;
pub use manifests::manifests;
pub use messages::messages;
pub use tokens::tokens;

/// A function that must take any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and its corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("addresses", addresses),
    ("bodies", bodies),
    ("forms", forms),
    ("frames", frames),
    ("manifests", manifests),
    ("messages", messages),
    ("tokens", tokens),
];
