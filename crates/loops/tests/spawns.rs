//! Every loop is started by `Loops`. Whatever else is started has to be known here, with the reason why it is none, or why it is its own.

use std::path::{Path, PathBuf};

/// What starts tasks and threads otherwise: the file, how often, and what it is.
const KNOWN: [(&str, usize, &str); 26] = [
    ("cli/src/client/interrupt.rs", 1, "a client's thread, which waits for Ctrl-C and ends the process"),
    ("cli/src/commands/serve.rs", 1, "waits for signals, and ends the process"),
    ("cli/src/logging/outlet.rs", 1, "writes the log; if it ends, what is left out is counted"),
    ("files/src/cache/flight.rs", 1, "one download; who waits for it is told if it breaks off"),
    ("files/src/cache/trouble.rs", 1, "goes on only while the disk fails, which readiness tells"),
    ("files/src/s3/upload.rs", 1, "takes one upload back"),
    ("loops/src/looping.rs", 1, "the loops themselves"),
    ("loops/src/watch.rs", 1, "tells the log what `/healthz/live` finds out by itself"),
    ("server/src/blocking.rs", 1, "one thing that blocks; who wants it waits for its end"),
    ("server/src/callbacks/mod.rs", 1, "one delivery; what is not settled is delivered again"),
    ("server/src/events/stream.rs", 1, "tells one client, which connects again when its stream ends"),
    ("server/src/http/event_loops.rs", 1, "the threads that answer requests; the process ends if one does"),
    ("server/src/jobs/recorder.rs", 1, "writes one attempt's log; the attempt waits for its end"),
    ("server/src/routes/models.rs", 1, "one request, which waits for it"),
    ("server/src/routes/submit.rs", 1, "one request, which waits for it"),
    ("store/src/postgres/batch.rs", 1, "survives panics by itself; who calls waits for a bounded time"),
    ("store/src/postgres/connection.rs", 1, "cancels one statement"),
    ("store/src/postgres/listener.rs", 1, "drives one connection; the listener notices its end"),
    ("store/src/postgres/open.rs", 1, "drives the first connection"),
    ("store/src/sqlite/readers.rs", 1, "survives panics by itself; loops wait for it, and are missed when it stands still"),
    ("store/src/sqlite/writer.rs", 1, "the same"),
    ("workers/src/ended.rs", 1, "waits for one child where the system does not, and ends with it"),
    ("workers/src/launch.rs", 1, "the launcher: a thread that has a beat"),
    ("workers/src/process.rs", 1, "clears away what a dropped process leaves"),
    ("workers/src/shared_memory.rs", 1, "a thread that has a beat"),
    ("workers/src/successor.rs", 2, "one start and one end of a worker; its slot takes notice"),
];
/// What looks like it and starts nothing that goes on by itself here.
const OTHERWISE: [&str; 4] = ["command.spawn()", " spawn()?", "fn spawn(", "Looping::spawn("];

fn starts(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    line.contains("spawn(") && !is_comment && !OTHERWISE.iter().any(|other| line.contains(other))
}

/// The part of a file that is shipped.
fn shipped(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]" || text.lines().any(|line| line.starts_with("mod tests;")))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours can be read") {
        let path = entry.expect("it can be read on").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["tests", "suite", "bin"].contains(&name) {
            sources(&path, found);
        } else if name.ends_with(".rs") && !["tests.rs", "fake.rs", "plans.rs"].contains(&name) {
            found.push(path);
        }
    }
}

#[test]
fn nothing_goes_on_in_the_background_that_is_neither_a_loop_nor_known() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in a folder");
    let mut files = Vec::new();
    for name in ["server", "workers", "store", "files", "loops", "cli"] {
        sources(&crates.join(name).join("src"), &mut files);
    }
    let count = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("it is a text");
        shipped(&text).filter(|line| starts(line)).count()
    };
    let name = |file: &PathBuf| file.strip_prefix(crates).expect("it lies below").display().to_string();
    let mut found: Vec<_> = files.iter().map(|file| (name(file), count(file))).filter(|(_, count)| *count > 0).collect();
    found.sort_unstable();
    let known: Vec<_> = KNOWN.iter().map(|(file, count, _)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, known);
}

#[test]
fn what_starts_something_is_recognised() {
    for line in ["    tokio::spawn(async move {", "tasks.spawn(follow(app));", "std::thread::spawn(move || work());"] {
        assert!(starts(line), "{line}");
    }
    for line in
        ["// tokio::spawn(it)", "let child = command.spawn()?;", "pub(crate) fn spawn(beat: Beat) {", "spawn_blocking(work)"]
    {
        assert!(!starts(line), "{line}");
    }
}
