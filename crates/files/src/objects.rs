//! Objects in S3, by way of the cache.

use dunnage_types::{FileAddress, ObjectPrefix};

use crate::FileProblem;
use crate::cache::{Cache, Cached, RequestQuota};
use crate::source::{ObjectAddress, Urgency};

/// Which objects are served, and the cache that they come from.
pub(crate) struct Objects {
    cache: Cache,
    /// What clients may name; everything when it is empty.
    allowed: Vec<ObjectPrefix>,
    /// Where the service keeps its own, which clients may name only if it is allowed in so many words.
    own: Option<ObjectPrefix>,
}

impl Objects {
    pub(crate) fn new(cache: Cache, allowed: Vec<ObjectPrefix>, own: Option<ObjectPrefix>) -> Self {
        Self { cache, allowed, own }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// An object that a client has named, held for as long as the answer is.
    pub(crate) async fn fetch(&self, object: &ObjectAddress, quota: &RequestQuota) -> Result<Cached, FileProblem> {
        self.refuse_others(object)?;
        self.cache.fetch(object, Urgency::Wanted, quota).await
    }

    /// An object of the service itself.
    pub(crate) async fn fetch_own(&self, object: &ObjectAddress, quota: &RequestQuota) -> Result<Cached, FileProblem> {
        self.cache.fetch(object, Urgency::Wanted, quota).await
    }

    /// Fetches an object that a client has named and may want soon. Whether it can be had shows when it is wanted.
    pub(crate) async fn fetch_ahead(&self, object: &ObjectAddress) -> Result<(), FileProblem> {
        self.refuse_others(object)?;
        self.cache.prefetch(object).await
    }

    fn refuse_others(&self, object: &ObjectAddress) -> Result<(), FileProblem> {
        let holds = |place: &ObjectPrefix| place.holds(&object.bucket, &object.key);
        let is_own = self.own.as_ref().is_some_and(holds);
        let is_allowed = self.allowed.iter().any(holds) || self.allowed.is_empty() && !is_own;
        if is_allowed { Ok(()) } else { Err(FileProblem::NotAllowed) }
    }
}

/// The object that an address names, if it names one.
pub(crate) fn object_of(address: &FileAddress) -> Option<ObjectAddress> {
    match address {
        FileAddress::S3 { bucket, key, version_id } => {
            Some(ObjectAddress { bucket: bucket.clone(), key: key.clone(), version_id: version_id.clone() })
        }
        FileAddress::Local(_) | FileAddress::Upload { .. } => None,
    }
}
