//! S3 as the cache sees it, without a network.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use crc_fast::CrcAlgorithm;
use tokio::sync::watch;

use crate::cache::{Cache, CacheSettings, Cached, RequestQuota, Revalidate};
use crate::source::{Asked, Incoming, ObjectAddress, ObjectInfo, Source, Urgency};
use crate::{FileProblem, SharedIoError};

/// Objects, and what happens to those who ask for them.
#[derive(Debug)]
pub(super) struct FakeS3 {
    objects: Mutex<HashMap<ObjectAddress, (Vec<u8>, String)>>,
    failure: Mutex<Option<FileProblem>>,
    /// Questions and bodies get no further while these are closed.
    questions: watch::Sender<bool>,
    bodies: watch::Sender<bool>,
    /// How many questions have arrived.
    pub(super) asked: watch::Sender<usize>,
    pub(super) conditional: AtomicUsize,
    /// How many bodies have begun to be written.
    pub(super) writing: watch::Sender<usize>,
    ignores_conditions: bool,
}

impl FakeS3 {
    pub(super) fn new() -> Self {
        Self {
            objects: Mutex::default(),
            failure: Mutex::default(),
            questions: watch::Sender::new(true),
            bodies: watch::Sender::new(true),
            asked: watch::Sender::new(0),
            conditional: AtomicUsize::new(0),
            writing: watch::Sender::new(0),
            ignores_conditions: false,
        }
    }

    /// A server that answers conditional questions with the object.
    pub(super) fn that_ignores_conditions() -> Self {
        Self { ignores_conditions: true, ..Self::new() }
    }

    pub(super) fn put(&self, object: &ObjectAddress, bytes: impl Into<Vec<u8>>, etag: &str) {
        self.objects.lock().unwrap().insert(object.clone(), (bytes.into(), etag.to_owned()));
    }

    pub(super) fn remove(&self, object: &ObjectAddress) {
        self.objects.lock().unwrap().remove(object);
    }

    pub(super) fn fail(&self, failure: Option<FileProblem>) {
        *self.failure.lock().unwrap() = failure;
    }

    pub(super) fn open_questions(&self, open: bool) {
        self.questions.send_replace(open);
    }

    pub(super) fn open_bodies(&self, open: bool) {
        self.bodies.send_replace(open);
    }

    pub(super) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    pub(super) fn conditional(&self) -> usize {
        self.conditional.load(Ordering::SeqCst)
    }

    /// Waits until that many questions have arrived.
    pub(super) async fn until_asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    /// Waits until that many bodies have begun to be written.
    pub(super) async fn until_writing(&self, times: usize) {
        self.writing.subscribe().wait_for(|writing| *writing >= times).await.unwrap();
    }
}

/// What the cache holds of the fake.
pub(super) struct Wire(pub(super) Arc<FakeS3>);

#[async_trait]
impl Source for Wire {
    async fn ask(&self, object: &ObjectAddress, held_etag: Option<&str>, _: Urgency) -> Result<Asked, FileProblem> {
        let s3 = self.0.clone();
        s3.asked.send_modify(|asked| *asked += 1);
        s3.conditional.fetch_add(usize::from(held_etag.is_some()), Ordering::SeqCst);
        let answer = s3.objects.lock().unwrap().get(object).cloned();
        s3.questions.subscribe().wait_for(|open| *open).await.unwrap();
        if let Some(failure) = s3.failure.lock().unwrap().clone() {
            return Err(failure);
        }
        let (bytes, etag) = answer.ok_or(FileProblem::Missing)?;
        if held_etag == Some(etag.as_str()) && !s3.ignores_conditions {
            return Ok(Asked::Unchanged);
        }
        let info = ObjectInfo { size: bytes.len() as u64, etag };
        Ok(Asked::Found(Box::new(Body { s3, bytes, info })))
    }
}

struct Body {
    s3: Arc<FakeS3>,
    bytes: Vec<u8>,
    info: ObjectInfo,
}

#[async_trait]
impl Incoming for Body {
    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    async fn save(self: Box<Self>, file: Arc<File>) -> Result<u64, FileProblem> {
        let disk = |error| FileProblem::CacheDisk(SharedIoError::new(error));
        let (first, second) = self.bytes.split_at(self.bytes.len() / 2);
        file.write_all_at(first, 0).map_err(disk)?;
        self.s3.writing.send_modify(|writing| *writing += 1);
        self.s3.bodies.subscribe().wait_for(|open| *open).await.unwrap();
        tokio::task::yield_now().await;
        file.write_all_at(second, first.len() as u64).map_err(disk)?;
        Ok(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &self.bytes))
    }
}

/// A cache with its S3 and its folder.
pub(super) struct Setup {
    pub(super) s3: Arc<FakeS3>,
    pub(super) cache: Cache,
    pub(super) settings: CacheSettings,
    pub(super) folder: tempfile::TempDir,
}

impl Setup {
    /// A cache that holds a MiB and never revalidates, unless `change` says otherwise.
    pub(super) fn new(change: impl FnOnce(&mut CacheSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = CacheSettings {
            folder: folder.path().join("cache"),
            capacity: 1 << 20,
            max_file: 1 << 30,
            revalidate: Revalidate::Never,
            patience: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(60),
        };
        change(&mut settings);
        let s3 = Arc::new(FakeS3::new());
        let cache = Cache::open(settings.clone(), Arc::new(Wire(s3.clone()))).unwrap();
        Self { s3, cache, settings, folder }
    }

    /// The server ends and starts again, after `meanwhile` was done to the folder of its files.
    pub(super) fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { s3, cache, settings, folder } = self;
        drop(cache);
        meanwhile(&settings.folder.join("1"));
        let cache = Cache::open(settings.clone(), Arc::new(Wire(s3.clone()))).unwrap();
        assert!(!settings.folder.join("2").exists(), "the former cache is still alive");
        Self { s3, cache, settings, folder }
    }

    pub(super) async fn fetch(&self, object: &ObjectAddress) -> Result<Cached, FileProblem> {
        self.cache.fetch(object, Urgency::Wanted, &RequestQuota::default()).await
    }

    /// Fetches and reads.
    pub(super) async fn read(&self, object: &ObjectAddress) -> Vec<u8> {
        std::fs::read(self.fetch(object).await.unwrap().path()).unwrap()
    }

    /// Begins a fetch, up to where it waits for something.
    pub(super) fn begin(&self, object: &ObjectAddress, urgency: Urgency) -> tokio::task::JoinHandle<Result<Cached, FileProblem>> {
        let (cache, object) = (self.cache.clone(), object.clone());
        tokio::spawn(async move { cache.fetch(&object, urgency, &RequestQuota::default()).await })
    }

    /// Everything in the folder of the files, and the bytes of it.
    pub(super) fn on_disk(&self) -> (Vec<String>, u64) {
        list(&self.settings.folder.join("1"))
    }
}

/// The files in a folder and their bytes. What vanishes meanwhile does not count.
pub(super) fn list(folder: &Path) -> (Vec<String>, u64) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let sized = entries.filter_map(|entry| Some((entry.file_name().into_string().unwrap(), entry.metadata().ok()?.len())));
    let (mut names, sizes): (Vec<_>, Vec<_>) = sized.unzip();
    names.sort();
    (names, sizes.into_iter().sum())
}

pub(super) fn object(key: &str) -> ObjectAddress {
    ObjectAddress { bucket: "faces".into(), key: key.into(), version_id: None }
}
