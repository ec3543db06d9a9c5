//! The client against moto, which has the whole of S3's interface and checks signatures.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use dunnage_testing::http::Request;

use super::{client_as, fetch, object, real, settings};
use crate::{Bucket, FileProblem, S3, S3Settings};

/// How moto is told which service a request is for before it checks signatures.
const UNCHECKED: &str = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
const POLICY: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";

/// A server of its own for one test, that lets one user in.
struct Moto {
    process: Child,
    address: SocketAddr,
    id: String,
    secret: String,
}

impl Moto {
    /// `None`, and a word about it, where `moto_server` (`pip install 'moto[server]==5.2.5'`) is not installed.
    fn start() -> Option<Self> {
        let program = std::env::var("DUNNAGE_MOTO").unwrap_or_else(|_| "moto_server".to_owned());
        let started =
            Command::new(&program).args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let Ok(mut process) = started else {
            eprintln!("SKIPPED: `{program}` is not installed; `DUNNAGE_MOTO` says where it is");
            return None;
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("Running on http://")?.1.trim().parse().ok());
        // It writes a line a request, and would block if nobody read them.
        std::thread::spawn(move || lines.for_each(drop));
        let mut moto =
            Self { process, address: address.expect("moto says where it listens"), id: String::new(), secret: String::new() };
        moto.admit_one_user();
        Some(moto)
    }

    fn admit_one_user(&mut self) {
        self.administer("Action=CreateUser&UserName=tester&Version=2010-05-08");
        self.administer(&format!("Action=PutUserPolicy&UserName=tester&PolicyName=all&Version=2010-05-08&PolicyDocument={POLICY}"));
        let key = self.administer("Action=CreateAccessKey&UserName=tester&Version=2010-05-08");
        let element = |name: &str| {
            let start = key.split_once(&format!("<{name}>")).expect("a key").1;
            start.split_once('<').expect("an element ends").0.to_owned()
        };
        (self.id, self.secret) = (element("AccessKeyId"), element("SecretAccessKey"));
        let checking = Request::new("POST", "/moto-api/reset-auth").body("text/plain", "0").send(self.address).unwrap();
        assert_eq!(checking.status, 200, "{checking}");
    }

    fn administer(&self, form: &str) -> String {
        let request = Request::new("POST", "/").header("Authorization", UNCHECKED).body("application/x-www-form-urlencoded", form);
        let answer = request.send(self.address).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        answer.text().to_owned()
    }

    /// It is slow, and slower beside other tests.
    fn settings(&self) -> S3Settings {
        S3Settings { stall: Duration::from_secs(60), ..settings(&format!("http://{}", self.address)) }
    }

    fn client(&self) -> S3 {
        client_as(self.settings(), &self.id, &self.secret)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().expect("moto can be killed");
        self.process.wait().expect("moto ends");
    }
}

async fn make_bucket(s3: &S3, bucket: &str) {
    let connected = s3.0.connection.client(bucket).await;
    connected.client.create_bucket().bucket(bucket).send().await.unwrap();
}

#[tokio::test]
async fn objects_are_written_listed_read_and_removed() {
    let Some(moto) = Moto::start() else { return };
    let s3 = moto.client();
    make_bucket(&s3, "service-bucket").await;
    // It says of every upload that it began in 2010.
    real::behaves(&s3, "service-bucket", false).await;
}

#[tokio::test]
async fn versions_are_told_apart() {
    let Some(moto) = Moto::start() else { return };
    let s3 = moto.client();
    make_bucket(&s3, "versions").await;
    let client = s3.0.connection.client("versions").await.client;
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket("versions").versioning_configuration(versioning).send().await.unwrap();
    let mut versions = Vec::new();
    for body in [&b"one"[..], b"two"] {
        let written = client.put_object().bucket("versions").key("versioned").body(body.to_vec().into()).send().await.unwrap();
        versions.push(written.version_id.unwrap());
    }
    real::keeps_versions(&s3, "versions", [&versions[0], &versions[1]]).await;
}

#[tokio::test]
async fn wrong_keys_and_missing_buckets_are_told_apart() {
    let Some(moto) = Moto::start() else { return };
    make_bucket(&moto.client(), "closed").await;
    Bucket::new(moto.client(), "closed", "").put_bytes("key", b"bytes".to_vec(), "text/plain").await.unwrap();
    let wrong_secret = fetch(&client_as(moto.settings(), &moto.id, "wrong"), &object("closed", "key")).await;
    assert!(
        matches!(&wrong_secret, Err(FileProblem::Credentials(text)) if text.contains("SignatureDoesNotMatch")),
        "{wrong_secret:?}"
    );
    let wrong_id = fetch(&client_as(moto.settings(), "AKIDNOBODY", &moto.secret), &object("closed", "key")).await;
    assert!(matches!(&wrong_id, Err(FileProblem::Credentials(text)) if text.contains("InvalidAccessKeyId")), "{wrong_id:?}");
    let missing = fetch(&moto.client(), &object("nowhere-at-all", "key")).await;
    assert!(matches!(missing, Err(FileProblem::NoBucket)), "{missing:?}");
}
