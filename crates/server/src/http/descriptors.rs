//! Room among the process's file descriptors for as many connections as may come.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the server needs besides connections: the database, files, workers and their pipes, S3.
const BESIDE_CONNECTIONS: usize = 256;

/// How many connections there may be: as many as are wanted, or as many as the process may have descriptors for.
///
/// Raises the process's own limit as far as that takes and the system allows; a lower outcome is logged. Where it is very low, half of
/// it is left for everything else.
pub(super) fn room_for(wanted: usize) -> usize {
    let needed = wanted.saturating_add(BESIDE_CONNECTIONS);
    let allowed = raised_to(needed);
    if allowed >= needed {
        return wanted;
    }
    let room = allowed.saturating_sub(BESIDE_CONNECTIONS).max(allowed / 2).max(1);
    tracing::warn!(
        max_connections = wanted,
        descriptors = allowed,
        served = room,
        "the process may not open enough files for `--max-connections`; fewer are served (raise the limit, `ulimit -n`)"
    );
    room.min(wanted)
}

fn raised_to(needed: usize) -> usize {
    let as_count = |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let limit = getrlimit(Resource::Nofile);
    let (current, most) = (as_count(limit.current), as_count(limit.maximum));
    if current >= needed || most <= current {
        return current;
    }
    let raised = needed.min(most);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised as u64), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => current,
    }
}
