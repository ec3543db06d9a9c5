//! The clients of the SDK, made when S3 is first used.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Config, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
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
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http).region(self.region());
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
    fn region(&self) -> RegionProviderChain {
        let chain = RegionProviderChain::first_try(self.settings.region.clone().map(Region::new))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let chain = if self.has_endpoint() { chain } else { chain.or_default_provider() };
        chain.or_else("us-east-1")
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
