//! What a server looks like from outside.

use std::fs;
use std::path::Path;
use std::time::Instant;

use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Minutes since the first client.
    pub(crate) minutes: f64,
    /// Megabytes of memory of the server's own process.
    pub(crate) server_mb: f64,
    /// The same of everything it has started.
    pub(crate) workers_mb: f64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) processes: usize,
    pub(crate) data_files: usize,
    pub(crate) temporary_files: usize,
    pub(crate) shared_memory: usize,
    pub(crate) database_mb: f64,
}

impl Sample {
    pub(crate) fn take(service: &Service, setup: &Setup, begin: Instant) -> Self {
        let server = service.pid();
        let workers = service.workers();
        Self {
            minutes: begin.elapsed().as_secs_f64() / 60.0,
            server_mb: memory_mb(server),
            workers_mb: workers.iter().map(|worker| memory_mb(*worker)).sum(),
            descriptors: entries(format!("/proc/{server}/fd")),
            threads: entries(format!("/proc/{server}/task")),
            processes: service.processes().len(),
            data_files: files(&setup.data_dir()),
            temporary_files: files(&temporary(setup)),
            shared_memory: entries("/dev/shm"),
            database_mb: ["dunnage.db", "dunnage.db-wal"].iter().map(|name| size_mb(&setup.data_dir().join(name))).sum(),
        }
    }
}

/// The folder for temporary files of a service under test.
pub(crate) fn temporary(setup: &Setup) -> std::path::PathBuf {
    setup.folder().join("tmp")
}

/// Nothing of a process that has ended.
fn memory_mb(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}

fn size_mb(path: &Path) -> f64 {
    fs::metadata(path).map_or(0.0, |metadata| metadata.len() as f64 / f64::from(1 << 20))
}

fn entries(folder: impl AsRef<Path>) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Everything below a folder. What goes meanwhile is not counted.
fn files(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| 1 + if entry.file_type().is_ok_and(|it| it.is_dir()) { files(&entry.path()) } else { 0 }).sum()
}
