//! Which processes there are, found out from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

/// Calls `probe` until it has something, and fails when it has had nothing for `patience`.
///
/// # Panics
///
/// When it has waited in vain; the text says what for.
pub fn eventually<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begin.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every living process whose environment has the entry `mark`.
#[must_use]
pub fn marked(mark: &str) -> Vec<i32> {
    let has_mark = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    pids().filter(has_mark).collect()
}

/// The children of a process that have not ended.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| stat(*pid).is_some_and(|stat| stat.parent == parent && stat.state != 'Z');
    pids().filter(is_child).collect()
}

/// What a process is called, with its arguments; empty when it has ended.
#[must_use]
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// The process group that a process belongs to.
///
/// # Panics
///
/// When the process has ended.
#[must_use]
pub fn group(pid: i32) -> i32 {
    stat(pid).expect("the process lives").group
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

struct Stat {
    state: char,
    parent: i32,
    group: i32,
}

/// Fields 3 to 5 of `/proc/PID/stat`, which follow the name in parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}
