//! The cache's disk: full, read-only, or no folder at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dunnage_testing::census::eventually;
use dunnage_testing::service::Service;
use serde_json::json;

use super::{PATIENCE, body, setup, sizes};

const MIB: usize = 1 << 20;

/// A small disk of its own.
struct Tmpfs {
    path: PathBuf,
    _outer: tempfile::TempDir,
}

impl Tmpfs {
    /// `None`, with a word about it, where this is not allowed.
    fn mount(bytes: usize) -> Option<Self> {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("disk");
        fs::create_dir(&path).unwrap();
        if !run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], &path) {
            eprintln!("SKIPPED: mounting a small disk takes a privilege that this user does not have");
            return None;
        }
        Some(Self { path, _outer: outer })
    }

    fn remount(&self, how: &str) {
        assert!(run("mount", &["-o", &format!("remount,{how}")], &self.path));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.path);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
}

/// The disk fails, which clients, jobs, orchestrators and operators are told, each in its way.
fn fails(service: &Service, local: &serde_json::Value) -> String {
    let detail = sizes(service, &["second"]).expect_problem(503, "cache_unavailable");
    assert!(detail.contains(&super::address("second")), "{detail}");
    let unready = service.get("/healthz/ready").expect_problem(503, "cache_unavailable");
    assert!(!unready.contains('/'), "paths are not for everybody: {unready}");
    assert_eq!(service.output(local), [6.0], "what needs no object goes on");
    let job = service.submit("/input", &body(&["second"], json!({})));
    eventually("the job is told", PATIENCE, || (!service.job_log(&job).is_empty()).then_some(()));
    let status = service.wait_for(&job, "it waits", |status| status["state"] == "queued");
    assert_eq!(status.get("error").cloned().unwrap_or_default(), json!(null), "{status}");
    job
}

fn gets_well(service: &Service, job: &str) {
    eventually("the disk is noticed to work", PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
    sizes(service, &["second"]).expect(200);
    assert_eq!(service.ended(job)["state"], "done");
}

#[test]
fn a_full_disk_is_told_and_gets_well_by_itself() {
    let Some(disk) = Tmpfs::mount(8 * MIB) else { return };
    let s3 = super::serving(|_| vec![b'1'; 3 * MIB]);
    let setup = setup(&s3.endpoint).flags(&["--cache-dir", disk.path.to_str().unwrap(), "--max-attempts", "1", "--prefetch", "0"]);
    let service = setup.start();
    sizes(&service, &["first"]).expect(200);
    fs::write(disk.path.join("of others"), vec![0; 3 * MIB + MIB / 2]).unwrap();
    // The first makes room for the second, which only a disk that is full of other things does not have.
    sizes(&service, &["second"]).expect(200);
    let rest = fs::write(disk.path.join("more of others"), vec![0; 8 * MIB]);
    assert!(rest.is_err(), "the disk is full");
    sizes(&service, &["third"]).expect(200);
    fs::write(disk.path.join("everything"), vec![0; 8 * MIB]).unwrap_err();
    let copies = disk.path.join("calls/1");
    fs::remove_dir_all(&copies).unwrap();
    fs::write(disk.path.join("everything more"), vec![0; 8 * MIB]).unwrap_err();
    let job = fails(&service, &setup.body(json!({"case": "sizes"})));
    for name in ["of others", "more of others", "everything", "everything more"] {
        fs::remove_file(disk.path.join(name)).unwrap();
    }
    gets_well(&service, &job);
}

#[test]
fn a_disk_that_became_read_only_is_told_and_gets_well_by_itself() {
    let Some(disk) = Tmpfs::mount(32 * MIB) else { return };
    let s3 = super::serving(|_| b"1,2,3\n".to_vec());
    let setup = setup(&s3.endpoint).flags(&["--cache-dir", disk.path.to_str().unwrap(), "--max-attempts", "1", "--prefetch", "0"]);
    let service = setup.start();
    sizes(&service, &["first"]).expect(200);
    disk.remount("ro");
    assert_eq!(sizes(&service, &["first"]).expect(200)["outputVector"], json!([6.0]), "what is there can be read");
    let job = fails(&service, &setup.body(json!({"case": "sizes"})));
    disk.remount("rw");
    gets_well(&service, &job);
}

#[test]
fn a_read_only_disk_is_refused_at_the_start() {
    let Some(disk) = Tmpfs::mount(MIB) else { return };
    disk.remount("ro");
    let (status, said) = setup("http://127.0.0.1:1").flags(&["--cache-dir", disk.path.to_str().unwrap()]).refused();
    assert!(!status.success());
    assert!(said.contains("`--cache-dir`") && said.contains(disk.path.to_str().unwrap()), "{said}");
}

#[test]
fn a_cache_folder_that_is_a_file_is_refused_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (status, said) = setup("http://127.0.0.1:1").flags(&["--cache-dir", file.path().to_str().unwrap()]).refused();
    assert!(!status.success());
    assert!(said.contains("`--cache-dir`") && said.contains(file.path().to_str().unwrap()), "{said}");
    assert_eq!(fs::read(file.path()).unwrap(), b"", "it is left alone");
}
