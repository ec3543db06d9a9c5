//! A plain client, for what a test has to arrange: it signs, and retries nothing.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::http::{Request, Response};

/// Who asks, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The id of the access key.
    pub key_id: String,
    /// The access key itself.
    pub secret: String,
    /// The region that requests are signed for.
    pub region: String,
}

impl Account {
    /// The URL of the server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What programs that speak to S3 look for in their environment.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", self.key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone()),
            ("AWS_REGION", self.region.clone()),
        ]
    }

    /// Makes a bucket.
    ///
    /// # Panics
    ///
    /// When the server does not make it.
    pub fn create_bucket(&self, bucket: &str) {
        self.expect("PUT", &format!("/{bucket}"), "", Vec::new());
    }

    /// Has a bucket keep every version of its objects.
    ///
    /// # Panics
    ///
    /// When the server does not do so.
    pub fn keep_versions(&self, bucket: &str) {
        let configuration = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.expect("PUT", &format!("/{bucket}"), "versioning=", configuration.into());
    }

    /// Writes an object; its version, if the bucket keeps them.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Vec<u8>>) -> Option<String> {
        let answer = self.expect("PUT", &path(bucket, key), "", bytes.into());
        answer.header("x-amz-version-id").map(str::to_owned)
    }

    /// Reads an object, or `None` when there is none.
    ///
    /// # Panics
    ///
    /// When the server answers anything else.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.send("GET", &path(bucket, key), "", Vec::new());
        match answer.status {
            200 => Some(answer.bytes().to_vec()),
            404 => None,
            other => panic!("GET of s3://{bucket}/{key} answered {other}: {}", answer.text()),
        }
    }

    /// Removes an object.
    ///
    /// # Panics
    ///
    /// When the server does not remove it.
    pub fn remove(&self, bucket: &str, key: &str) {
        self.expect("DELETE", &path(bucket, key), "", Vec::new());
    }

    /// The keys in a bucket that begin with `prefix`; the first thousand of them.
    ///
    /// # Panics
    ///
    /// When the server does not list them.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let query = format!("list-type=2&prefix={}", encoded(prefix, false));
        let text = self.expect("GET", &format!("/{bucket}"), &query, Vec::new()).text().to_owned();
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    /// Whether a bucket is there, and this account may list it.
    pub(super) fn is_listed(&self, bucket: &str) -> bool {
        self.send("GET", &format!("/{bucket}"), "list-type=2", Vec::new()).status == 200
    }

    #[track_caller]
    fn expect(&self, method: &str, path: &str, query: &str, body: Vec<u8>) -> Response {
        let answer = self.send(method, path, query, body);
        assert!((200..300).contains(&answer.status), "{method} {path} answered {}: {}", answer.status, answer.text());
        answer
    }

    /// Sends a request, signed as "AWS Signature Version 4 for API requests" in the IAM user guide has it.
    #[track_caller]
    fn send(&self, method: &str, path: &str, query: &str, body: Vec<u8>) -> Response {
        let (digest, time) = (hex(&Sha256::digest(&body)), timestamp());
        let scope = format!("{}/{}/s3/aws4_request", &time[..8], self.region);
        let signed = [("host", self.address.to_string()), ("x-amz-content-sha256", digest.clone()), ("x-amz-date", time.clone())];
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names = signed.map(|(name, _)| name).join(";");
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}");
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let secret = format!("AWS4{}", self.secret).into_bytes();
        let key = scope.split('/').fold(secret, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        let credential =
            format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.key_id);
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let request = Request::new(method, &target)
            .header("Host", &self.address.to_string())
            .header("X-Amz-Content-Sha256", &digest)
            .header("X-Amz-Date", &time)
            .header("Authorization", &credential);
        let request = if method == "PUT" { request.body("application/octet-stream", body) } else { request };
        request.send(self.address).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

fn path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encoded(key, true))
}

/// Percent-encoded, as signatures have it.
fn encoded(text: &str, keep_slashes: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep_slashes && byte == b'/';
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time as `20261126T123456Z`.
fn timestamp() -> String {
    let [year, month, day, hour, minute, second] = calendar(SystemTime::now());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month, day, hour, minute and second of a time, in UTC.
pub(super) fn calendar(time: SystemTime) -> [u64; 6] {
    let seconds = time.duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs();
    let (year, month, day) = date(seconds / 86_400);
    [year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]
}

/// Year, month and day of the Gregorian calendar, so many days after 1 January 1970.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, expected) in [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (789, (1972, 2, 29)), (20_783, (2026, 11, 26))] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn keys_are_encoded_for_a_signature() {
        assert_eq!(path("b", "a b/ü+?.csv"), "/b/a%20b/%C3%BC%2B%3F.csv");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
