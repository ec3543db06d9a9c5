//! How S3 is reached.

use std::time::Duration;

/// How S3 is reached, and with what patience. What is not set here comes from the places where every AWS program looks: the
/// environment, the profile files, web identity, ECS and EC2.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// Where S3 is, for everything that is not AWS itself, as `http://127.0.0.1:9000` (`--s3-endpoint`). By default
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's, or else AWS.
    pub endpoint: Option<String>,
    /// The region to sign for and, without an endpoint, to ask in (`--s3-region`). By default `AWS_REGION`, the profile's, the
    /// machine's own, or else `us-east-1`. Buckets elsewhere are found by themselves.
    pub region: Option<String>,
    /// Whether the bucket is named in the path instead of the host (`--s3-path-style`). By default if an endpoint is set.
    pub path_style: Option<bool>,
    /// Whether requests are left unsigned, for public buckets (`--s3-anonymous`).
    pub anonymous: bool,
    /// How many bytes one ranged request asks for at most, and how large a part of an upload is at least. 8 MiB by default.
    pub part_bytes: u64,
    /// How many bytes may be on their way at a time, in all requests together (`--fetch-bytes`). At least one part is. 256 MiB by
    /// default.
    pub in_flight_bytes: u64,
    /// For how long S3 may send nothing, or less than 1 KiB a second, before the request is given up (`--s3-stall`). 10 s by
    /// default.
    pub stall: Duration,
    /// How often a request is tried again when that may help. 3 by default; no try begins more than 10 s after the first.
    pub retries: u32,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            anonymous: false,
            part_bytes: 8 << 20,
            in_flight_bytes: 256 << 20,
            stall: Duration::from_secs(10),
            retries: 3,
        }
    }
}
