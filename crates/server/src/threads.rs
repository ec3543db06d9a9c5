//! How many threads there are, so that they do not fight over the cores.

use std::num::NonZeroUsize;

use crate::config::{HttpConfig, WorkerConfig};

/// How many threads read requests, feed workers and write answers.
pub(crate) fn for_http(config: &HttpConfig) -> usize {
    if config.threads > 0 { config.threads } else { cores() }
}

/// How many threads each of so many workers may use, so that all of them together have no more than there are cores.
pub(crate) fn of_each_worker(config: &WorkerConfig, workers: usize) -> usize {
    if config.threads > 0 { config.threads } else { share(cores(), workers) }
}

/// How many cores this process may use, by its affinity and its control group.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn share(cores: usize, workers: usize) -> usize {
    (cores / workers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_thread_and_all_together_have_the_cores() {
        assert_eq!([share(8, 1), share(8, 2), share(8, 3), share(8, 9), share(8, 0)], [8, 4, 2, 1, 8]);
    }
}
