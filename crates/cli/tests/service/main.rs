//! The product from outside: the real `dunnage serve`, real runtimes and real processes, on a free port and in temporary folders.
//!
//! `dunnage_testing` starts and ends a service, speaks to it, and counts the processes it leaves. The modules hold the tests, one
//! subject each; those of `in_both_languages` run once in Python and once in Lua.

mod listener;
mod loops;

mod access;
mod ahead;
mod api;
mod artifacts;
mod behaviours;
mod browsers;
mod bucket;
mod callbacks;
mod canaries;
mod confines;
mod connections;
mod crashes;
mod described;
mod endings;
mod events;
mod fleet;
mod flights;
mod heads;
mod jobs;
mod large;
mod lives;
mod memory;
mod methods;
mod mutations;
mod neighbours;
mod objects;
mod operation;
mod outputs;
mod overload;
mod pipelines;
mod protection;
mod recycling;
mod refusals;
mod remains;
mod results;
mod rogues;
mod signals;
mod slow;
mod smuggling;
mod surroundings;
mod tls;
mod traces;
mod vectors;
mod versions;
