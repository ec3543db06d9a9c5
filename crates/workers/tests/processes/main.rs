//! Workers as real processes, which run the runtime without a language and do what its script says.

mod fixture;

mod ahead;
mod endings;
mod long;
mod misbehaviour;
mod pools;
mod recycling;
mod starts;
mod swaps;
