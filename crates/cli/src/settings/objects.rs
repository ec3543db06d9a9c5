//! The settings of objects in S3, of the copies kept of them, and of the artifacts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueHint, builder::BoolishValueParser};
use dunnage_server::{ObjectConfig, Revalidate};
use dunnage_types::ObjectPrefix;

use super::value;

/// Less would not even hold what one connection has in flight.
const LEAST_FETCH_BYTES: ByteSize = ByteSize::mib(8);

/// Objects in S3, the copies kept of them, and the artifacts.
#[derive(Debug, Clone, Args)]
pub(crate) struct ObjectSettings {
    /// Where the service keeps artifacts and the uploads of jobs for all its replicas; without it, in the data folder
    #[arg(long, env = "DUNNAGE_BUCKET", value_name = "s3://BUCKET/PREFIX")]
    pub(crate) bucket: Option<ObjectPrefix>,
    /// A bucket or prefix whose objects clients may name in `Files`, repeatable; by default all that the server may read
    #[arg(long, env = "DUNNAGE_ALLOW_FILES", value_name = "s3://BUCKET/PREFIX", value_delimiter = ',')]
    pub(crate) allow_files: Vec<ObjectPrefix>,
    /// A bucket or prefix that jobs may have their results written to, repeatable; none are without it
    #[arg(long, env = "DUNNAGE_ALLOW_OUTPUT", value_name = "s3://BUCKET/PREFIX", value_delimiter = ',')]
    pub(crate) allow_output: Vec<ObjectPrefix>,
    /// The URL of an S3 server other than Amazon's
    #[arg(long, env = "DUNNAGE_S3_ENDPOINT", value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The region of the buckets; by default what the usual AWS settings say
    #[arg(long, env = "DUNNAGE_S3_REGION", value_name = "REGION")]
    pub(crate) s3_region: Option<String>,
    /// Whether buckets are named in the path instead of the host; by default where there is an `--s3-endpoint`
    #[arg(long, env = "DUNNAGE_S3_PATH_STYLE", value_name = "true|false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) s3_path_style: Option<bool>,
    /// Ask S3 without credentials, for public buckets
    #[arg(long, env = "DUNNAGE_S3_ANONYMOUS", value_name = "true|false", default_value = "false",
          default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(),
          hide_possible_values = true)]
    pub(crate) s3_anonymous: bool,
    /// The folder for copies of objects; by default in the data folder
    #[arg(long, env = "DUNNAGE_CACHE_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// How much disk the copies may take up
    #[arg(long, env = "DUNNAGE_CACHE_BYTES", value_name = "SIZE", default_value = "10GiB", value_parser = value::size)]
    pub(crate) cache_bytes: ByteSize,
    /// The largest object that is fetched; by default whatever fits into the cache
    #[arg(long, env = "DUNNAGE_MAX_FILE", value_name = "SIZE", value_parser = value::size)]
    pub(crate) max_file: Option<ByteSize>,
    /// When S3 is asked whether a copy is still the object: `always`, `never`, or when the copy is older than a time such as 60s
    #[arg(long, env = "DUNNAGE_REVALIDATE", value_name = "always|never|TIME", default_value = "always")]
    pub(crate) revalidate: Revalidate,
    /// How many bytes of objects may be on their way at once; further requests wait
    #[arg(long, env = "DUNNAGE_FETCH_BYTES", value_name = "SIZE", default_value = "256MiB", value_parser = value::size)]
    pub(crate) fetch_bytes: ByteSize,
    /// How long one object may take to arrive
    #[arg(long, env = "DUNNAGE_FETCH_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = value::duration)]
    pub(crate) fetch_timeout: Duration,
    /// How long S3 may send nothing before it is asked again
    #[arg(long, env = "DUNNAGE_FETCH_STALL", value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub(crate) fetch_stall: Duration,
    /// Of how many waiting jobs the objects are fetched while earlier jobs run; 0 for none
    #[arg(long, env = "DUNNAGE_PREFETCH", value_name = "COUNT", default_value_t = 4)]
    pub(crate) prefetch: u32,
    /// How large an artifact may be in all
    #[arg(long, env = "DUNNAGE_MAX_ARTIFACT_BYTES", value_name = "SIZE", default_value = "10GiB", value_parser = value::size)]
    pub(crate) max_artifact_bytes: ByteSize,
    /// How many files an artifact may have
    #[arg(long, env = "DUNNAGE_MAX_ARTIFACT_FILES", value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) max_artifact_files: usize,
}

impl ObjectSettings {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.s3_endpoint.as_deref().is_some_and(|url| !is_plain_url(url)) {
            problems.push("`--s3-endpoint` must be like https://s3.example or http://127.0.0.1:3900, without a path".to_owned());
        }
        if self.cache_bytes == ByteSize(0) {
            problems.push("`--cache-bytes` must be at least 1".to_owned());
        }
        if self.fetch_bytes < LEAST_FETCH_BYTES {
            problems.push("`--fetch-bytes` must be at least 8MiB".to_owned());
        }
        let times = [("fetch-timeout", self.fetch_timeout), ("fetch-stall", self.fetch_stall)];
        let zeros = times.iter().filter(|(_, time)| time.is_zero());
        problems.extend(zeros.map(|(name, _)| format!("`--{name}` must be longer than 0s")));
    }

    pub(super) fn config(&self, data_dir: &Path) -> ObjectConfig {
        ObjectConfig {
            bucket: self.bucket.clone(),
            allow_files: self.allow_files.clone(),
            allow_output: self.allow_output.clone(),
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            path_style: self.s3_path_style,
            anonymous: self.s3_anonymous,
            cache_dir: self.cache_dir.clone().unwrap_or_else(|| data_dir.join("cache")),
            cache_bytes: self.cache_bytes.as_u64(),
            max_file_bytes: self.max_file.map(|size| size.as_u64()),
            revalidate: self.revalidate,
            fetch_bytes: self.fetch_bytes.as_u64(),
            fetch_timeout: self.fetch_timeout,
            fetch_stall: self.fetch_stall,
            prefetch: self.prefetch,
            max_artifact_bytes: self.max_artifact_bytes.as_u64(),
            max_artifact_files: self.max_artifact_files,
        }
    }
}

/// A scheme, a host, perhaps a port, and nothing else: no credentials, which do not belong there, and no path.
fn is_plain_url(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| {
        let host = host.strip_suffix('/').unwrap_or(host);
        !host.is_empty() && host.chars().all(|character| character.is_ascii_alphanumeric() || "-._:[]".contains(character))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_and_a_host() {
        for url in ["https://s3.example", "http://127.0.0.1:3900", "http://[::1]:3900/"] {
            assert!(is_plain_url(url), "{url}");
        }
        for url in ["s3.example", "ftp://s3.example", "https://", "https://key:secret@s3.example", "https://s3.example/bucket"] {
            assert!(!is_plain_url(url), "{url}");
        }
    }
}
