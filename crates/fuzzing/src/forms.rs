//! The forms of `/train`, `/input` and `/output`.

use std::cell::RefCell;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use dunnage_files::Uploads;
use dunnage_server::fuzzing::{Submitted, form};
use dunnage_server::{Code, Problem};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::bodies::{MAX_FILES, is_complete, is_fit_for_clients};

const MAX_BYTES: u64 = 4096;
/// What may be wrong with a form.
const REFUSALS: [Code; 5] = [Code::BodyMalformed, Code::BodyTooLarge, Code::RequestInvalid, Code::FilesMissing, Code::TooManyFiles];

/// Reads a form that comes in pieces, as long as the first byte says; with a byte that is odd, the rest is not the form but says what
/// is in one.
///
/// The files are those that were sent, whatever their names are. Nothing is left of a form, whether it is accepted or not.
pub fn forms(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let step = usize::from(first).max(1);
    if first.is_multiple_of(2) {
        read(rest, step, |outcome| match outcome {
            Ok(submitted) => is_complete(&submitted),
            Err(problem) => is_fit_for_clients(&problem, &REFUSALS),
        });
    } else if let Ok(files) = Vec::<File>::arbitrary(&mut Unstructured::new(rest)) {
        arrives_whole(&files, step);
    }
}

#[derive(Debug, Arbitrary)]
struct File<'a> {
    name: &'a str,
    contents: &'a [u8],
}

impl File<'_> {
    /// The name as it may stand in a header.
    fn quoted(&self) -> String {
        self.name.chars().filter(|character| !character.is_control() && !matches!(character, '"' | '\\')).collect()
    }

    /// Whether the contents could be taken for the end of the file.
    fn ends_early(&self) -> bool {
        self.contents.windows(5).any(|window| window == b"--cut")
    }
}

fn arrives_whole(files: &[File<'_>], step: usize) {
    if files.iter().any(File::ends_early) {
        return;
    }
    let mut sent = Vec::new();
    for file in files {
        let head = format!("--cut\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{}\"\r\n\r\n", file.quoted());
        sent.extend([head.as_bytes(), file.contents, b"\r\n"].concat());
    }
    sent.extend(b"--cut--\r\n");
    let bytes: usize = files.iter().map(|file| file.contents.len()).sum();
    let fits = (1..=MAX_FILES).contains(&files.len()) && bytes as u64 <= MAX_BYTES;
    read(&sent, step, |outcome| match outcome {
        Ok(submitted) => {
            assert!(fits, "more was accepted than is allowed");
            let upload = submitted.upload.as_ref().expect("a form brings files along");
            let digests: Vec<[u8; 32]> = upload.files().iter().map(|(_, digest)| *digest).collect();
            assert_eq!(digests, files.iter().map(|file| Sha256::digest(file.contents).into()).collect::<Vec<[u8; 32]>>());
        }
        Err(problem) => assert!(!fits, "{problem}"),
    });
}

/// A place for uploads, and somebody to wait for them.
struct Ground {
    folder: TempDir,
    uploads: Uploads,
    runtime: Runtime,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let uploads = Uploads::open(folder.path()).expect("the folder is ours");
        let runtime = Builder::new_current_thread().build().expect("a thread is enough");
        Self { folder, uploads, runtime }
    }
}

thread_local! {
    static GROUND: RefCell<Ground> = RefCell::new(Ground::new());
}

fn read(sent: &[u8], step: usize, judge: impl Fn(Result<Submitted, Problem>)) {
    let chunks = sent.chunks(step).map(Bytes::copy_from_slice).collect();
    GROUND.with_borrow(|Ground { folder, uploads, runtime }| {
        judge(runtime.block_on(form(chunks, uploads, MAX_FILES, MAX_BYTES)));
        let left = std::fs::read_dir(folder.path()).expect("the folder is ours").count();
        assert_eq!(left, 0, "something is left of the upload");
    });
}
