//! Other users of the machine: whoever may run programs here, too, reaches nothing of a service but its port.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dunnage_testing::http::Request;
use dunnage_testing::language::{Language, in_both_languages};
use dunnage_testing::service::{Service, job_id};
use dunnage_testing::setup::Setup;

in_both_languages!(
    another_user_reads_nothing_that_a_service_keeps_and_none_of_its_processes,
    a_worker_and_its_server_have_no_address_that_another_process_could_use,
);

/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// Makes something of everything that a service keeps: an artifact, state, and the upload of a job that runs.
fn hoarding(language: Language) -> &'static str {
    match language {
        Language::Python => {
            "import os, tempfile, time\n\
             def train(files, ctx):\n    (ctx.new_artifact() / 'weights').write_text('secret')\n    ctx.state['kept'] = 'secret'\n\
             def input(files, ctx):\n    open(os.path.join(tempfile.gettempdir(), 'mine'), 'w').write('secret')\n    ctx.progress(0.5)\n    \
             time.sleep(60)\n\
             def output(files, ctx):\n    return [1]\n"
        }
        Language::Lua => {
            "local ffi = require('ffi')\nffi.cdef('unsigned sleep(unsigned seconds);')\n\
             local function write(path) local file = assert(io.open(path, 'w')) file:write('secret') file:close() end\n\
             return {\n  train = function(_, ctx) write(ctx.new_artifact() .. '/weights') ctx.state.kept = 'secret' end,\n  \
             input = function(_, ctx) write(os.getenv('TMPDIR') .. '/mine') ctx.progress(0.5) ffi.C.sleep(60) end,\n  \
             output = function() return { 1 } end,\n}\n"
        }
    }
}

/// A service that keeps something of every kind, in folders that everybody may enter as far as whoever started it decides.
fn hoard(language: Language, temporary: &Path) -> (Setup, Service) {
    let setup = Setup::inline(language, "hoard", hoarding(language)).environment("TMPDIR", temporary.to_str().unwrap());
    for folder in [setup.folder(), temporary] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let service = setup.start();
    let upload = |path: &str| job_id(&service.send(&Request::new("POST", path).form(&[("walk.csv", "secret")], &[])));
    assert_eq!(service.ended(&upload("/train"))["state"], "done");
    service.wait_for(&upload("/input"), "it runs", |status| status["progress"]["fraction"] == 0.5);
    (setup, service)
}

/// Those of the paths, and of what lies below them, that another user may read, list, enter or write.
fn reached_by_another(paths: &[PathBuf]) -> Vec<String> {
    let mut find = Command::new("find");
    find.args(paths).args(["(", "-readable", "-o", "-writable", "-o", "-executable", ")", "-print"]);
    let found = find.uid(NOBODY).gid(NOBODY).current_dir("/").output().expect("there is a `find`");
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

fn another_user_reads_nothing_that_a_service_keeps_and_none_of_its_processes(language: Language) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let (setup, service) = hoard(language, temporary.path());
    let scratch: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!scratch.is_empty(), "workers have temporary files");
    let of_processes = service
        .processes()
        .into_iter()
        .chain([service.guard()])
        .flat_map(|pid| ["environ", "mem", "fd", "cwd/.", "root/."].map(|what| PathBuf::from(format!("/proc/{pid}/{what}"))));
    let private: Vec<_> = [setup.data_dir()].into_iter().chain(scratch).chain(of_processes).collect();
    // What is open to everybody is found, so that not to find the rest says something.
    let open = setup.script().to_owned();
    let reached = reached_by_another(&[private.as_slice(), std::slice::from_ref(&open)].concat());
    assert_eq!(reached, [open.to_str().unwrap()]);
    let exposed: Vec<_> = below(&setup.data_dir()).into_iter().filter(|path| is_open(path)).collect();
    assert!(exposed.is_empty(), "they would be open to others if their folder were: {exposed:?}");
}

/// Everything below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { [vec![path.clone()], below(&path)].concat() } else { vec![path] }).collect()
}

/// Whether a path could be reached by others from the folder it lies in.
fn is_open(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.mode() & 0o007 != 0)
}

/// The inodes of the sockets that a process has open.
fn sockets(pid: i32) -> Vec<String> {
    let links =
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

fn a_worker_and_its_server_have_no_address_that_another_process_could_use(language: Language) {
    let setup = Setup::new(language, "calls");
    let service = setup.start();
    let ours: Vec<_> = service.processes().into_iter().chain([service.guard()]).flat_map(sockets).collect();
    let all = std::fs::read_to_string("/proc/net/unix").unwrap();
    let fields: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    // The inode is the seventh field, and a name, if there is one, the eighth.
    let of_ours: Vec<_> =
        fields.iter().filter(|fields| fields.get(6).is_some_and(|inode| ours.iter().any(|own| own == inode))).collect();
    assert!(of_ours.len() >= 2, "a worker and its server speak through sockets");
    let named: Vec<_> = of_ours.iter().filter(|fields| fields.len() > 7).collect();
    assert!(named.is_empty(), "{named:?}");
}
