//! What operators watch of the files: the cache, and the way to S3.

use dunnage_files::{CacheCounters, Files};
use prometheus::{IntCounter, IntGauge};

use crate::metrics::{Register, as_gauge};

/// The metrics of the files.
pub(crate) struct FileMetrics {
    hits: IntCounter,
    misses: IntCounter,
    revalidations: IntCounter,
    evictions: IntCounter,
    fetched_bytes: IntCounter,
    disk_failures: IntCounter,
    bytes: IntGauge,
    files: IntGauge,
    outage: IntGauge,
}

impl FileMetrics {
    pub(crate) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register.add(IntCounter::new(name, help)?);
        Ok(Self {
            hits: counter("file_cache_hits_total", "Objects that were answered from the cache")?,
            misses: counter("file_cache_misses_total", "Objects that had to be fetched, or waited for while they were")?,
            revalidations: counter("file_cache_revalidations_total", "Times that S3 was asked whether a copy is still the object")?,
            evictions: counter("file_cache_evictions_total", "Copies that were removed to make room")?,
            fetched_bytes: counter("files_fetched_bytes_total", "Bytes of objects that were fetched")?,
            disk_failures: counter("file_cache_disk_failures_total", "Times that the disk of the cache failed")?,
            bytes: register.gauge("file_cache_bytes", "Bytes that the copies of objects take up")?,
            files: register.gauge("file_cache_files", "Copies of objects in the cache")?,
            outage: register.gauge("s3_outage", "1 while S3 is not asked because it has failed several times in a row")?,
        })
    }

    /// Brings the metrics up to date.
    pub(crate) fn take(&self, files: &Files) {
        let CacheCounters { hits, misses, revalidations, evictions, bytes_fetched, bytes, files: count, disk_failures } =
            files.cache_counters();
        let counters = [
            (&self.hits, hits),
            (&self.misses, misses),
            (&self.revalidations, revalidations),
            (&self.evictions, evictions),
            (&self.fetched_bytes, bytes_fetched),
            (&self.disk_failures, disk_failures),
        ];
        for (counter, total) in counters {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        self.bytes.set(as_gauge(bytes));
        self.files.set(as_gauge(count));
        self.outage.set(files.outage().is_some().into());
    }
}
