//! What one request may ask of the cache.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::FileProblem;
use crate::source::ObjectAddress;

/// The sizes of one request's objects, as they become known. A request that uses more than the cache holds would wait for itself; it
/// is refused instead. Each object counts once.
#[derive(Debug, Default)]
pub(crate) struct RequestQuota {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sizes: HashMap<ObjectAddress, u64>,
    sum: u64,
}

impl RequestQuota {
    /// Takes an object into account, or says that the request is too large.
    pub(super) fn admit(&self, object: &ObjectAddress, bytes: u64, capacity: u64) -> Result<(), FileProblem> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = known.sizes.get(object).copied().unwrap_or(0);
        let sum = (known.sum - counted).saturating_add(bytes);
        if sum > capacity {
            return Err(FileProblem::TooLargeTogether { limit: capacity });
        }
        known.sum = sum;
        known.sizes.insert(object.clone(), bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_counts_once_and_with_its_latest_size() {
        let object = |key: &str| ObjectAddress { bucket: "faces".into(), key: key.into(), version_id: None };
        let quota = RequestQuota::default();
        quota.admit(&object("a"), 60, 100).unwrap();
        quota.admit(&object("a"), 70, 100).unwrap();
        quota.admit(&object("b"), 30, 100).unwrap();
        assert!(matches!(quota.admit(&object("c"), 1, 100), Err(FileProblem::TooLargeTogether { limit: 100 })));
        quota.admit(&object("a"), 69, 100).unwrap();
        quota.admit(&object("c"), 1, 100).unwrap();
    }
}
