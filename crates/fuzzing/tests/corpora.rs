//! What has been kept for the fuzzer is taken well: the beginnings it is given, and everything it has ever found.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use dunnage_fuzzing::{TARGETS, Target};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
/// What all corpora may have together: enough to begin from, and little to carry about.
const MAX_FILES: usize = 300;
const MAX_BYTES: u64 = 1 << 20;
/// A quarter of what the server's threads have.
const STACK_BYTES: usize = 512 << 10;
/// No input takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(2);

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(FOLDER).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(name: &str, target: Target) {
    let files = corpus(name);
    assert!(!files.is_empty(), "`{name}` has no corpus");
    let failing: Vec<_> = files.iter().filter(|file| !is_taken_well(file, target)).collect();
    assert!(failing.is_empty(), "`{name}` fails on {failing:#?}");
}

fn is_taken_well(file: &Path, target: Target) -> bool {
    let input = fs::read(file).unwrap();
    let begin = Instant::now();
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || target(&input)).unwrap();
    thread.join().is_ok() && begin.elapsed() < PATIENCE
}

#[test]
fn every_kept_input_is_taken_well() {
    for (name, target) in TARGETS {
        replay(name, target);
    }
}

#[test]
fn every_target_has_a_program_and_a_dictionary_and_no_other_has() {
    let manifest = fs::read_to_string(Path::new(FOLDER).join("Cargo.toml")).unwrap();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(Path::new(FOLDER).join("dictionaries").join(name).is_file(), "{name}");
    }
    names.sort();
    let listed = fs::read_dir(Path::new(FOLDER).join("corpus")).unwrap();
    let mut found: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn the_corpora_stay_small() {
    let files: Vec<_> = TARGETS.iter().flat_map(|(name, _)| corpus(name)).collect();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(files.len() <= MAX_FILES && bytes <= MAX_BYTES, "{} files with {bytes} bytes", files.len());
}
