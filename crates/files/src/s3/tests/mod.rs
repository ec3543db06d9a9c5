//! The client against servers: scripted ones for every fault, real ones for what S3 means.

mod faults;
mod faulty;
mod real;
mod refusals;
mod servers;
mod unreachable;
mod uploads;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

use super::{S3, S3Settings};
use crate::FileProblem;
use crate::source::{Asked, ObjectAddress, Source, Urgency};

/// Settings with little patience, for a server at `endpoint`.
fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        part_bytes: 1 << 20,
        stall: Duration::from_millis(500),
        ..S3Settings::default()
    }
}

/// A client that signs with keys that every scripted server takes.
fn client(settings: S3Settings) -> S3 {
    client_as(settings, "AKIDSCRIPTED", "secret")
}

fn client_as(settings: S3Settings, id: &str, secret: &str) -> S3 {
    let credentials = SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "test"));
    S3::connect_with(settings, Some(credentials))
}

fn object(bucket: &str, key: &str) -> ObjectAddress {
    ObjectAddress { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None }
}

/// Asks for an object and saves it; its bytes.
async fn fetch(s3: &S3, object: &ObjectAddress) -> Result<Vec<u8>, FileProblem> {
    let Asked::Found(incoming) = s3.ask(object, None, Urgency::Wanted).await? else { panic!("nothing is held") };
    let (info, file) = (incoming.info().clone(), Arc::new(tempfile::tempfile().unwrap()));
    let crc = incoming.save(file.clone()).await?;
    let bytes = contents(&file);
    assert_eq!(bytes.len() as u64, info.size, "what is saved has the size that was promised");
    assert_eq!(crc, super::checksum::crc64_nvme(&bytes), "and the checksum that is returned");
    Ok(bytes)
}

fn contents(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
