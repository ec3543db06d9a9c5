//! Doors for the fuzzer (`crates/fuzzing`) to what reads foreign bytes. No part of the interface.

use actix_multipart::Multipart;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use dunnage_files::{Upload, Uploads};
use dunnage_types::{FileAddress, JsonObject};
use futures_util::stream;

use crate::artifacts;
use crate::problem::Problem;
use crate::submission::{FormLimits, Keep, Submission, parse};

/// A request as it was understood.
#[derive(Debug)]
pub struct Submitted {
    /// Its files.
    pub files: Vec<FileAddress>,
    /// Its `Params`.
    pub params: JsonObject,
    /// Its `Key`.
    pub key: Option<String>,
    /// Its `Callback`, as it was given.
    pub callback: Option<String>,
    /// Its `OutputUri`, as it was given.
    pub output_uri: Option<String>,
    /// What came along with it, which goes with it.
    pub upload: Option<Upload>,
}

impl From<Submission> for Submitted {
    fn from(submission: Submission) -> Self {
        let Submission { files, params, key, callback, output_uri, upload, .. } = submission;
        Self { files, params, key, callback, output_uri, upload }
    }
}

/// Reads a body of `/train`, `/input` and `/output`.
///
/// # Errors
///
/// The [`Problem`] that is answered.
pub fn body(bytes: &[u8], max_files: usize) -> Result<Submitted, Problem> {
    Submission::from_body(parse(bytes)?)?.checked(max_files).map(Submitted::from)
}

/// Reads a form whose boundary is `cut`, as it comes in.
///
/// # Errors
///
/// The [`Problem`] that is answered.
///
/// # Panics
///
/// When no upload can be begun.
pub async fn form(chunks: Vec<Bytes>, uploads: &Uploads, max_files: usize, max_bytes: u64) -> Result<Submitted, Problem> {
    let content_type = HeaderValue::from_static("multipart/form-data; boundary=cut");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
    let form = Multipart::new(&headers, stream::iter(chunks.into_iter().map(Ok::<_, PayloadError>)));
    let upload = uploads.begin().expect("the folder of uploads can be written to");
    let limits = FormLimits { files: max_files, bytes: max_bytes };
    let read = Submission::from_form(upload, form, limits, Keep::Briefly).await;
    read?.checked(max_files).map(Submitted::from)
}

pub use artifacts::fuzzing::{Listed, artifact_name, manifest};
