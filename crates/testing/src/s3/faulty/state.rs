//! What a faulty server holds: buckets with objects, uploads that have begun, and the faults to come.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use super::answer::Refusal;
use super::checksum::Algorithm;
use super::fault::Fault;
use super::matcher::Matcher;
use super::object::Object;
use super::record::Request;

#[derive(Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    /// By their ids.
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) rules: Vec<Rule>,
    /// How many ids have been given out.
    ids: u64,
}

#[derive(Default)]
pub(super) struct Bucket {
    pub(super) keeps_versions: bool,
    /// The versions of each key, the newest last.
    pub(super) objects: BTreeMap<String, Vec<Object>>,
}

/// A multipart upload that is neither complete nor aborted.
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) begun: SystemTime,
    /// The checksum that the object shall have, and whether it is one of the parts' checksums.
    pub(super) checksum: Option<(Algorithm, bool)>,
    pub(super) parts: BTreeMap<u32, Object>,
}

/// What goes wrong with requests that match.
pub(super) struct Rule {
    pub(super) matcher: Matcher,
    pub(super) faults: Faults,
}

pub(super) enum Faults {
    /// One a request, in this order.
    Listed(VecDeque<Fault>),
    /// With every request.
    Always(Fault),
}

impl State {
    /// The fault of a request: the next of the first list that is meant for it and not at its end, or else one that there always is.
    pub(super) fn fault(&mut self, request: &Request) -> Fault {
        let mut meant: Vec<&mut Rule> = self.rules.iter_mut().filter(|rule| rule.matcher.matches(request)).collect();
        let listed = meant.iter_mut().find_map(|rule| match &mut rule.faults {
            Faults::Listed(faults) => faults.pop_front(),
            Faults::Always(_) => None,
        });
        let always = meant.iter().find_map(|rule| match &rule.faults {
            Faults::Always(fault) => Some(fault.clone()),
            Faults::Listed(_) => None,
        });
        listed.or(always).unwrap_or(Fault::Pass)
    }

    pub(super) fn next_id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}-{}", self.ids)
    }

    pub(super) fn bucket(&self, name: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or_else(|| Refusal::new(404, "NoSuchBucket"))
    }

    pub(super) fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or_else(|| Refusal::new(404, "NoSuchBucket"))
    }

    /// Puts an object into a bucket that there is, and returns its version if those are kept.
    pub(super) fn put(&mut self, bucket: &str, key: &str, mut object: Object) -> Result<Option<String>, Refusal> {
        let id = self.next_id("version");
        let bucket = self.bucket_mut(bucket)?;
        if bucket.keeps_versions {
            object.version.get_or_insert(id);
        }
        let version = object.version.clone();
        let versions = bucket.objects.entry(key.to_owned()).or_default();
        versions.retain(|known| known.version != version);
        versions.push(object);
        Ok(version)
    }
}

impl Bucket {
    /// The newest version of an object, unless that is a mark that it was deleted.
    pub(super) fn newest(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)?.last().filter(|object| !object.is_delete_marker)
    }

    pub(super) fn version(&self, key: &str, version: &str) -> Option<&Object> {
        self.objects.get(key)?.iter().find(|object| object.version.as_deref() == Some(version))
    }

    /// Removes all of an object, or the version that is named.
    pub(super) fn remove(&mut self, key: &str, version: Option<&str>) {
        let Some(versions) = self.objects.get_mut(key) else { return };
        versions.retain(|object| version.is_some() && object.version.as_deref() != version);
        if versions.is_empty() {
            self.objects.remove(key);
        }
    }
}
