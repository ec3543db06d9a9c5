//! Real servers: moto, which the tests' Python environment has, and garage, where somebody has installed it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::account::Account;
use super::process::ServerProcess;
use crate::census::eventually;
use crate::http::Request;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// In the form that garage wants; any will do.
const GARAGE_KEY_ID: &str = "GK31c2f218a2e44f485b94239e";
const GARAGE_SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
/// The bucket that every server has from its start.
const FIRST_BUCKET: &str = "dunnage";

/// A server of S3 on the loopback, with a bucket, and an account that may do everything. It checks signatures.
pub struct Server {
    account: Account,
    buckets: AtomicU32,
    _process: ServerProcess,
}

impl Server {
    /// Starts moto.
    ///
    /// # Panics
    ///
    /// When it is not installed or does not start; the text says what to do.
    #[must_use]
    pub fn moto() -> Self {
        let program = Path::new(REPOSITORY).join(".venv/bin/moto_server");
        assert!(program.is_file(), "`{}` is missing; run `tools/setup.sh test` first", program.display());
        let process = ServerProcess::start("moto", |_, port| {
            let mut command = Command::new(&program);
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            command
        });
        let account = moto_account(process.address());
        account.create_bucket(FIRST_BUCKET);
        Self { account, buckets: AtomicU32::new(0), _process: process }
    }

    /// The one moto of this process, started by the first who asks.
    ///
    /// # Panics
    ///
    /// As [`Server::moto`] does.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::moto)
    }

    /// Starts garage, or says that it is not installed.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn garage() -> Option<Self> {
        let Some(program) = find_garage() else {
            eprintln!("SKIPPED: garage is not installed (`tools/setup.sh s3`), so nothing is tried on it");
            return None;
        };
        let process = ServerProcess::start("garage", |folder, port| garage(&program, folder, port));
        let account = Account {
            address: process.address(),
            key_id: GARAGE_KEY_ID.to_owned(),
            secret: GARAGE_SECRET.to_owned(),
            region: "garage".to_owned(),
        };
        eventually("garage has its bucket", std::time::Duration::from_secs(60), || account.is_listed(FIRST_BUCKET).then_some(()));
        Some(Self { account, buckets: AtomicU32::new(0), _process: process })
    }

    /// The name of the bucket that there is from the start.
    #[must_use]
    pub fn first_bucket(&self) -> &'static str {
        FIRST_BUCKET
    }

    /// Makes an empty bucket that nobody else uses.
    ///
    /// # Panics
    ///
    /// When the server does not make it.
    #[must_use]
    pub fn bucket(&self) -> String {
        let bucket = format!("test-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        self.account.create_bucket(&bucket);
        bucket
    }
}

impl Deref for Server {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

/// Makes a user who may do everything, and has moto check signatures from then on.
fn moto_account(address: std::net::SocketAddr) -> Account {
    let iam = |action: &str| {
        let credential = "AWS4-HMAC-SHA256 Credential=none/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=none";
        let body = format!("Version=2010-05-08&UserName=test&{action}");
        let request = Request::new("POST", "/").header("Authorization", credential);
        let answer = request.body("application/x-www-form-urlencoded", body).send(address).expect("moto answers");
        assert_eq!(answer.status, 200, "{action}: {}", answer.text());
        answer.text().to_owned()
    };
    iam("Action=CreateUser");
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    iam(&format!("Action=PutUserPolicy&PolicyName=all&PolicyDocument={policy}"));
    let keys = iam("Action=CreateAccessKey");
    let reset = Request::new("POST", "/moto-api/reset-auth").body("text/plain", "0").send(address).expect("moto answers");
    assert_eq!(reset.status, 200, "{}", reset.text());
    Account {
        address,
        key_id: element(&keys, "AccessKeyId"),
        secret: element(&keys, "SecretAccessKey"),
        region: "us-east-1".to_owned(),
    }
}

/// The text of the first element of this name.
fn element(xml: &str, name: &str) -> String {
    let rest = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("there is no `{name}` in {xml}")).1;
    rest.split_once("</").map_or(rest, |(text, _)| text).to_owned()
}

fn find_garage() -> Option<PathBuf> {
    let named = std::env::var_os("DUNNAGE_GARAGE").map(PathBuf::from);
    let installed = Path::new(REPOSITORY).join("target/tools/bin/garage");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("garage"));
    named.into_iter().chain([installed]).chain(on_path).find(|path| path.is_file())
}

/// One node that keeps everything in its folder. Besides S3 it has two ports of its own, one above the other.
fn garage(program: &Path, folder: &Path, port: u16) -> Command {
    let (rpc, admin) = (crate::port::free(), crate::port::free());
    let configuration = format!(
        "metadata_dir = \"{folder}/meta\"\ndata_dir = \"{folder}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
         rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{GARAGE_SECRET}\"\n\
         [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{port}\"\n\
         [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
        folder = folder.display()
    );
    let path = folder.join("garage.toml");
    std::fs::write(&path, configuration).expect("a configuration can be written");
    let mut command = Command::new(program);
    command
        .arg("-c")
        .arg(path)
        .args(["server", "--single-node", "--default-bucket"])
        .env("GARAGE_DEFAULT_ACCESS_KEY", GARAGE_KEY_ID)
        .env("GARAGE_DEFAULT_SECRET_KEY", GARAGE_SECRET)
        .env("GARAGE_DEFAULT_BUCKET", FIRST_BUCKET)
        .env("RUST_LOG", "warn");
    command
}
