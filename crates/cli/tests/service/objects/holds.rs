//! A file that a worker may be reading stays.

use std::io::Write;
use std::net::TcpStream;

use dunnage_testing::census::eventually;
use dunnage_testing::language::Language;
use dunnage_testing::service::{Service, vector};
use dunnage_testing::setup::Setup;
use serde_json::{Value, json};

use super::{PATIENCE, body, in_background, only_copy, reaching};

/// Says that it has begun, waits until it may read, and says what it has read.
const PATIENT: &str = r#"
import os, time

def output(files, ctx):
    if "folder" not in ctx.params:
        return [file.size for file in files]
    folder = ctx.params["folder"]
    open(folder + "/begun", "w").close()
    while not os.path.exists(folder + "/go"):
        time.sleep(0.01)
    try:
        text = str(sum(files[0].read()))
    except Exception as error:
        text = repr(error)
    with open(folder + "/writing", "w") as file:
        file.write(text)
    os.rename(folder + "/writing", folder + "/read")
    return [1.0]
"#;

const SIZE: usize = 600_000;

/// Sends a request and hangs up as soon as the script has it.
fn hang_up(service: &Service, body: &Value, begun: &std::path::Path) {
    let (address, text) = (service.address(), body.to_string());
    let mut client = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /output HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    eventually("the script has begun", PATIENCE, || begun.exists().then_some(()));
    drop(client);
}

#[test]
fn a_client_that_hangs_up_does_not_take_the_file_from_the_worker() {
    let s3 = super::serving(|key| vec![if key == "read" { 2 } else { 3 }; SIZE]);
    let setup = reaching(Setup::inline(Language::Python, "patient", PATIENT), &s3.endpoint);
    let setup = setup.flags(&["--workers", "2", "--cache-bytes", "1MiB", "--max-batch", "1"]);
    let service = setup.start();
    let folder = setup.folder().join("signs");
    std::fs::create_dir(&folder).unwrap();
    hang_up(&service, &body(&["read"], json!({"folder": folder})), &folder.join("begun"));

    // Only one of both fits.
    let other = in_background(&service, "/output", &body(&["other"], json!({})));
    eventually("the other is asked for", PATIENCE, || (super::count(&s3, "other") == 1).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!other.is_finished(), "there is no room for it yet");
    assert_eq!(std::fs::metadata(only_copy_of(&setup, SIZE)).unwrap().len(), SIZE as u64);
    std::fs::write(folder.join("go"), "").unwrap();
    let read = eventually("the script has read", PATIENCE, || std::fs::read_to_string(folder.join("read")).ok());
    assert_eq!(read, (2 * SIZE).to_string());
    assert_eq!(vector(&other.join().unwrap()), [SIZE as f64]);
    let copy = std::fs::read(only_copy(&setup)).unwrap();
    assert!(copy == vec![3; SIZE], "now the first has made room");
}

#[test]
fn a_cache_that_is_full_of_files_in_use_says_so() {
    let s3 = super::serving(|_| vec![1; SIZE]);
    let setup = reaching(Setup::inline(Language::Python, "patient", PATIENT), &s3.endpoint);
    let setup = setup.flags(&["--workers", "2", "--cache-bytes", "1MiB", "--max-batch", "1"]);
    let service = setup.start();
    let folder = setup.folder().join("signs");
    std::fs::create_dir(&folder).unwrap();
    let first = in_background(&service, "/output", &body(&["read"], json!({"folder": folder})));
    eventually("the script has begun", PATIENCE, || folder.join("begun").exists().then_some(()));
    let answer = service.post("/output", &body(&["other"], json!({})));
    let detail = answer.expect_problem(503, "cache_full");
    assert!(detail.contains("`--cache-bytes`") && detail.contains("s3://walks/other"), "{detail}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    std::fs::write(folder.join("go"), "").unwrap();
    assert_eq!(vector(&first.join().unwrap()), [1.0]);
    assert_eq!(service.output(&body(&["other"], json!({}))), [SIZE as f64]);
}

/// The one complete copy of this size.
fn only_copy_of(setup: &Setup, size: usize) -> std::path::PathBuf {
    let is_whole = |path: &std::path::PathBuf| std::fs::metadata(path).is_ok_and(|found| found.len() == size as u64);
    let whole: Vec<_> = super::cached(setup).into_iter().filter(is_whole).collect();
    assert_eq!(whole.len(), 1, "{whole:?}");
    whole.into_iter().next().unwrap()
}
