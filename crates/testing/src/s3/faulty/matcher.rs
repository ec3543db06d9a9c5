//! Which requests a fault is for.

use std::sync::Arc;

use super::record::Request;

/// A question about requests. Paths are `bucket/key`, as text and not encoded.
#[derive(Clone)]
pub struct Matcher(Arc<dyn Fn(&Request) -> bool + Send + Sync>);

impl Matcher {
    /// Those for which `is_meant` is true.
    #[must_use]
    pub fn new(is_meant: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_meant))
    }

    /// All of them.
    #[must_use]
    pub fn any() -> Self {
        Self::new(|_| true)
    }

    /// Those with this method.
    #[must_use]
    pub fn method(method: &str) -> Self {
        let method = method.to_owned();
        Self::new(move |request| request.method == method)
    }

    /// Those that read this object.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::method("GET").path(path)
    }

    /// Those that ask what this object is like.
    #[must_use]
    pub fn head(path: &str) -> Self {
        Self::method("HEAD").path(path)
    }

    /// Those that write this object or a part of it.
    #[must_use]
    pub fn put(path: &str) -> Self {
        Self::method("PUT").path(path)
    }

    /// And of them those for this path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        let path = path.to_owned();
        self.and(move |request| request.path == path)
    }

    /// And of them those that have this in their query, with any value.
    #[must_use]
    pub fn query(self, name: &'static str) -> Self {
        self.and(move |request| request.query(name).is_some())
    }

    /// And of them those for which `is_meant` is true.
    #[must_use]
    pub fn and(self, is_meant: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |request| self.matches(request) && is_meant(request))
    }

    pub(super) fn matches(&self, request: &Request) -> bool {
        (self.0)(request)
    }
}
