//! The product from outside: the real `dunnage serve`, real runtimes and real processes, on a free port and in temporary folders.
//!
//! [`service`] starts and ends a service, [`http`] speaks to it, [`census`] counts the processes it leaves. The other modules
//! hold the tests, one subject each; those of [`language::in_both_languages`] run once in Python and once in Lua.

mod census;
mod http;
mod language;
mod listener;
mod service;

mod api;
mod crashes;
mod events;
mod jobs;
mod lives;
mod memory;
mod operation;
mod outputs;
mod refusals;
mod surroundings;
mod versions;
