//! The clients of the SDK, made when S3 is first used.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Config, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::sync::Mutex;

use super::settings::S3Settings;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many buckets' regions are remembered; buckets in the configured region need none.
const REMEMBERED_REGIONS: usize = 1024;

/// The clients of the SDK, one a region, that share their connections and credentials.
///
/// Nothing is resolved, read or connected before the first [`client`](Self::client). Those who ask meanwhile wait for the same
/// one, so the lock is held while the configuration loads.
#[derive(Debug)]
pub(super) struct Connection {
    settings: S3Settings,
    /// In place of those that would be looked up.
    credentials: Option<SharedCredentialsProvider>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often a configuration was loaded.
    generation: u64,
    config: Option<Config>,
    clients: HashMap<Option<String>, Client>,
    /// The region of buckets that are not in the configured one.
    regions: HashMap<String, String>,
}

/// The client for a bucket, and the configuration that it belongs to.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) generation: u64,
}

impl Connection {
    /// Connects to nothing yet.
    pub(super) fn new(settings: S3Settings, credentials: Option<SharedCredentialsProvider>) -> Self {
        Self { settings, credentials, state: Mutex::default() }
    }

    /// The client for a bucket's region.
    pub(super) async fn client(&self, bucket: &str) -> Connected {
        let mut state = self.state.lock().await;
        let config = match state.config.take() {
            Some(config) => config,
            None => self.load(&mut state).await,
        };
        let region = state.regions.get(bucket).cloned();
        let client = state.clients.entry(region.clone()).or_insert_with(|| Client::from_conf(in_region(&config, region))).clone();
        state.config = Some(config);
        Connected { client, generation: state.generation }
    }

    /// Remembers a bucket's region; `false` if that is what was known already.
    pub(super) async fn remember(&self, bucket: &str, region: &str) -> bool {
        let mut state = self.state.lock().await;
        if state.regions.len() >= REMEMBERED_REGIONS {
            state.regions.clear();
            state.clients.clear();
        }
        state.regions.insert(bucket.to_owned(), region.to_owned()).as_deref() != Some(region)
    }

    /// Has the credentials and everything else looked up anew, unless that was done since `generation`.
    pub(super) async fn renew(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.config = None;
            state.clients.clear();
        }
    }

    async fn load(&self, state: &mut State) -> Config {
        state.generation += 1;
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone()).region(self.region(http));
        if let Some(endpoint) = &self.settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if self.settings.anonymous {
            loader = loader.no_credentials();
        }
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        let shared = loader.load().await;
        let path_style = self.settings.path_style.unwrap_or_else(|| self.has_endpoint() || shared.endpoint_url().is_some());
        aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(path_style)
            // Retries, stalls and checksums are this module's, where resumption and parts are known.
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT.min(self.settings.stall))
                    .read_timeout(self.settings.stall)
                    .build(),
            )
            .build()
    }

    /// EC2 is asked for its region only where S3 is AWS's: elsewhere the question costs seconds and answers nothing.
    fn region(&self, http: SharedHttpClient) -> RegionProviderChain {
        let chain = RegionProviderChain::first_try(self.settings.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        if self.has_endpoint() {
            return chain.or_else("us-east-1");
        }
        let lookups = ProviderConfig::without_region().with_http_client(http);
        chain.or_else(ImdsRegionProvider::builder().configure(&lookups).build()).or_else("us-east-1")
    }

    /// Where the SDK finds an endpoint, it does not say so.
    fn has_endpoint(&self) -> bool {
        let named = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.settings.endpoint.is_some() || named("AWS_ENDPOINT_URL_S3") || named("AWS_ENDPOINT_URL")
    }
}

fn in_region(config: &Config, region: Option<String>) -> Config {
    match region {
        Some(region) => config.to_builder().region(Region::new(region)).build(),
        None => config.clone(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::Credentials;
    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;

    fn connection(settings: S3Settings) -> Connection {
        let credentials = Credentials::new("AKID", "secret", None, None, "test");
        let region = Some("us-east-1".to_owned());
        Connection::new(S3Settings { region, ..settings }, Some(SharedCredentialsProvider::new(credentials)))
    }

    /// Where a request for an object would go, which nobody sends.
    async fn address(connection: &Connection, bucket: &str) -> String {
        let client = connection.client(bucket).await.client;
        let until = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let request = client.get_object().bucket(bucket).key("a/../b c").presigned(until).await.unwrap();
        request.uri().split_once('?').unwrap().0.to_owned()
    }

    #[tokio::test]
    async fn a_bucket_elsewhere_is_asked_at_its_regions_own_address() {
        let connection = connection(S3Settings::default());
        assert_eq!(address(&connection, "scans").await, "https://scans.s3.us-east-1.amazonaws.com/a/../b%20c");
        assert!(connection.remember("scans", "eu-west-1").await);
        assert!(!connection.remember("scans", "eu-west-1").await, "that is known already");
        assert_eq!(address(&connection, "scans").await, "https://scans.s3.eu-west-1.amazonaws.com/a/../b%20c");
        assert_eq!(address(&connection, "other").await, "https://other.s3.us-east-1.amazonaws.com/a/../b%20c");
    }

    #[tokio::test]
    async fn an_endpoint_stays_whatever_the_region() {
        let endpoint = Some("http://127.0.0.1:9000".to_owned());
        let connection = connection(S3Settings { endpoint, ..S3Settings::default() });
        connection.remember("scans", "eu-west-1").await;
        assert_eq!(address(&connection, "scans").await, "http://127.0.0.1:9000/scans/a/../b%20c");
    }

    #[tokio::test]
    async fn the_path_names_the_bucket_only_if_that_is_wanted() {
        let endpoint = Some("http://localhost:9000".to_owned());
        let virtual_host = connection(S3Settings { endpoint, path_style: Some(false), ..S3Settings::default() });
        assert_eq!(address(&virtual_host, "scans").await, "http://scans.localhost:9000/a/../b%20c");
        let path = connection(S3Settings { path_style: Some(true), ..S3Settings::default() });
        assert_eq!(address(&path, "scans").await, "https://s3.us-east-1.amazonaws.com/scans/a/../b%20c");
    }

    #[tokio::test]
    async fn a_configuration_is_loaded_once_and_renewed_once_for_all_who_saw_it_fail() {
        let connection = connection(S3Settings::default());
        assert_eq!(connection.client("scans").await.generation, 1);
        assert_eq!(connection.client("other").await.generation, 1);
        connection.renew(1).await;
        assert_eq!(connection.client("scans").await.generation, 2);
        connection.renew(1).await;
        assert_eq!(connection.client("scans").await.generation, 2);
    }
}
