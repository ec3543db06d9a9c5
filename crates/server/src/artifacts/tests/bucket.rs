//! A bucket in memory that fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use dunnage_files::{FileError, FileProblem};
use dunnage_types::FileAddress;

use super::super::objects::{Objects, StoredObject};

/// Objects and what was done with them.
#[derive(Default)]
pub(super) struct FakeBucket {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, SystemTime)>,
    puts: Vec<String>,
    gets: Vec<String>,
    removed: Vec<String>,
    refuse_puts: Box<dyn PutFault>,
}

/// Says how the put of a number, counted from 1, fails.
trait PutFault: Send {
    fn of(&self, number: usize) -> Option<FileProblem>;
}

impl<F: Fn(usize) -> Option<FileProblem> + Send> PutFault for F {
    fn of(&self, number: usize) -> Option<FileProblem> {
        self(number)
    }
}

impl Default for Box<dyn PutFault> {
    fn default() -> Self {
        Box::new(|_| None)
    }
}

impl FakeBucket {
    /// Has puts fail as `fault` says of their numbers, counted from 1 with the next.
    pub(super) fn fail_puts(&self, fault: impl Fn(usize) -> Option<FileProblem> + Send + 'static) {
        let mut state = self.lock();
        state.puts.clear();
        state.refuse_puts = Box::new(fault);
    }

    /// Alters what is stored; `None` loses it.
    pub(super) fn alter(&self, ending: &str, alter: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let mut state = self.lock();
        let key = state.objects.keys().find(|key| key.ends_with(ending)).cloned().unwrap();
        let (bytes, modified) = state.objects.remove(&key).unwrap();
        if let Some(altered) = alter(&bytes) {
            state.objects.insert(key, (altered.into(), modified));
        }
    }

    /// Has everything whose key holds `part` be older by `age`.
    pub(super) fn age(&self, part: &str, age: Duration) {
        let mut state = self.lock();
        state.objects.iter_mut().filter(|(key, _)| key.contains(part)).for_each(|(_, (_, modified))| *modified -= age);
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// The keys that puts were tried for, in order.
    pub(super) fn puts(&self) -> Vec<String> {
        self.lock().puts.clone()
    }

    /// The keys that have been asked for since the last call.
    pub(super) fn take_gets(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().gets)
    }

    pub(super) fn removed(&self) -> Vec<String> {
        self.lock().removed.clone()
    }

    pub(super) fn add(&self, key: &str, bytes: Bytes) {
        self.lock().objects.insert(key.to_owned(), (bytes, SystemTime::now()));
    }

    fn put_now(&self, key: &str, bytes: Bytes) -> Result<(), FileError> {
        let mut state = self.lock();
        state.puts.push(key.to_owned());
        match state.refuse_puts.of(state.puts.len()) {
            Some(problem) => Err(failed(key, problem)),
            None => {
                state.objects.insert(key.to_owned(), (bytes, SystemTime::now()));
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn failed(key: &str, problem: FileProblem) -> FileError {
    let address = FileAddress::S3 { bucket: "bucket".to_owned(), key: key.to_owned(), version_id: None };
    FileError { address, problem }
}

#[async_trait]
impl Objects for FakeBucket {
    async fn put(&self, key: &str, path: &Path) -> Result<(), FileError> {
        tokio::task::yield_now().await;
        self.put_now(key, std::fs::read(path).unwrap().into())
    }

    async fn put_bytes(&self, key: &str, bytes: Bytes, content_type: &str) -> Result<(), FileError> {
        assert_eq!(content_type, "application/json");
        self.put_now(key, bytes)
    }

    async fn get(&self, key: &str, to: &Path, limit: u64) -> Result<(), FileError> {
        let bytes = self.get_bytes(key, limit).await?;
        std::fs::File::create_new(to).unwrap().write_all(&bytes).unwrap();
        Ok(())
    }

    async fn get_bytes(&self, key: &str, limit: u64) -> Result<Bytes, FileError> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        state.gets.push(key.to_owned());
        let (bytes, _) = state.objects.get(key).ok_or_else(|| failed(key, FileProblem::Missing))?;
        let size = bytes.len() as u64;
        let too_large = || failed(key, FileProblem::TooLarge { size, limit, flag: "--none" });
        if size > limit { Err(too_large()) } else { Ok(bytes.clone()) }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, FileError> {
        let state = self.lock();
        let found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, (_, modified))| StoredObject { key: key.clone(), modified: *modified }).collect())
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, FileError> {
        let state = self.lock();
        let below = state.objects.keys().filter_map(|key| key.strip_prefix(prefix)?.split_once('/'));
        Ok(below.map(|(folder, _)| folder.to_owned()).collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn remove(&self, keys: Vec<String>) -> Result<(), FileError> {
        let mut state = self.lock();
        for key in keys {
            state.objects.remove(&key);
            state.removed.push(key);
        }
        Ok(())
    }

    async fn abort_stale_uploads(&self, age: Duration) -> Result<usize, FileError> {
        assert!(age >= Duration::from_hours(24), "it may be under way");
        Ok(0)
    }
}
