//! Whether the system has killed something to get memory back.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The counter in each of the files.
const COUNTER: &str = "oom_kill ";

/// Counts kills for want of memory: those of our control group where that can be read, else those of the whole machine.
///
/// The kernel does not say whom it has killed. A worker that was killed by nobody we know of, when there is a kill that no other
/// worker has been found to be the victim of, is taken for the victim.
#[derive(Debug)]
pub(crate) struct OomKills {
    source: Option<PathBuf>,
    explained: Mutex<u64>,
}

impl OomKills {
    pub(crate) fn watch() -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::watch_first(candidates(&own, Path::new(CGROUPS)))
    }

    fn watch_first(candidates: impl IntoIterator<Item = PathBuf>) -> Self {
        let found = candidates.into_iter().find_map(|source| Some((read(&source)?, source)));
        let (count, source) = found.map_or((0, None), |(count, source)| (count, Some(source)));
        Self { source, explained: Mutex::new(count) }
    }

    /// Whether there has been a kill that is not explained yet, which then is.
    pub(crate) fn explains_a_kill(&self) -> bool {
        let Some(count) = self.source.as_deref().and_then(read) else { return false };
        let mut explained = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = count > *explained;
        *explained += u64::from(is_new);
        is_new
    }
}

/// The files that may have the counter, the most exact one first. Within a container a group may be mounted as the root.
fn candidates(own: &str, cgroups: &Path) -> Vec<PathBuf> {
    let group = |is_wanted: fn(&str) -> bool| {
        let fields = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        fields.filter(|(controllers, _)| is_wanted(controllers)).map(|(_, path)| path.trim_start_matches('/')).next()
    };
    let version_2 = [group(str::is_empty), Some("")].into_iter().flatten();
    let version_2 = version_2.map(|path| cgroups.join(path).join("memory.events"));
    let of_memory = |controllers: &str| controllers.split(',').any(|controller| controller == "memory");
    let version_1 = [group(of_memory), Some("")].into_iter().flatten();
    let version_1 = version_1.map(|path| cgroups.join("memory").join(path).join("memory.oom_control"));
    version_2.chain(version_1).chain([PathBuf::from("/proc/vmstat")]).collect()
}

fn read(source: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(source).ok()?;
    text.lines().find_map(|line| line.strip_prefix(COUNTER)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_explains_one_loss() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("memory.events");
        std::fs::write(&source, "low 0\noom 4\noom_kill 3\noom_group_kill 0\n").unwrap();
        let kills = OomKills::watch_first([folder.path().join("missing"), source.clone()]);
        assert!(!kills.explains_a_kill(), "those from before are no news");
        std::fs::write(&source, "oom_kill 5\n").unwrap();
        assert_eq!([(); 3].map(|()| kills.explains_a_kill()), [true, true, false]);
    }

    #[test]
    fn the_own_group_is_asked_before_the_machine() {
        let shown = |own: &str| candidates(own, Path::new("/c")).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let expected = ["/c/a/b/memory.events", "/c/memory.events", "/c/memory/memory.oom_control", "/proc/vmstat"];
        assert_eq!(shown("0::/a/b\n"), expected);
        let mixed = shown("5:devices:/x\n4:cpu,memory:/m\n0::/\n");
        assert_eq!(mixed[2..4], ["/c/memory/m/memory.oom_control", "/c/memory/memory.oom_control"]);
    }

    #[test]
    fn without_a_counter_nothing_is_explained() {
        assert!(!OomKills::watch_first([PathBuf::from("/nowhere")]).explains_a_kill());
    }
}
