//! Workers as real processes, which run the runtime without a language and do what its script says.

mod fixture;

mod endings;
mod pools;
mod starts;
mod swaps;
