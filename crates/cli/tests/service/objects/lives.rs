//! The cache from one life of a server to the next, whatever happened to it in between.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use dunnage_testing::census::eventually;
use dunnage_testing::s3::Scripted;
use dunnage_testing::s3::scripted::{Answer, End};
use dunnage_testing::setup::Setup;
use serde_json::json;

use super::{PATIENCE, body, cached, contents, only_copy, setup};

const MIB: usize = 1 << 20;

fn walk() -> Vec<u8> {
    (0..300_000_u32).map(|index| (index % 249) as u8).collect()
}

fn is_part(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("part-")
}

fn part_bytes(setup: &Setup) -> u64 {
    cached(setup).iter().filter(|path| is_part(path)).filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

#[test]
fn a_download_that_a_crash_cut_off_is_never_served() {
    let s3 = Scripted::start(|request| {
        let end = if request.index == 0 { End::Silence(3 * MIB) } else { End::Whole };
        Answer::object(request, &vec![7; 4 * MIB], "\"one\"").ending(end)
    });
    let setup = setup(&s3.endpoint);
    let service = setup.start();
    let address = service.address();
    let call = dunnage_testing::http::Request::new("POST", "/output").json(&body(&["walk"], json!({"case": "sizes"})));
    let client = std::thread::spawn(move || call.send(address));
    eventually("half of it has arrived", PATIENCE, || (part_bytes(&setup) >= MIB as u64).then_some(()));
    service.kill(PATIENCE);
    assert!(client.join().unwrap().is_err(), "a killed server answers nothing");
    assert!(cached(&setup).iter().any(|path| is_part(path)), "the crash leaves what was being written");

    let service = setup.start();
    assert!(!cached(&setup).iter().any(|path| is_part(path)), "it is swept");
    assert!(contents(&service, "walk") == [7; 4 * MIB]);
    assert_eq!(s3.requests().len(), 2);
}

/// Changes the one file of the cache while no server runs, and sees to it that nobody is given anything but the object.
fn survives(what: &str, change: impl Fn(&Path)) {
    let s3 = super::serving(|_| walk());
    let setup = setup(&s3.endpoint).flags(&["--revalidate", "never"]);
    let service = setup.start();
    assert!(contents(&service, "walk") == walk());
    service.terminate();
    let copy = only_copy(&setup);
    change(&copy);

    let begin = Instant::now();
    let service = setup.start();
    assert!(contents(&service, "walk") == walk(), "{what}");
    assert_eq!(s3.requests().len(), 2, "{what}: it is fetched again");
    assert!(begin.elapsed() < Duration::from_secs(20), "{what} is waited for");
    assert!(contents(&service, "walk") == walk(), "{what}");
    assert_eq!(s3.requests().len(), 2, "{what}: and kept");
    assert!(fs::symlink_metadata(only_copy(&setup)).unwrap().is_file(), "{what}");
}

/// Changes the contents of a file.
fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Changes the contents of a file and nothing that is told of it.
fn rewrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let times = fs::FileTimes::new().set_modified(fs::metadata(path).unwrap().modified().unwrap());
    edit(path, change);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn a_copy_that_was_damaged_is_fetched_again() {
    std::thread::scope(|scope| {
        scope.spawn(|| survives("a flipped bit", |path| rewrite(path, |bytes| bytes[200_000] ^= 4)));
        scope.spawn(|| survives("a short file", |path| rewrite(path, |bytes| bytes.truncate(1000))));
        scope.spawn(|| survives("zeros", |path| rewrite(path, |bytes| bytes.fill(0))));
        scope.spawn(|| survives("nothing", |path| rewrite(path, Vec::clear)));
        scope.spawn(|| survives("a missing file", |path| fs::remove_file(path).unwrap()));
    });
}

#[test]
fn a_link_or_a_pipe_in_place_of_a_copy_is_not_followed() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "s".repeat(300_000)).unwrap();
    let target = secret.path();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            survives("a symbolic link", |path| {
                fs::remove_file(path).unwrap();
                symlink(target, path).unwrap();
            });
        });
        scope.spawn(|| survives("a hard link", |path| fs::hard_link(path, path.with_extension("twin")).unwrap()));
        scope.spawn(|| {
            survives("a pipe", |path| {
                fs::remove_file(path).unwrap();
                let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
                assert!(made.success());
            });
        });
        scope.spawn(|| {
            survives("a folder", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
                fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(path.join("file")).unwrap();
            });
        });
    });
    assert_eq!(fs::read_to_string(secret.path()).unwrap(), "s".repeat(300_000), "what a link leads to is left alone");
}

/// What happens to the one file of a cache.
type Change = (&'static str, fn(&Path));

#[test]
fn a_copy_that_is_changed_while_the_server_runs_is_not_used() {
    let s3 = super::serving(|_| walk());
    let setup = setup(&s3.endpoint).flags(&["--revalidate", "never"]);
    let service = setup.start();
    assert!(contents(&service, "walk") == walk());
    let changes: [Change; 4] = [
        ("an edit", |path| edit(path, |bytes| bytes[7] ^= 1)),
        ("a removal", |path| fs::remove_file(path).unwrap()),
        ("the removal of the folder", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
        ("the removal of all folders", |path| fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap()),
    ];
    for (what, change) in changes {
        let asked = s3.requests().len();
        change(&only_copy(&setup));
        assert!(contents(&service, "walk") == walk(), "{what}");
        // Once more where the folder has to be made again first.
        assert!((asked + 1..=asked + 2).contains(&s3.requests().len()), "{what}");
    }
}
