//! A submission that is a form, which brings its files along.

use actix_multipart::{Field, Multipart, MultipartError};
use dunnage_files::Upload;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::body::{clip, parse_params};
use super::{Keep, Submission, disk_problem, payload_problem, too_many};
use crate::config::HttpConfig;
use crate::problem::{Code, Problem};

/// The longest text field of a form, in bytes; as long as a JSON body may be by default.
const MAX_FIELD_BYTES: usize = 1 << 20;

/// How much a form may bring along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormLimits {
    pub(crate) files: usize,
    /// All files together.
    pub(crate) bytes: u64,
}

impl FormLimits {
    pub(super) fn of(http: &HttpConfig) -> Self {
        Self { files: http.max_files, bytes: http.max_upload_bytes }
    }
}

impl Submission {
    /// Reads a form; what it brings along goes into `upload`.
    ///
    /// # Errors
    ///
    /// A [`Problem`] that says what is wrong with it.
    pub(crate) async fn from_form(
        mut upload: Upload,
        mut form: Multipart,
        limits: FormLimits,
        keep: Keep,
    ) -> Result<Self, Problem> {
        let (mut params, mut key, mut callback, mut output_uri) = (None, None, None, None);
        let mut budget = limits.bytes;
        while let Some(field) = form.next().await {
            let field = field.map_err(form_problem)?;
            let name = field.name().unwrap_or_default().to_owned();
            match (name.as_str(), file_name(&field)) {
                (_, Some(file_name)) => {
                    if upload.files().len() >= limits.files {
                        return Err(too_many(limits.files));
                    }
                    receive_file(&mut upload, &file_name, field, &mut budget).await?;
                    upload = end_file(upload, keep).await?;
                }
                ("Params", None) if params.is_none() => params = Some(parse_params(&receive_text(field).await?)?),
                ("Key", None) if key.is_none() => key = Some(receive_text(field).await?),
                ("Callback", None) if callback.is_none() => callback = Some(receive_text(field).await?),
                ("OutputUri", None) if output_uri.is_none() => output_uri = Some(receive_text(field).await?),
                (twice @ ("Params" | "Key" | "Callback" | "OutputUri"), None) => return Err(given_twice(twice)),
                (other, None) => return Err(unknown_field(other)),
            }
        }
        if keep == Keep::Durably {
            upload = elsewhere(upload, |upload| upload.sync()).await?;
        }
        let mut digest = Sha256::new();
        upload.files().iter().for_each(|(_, contents)| digest.update(contents));
        let files = upload.files().iter().map(|(address, _)| address.clone()).collect();
        Ok(Self { files, params: params.unwrap_or_default(), key, callback, output_uri, upload: Some(upload), digest })
    }
}

fn file_name(field: &Field) -> Option<String> {
    field.content_disposition()?.get_filename().map(str::to_owned)
}

async fn receive_file(upload: &mut Upload, name: &str, mut field: Field, budget: &mut u64) -> Result<(), Problem> {
    upload.begin_file(name).map_err(disk_problem)?;
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(form_problem)?;
        *budget = budget
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| Problem::new(Code::BodyTooLarge, "the uploaded files are too large in all (`--max-upload`)"))?;
        upload.write(&chunk).map_err(disk_problem)?;
    }
    Ok(())
}

async fn end_file(mut upload: Upload, keep: Keep) -> Result<Upload, Problem> {
    match keep {
        Keep::Durably => elsewhere(upload, |upload| upload.end_file(true)).await,
        Keep::Briefly => upload.end_file(false).map(|()| upload).map_err(disk_problem),
    }
}

/// Waits for the disk on a thread where nobody else waits.
async fn elsewhere(
    mut upload: Upload,
    work: impl FnOnce(&mut Upload) -> std::io::Result<()> + Send + 'static,
) -> Result<Upload, Problem> {
    let done = tokio::task::spawn_blocking(move || work(&mut upload).map(|()| upload)).await;
    done.map_err(std::io::Error::other).flatten().map_err(disk_problem)
}

async fn receive_text(mut field: Field) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        bytes.extend_from_slice(&chunk.map_err(form_problem)?);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(Problem::new(Code::BodyTooLarge, format!("a text field of a form may have {MAX_FIELD_BYTES} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::new(Code::BodyMalformed, "a text field of the form is not UTF-8"))
}

fn unknown_field(name: &str) -> Problem {
    let detail = format!(
        "the form has the field `{}`; send files with a file name, and `Params`, `Key`, `Callback` or `OutputUri` as text",
        clip(name)
    );
    Problem::new(Code::RequestInvalid, detail)
}

fn given_twice(name: &str) -> Problem {
    Problem::new(Code::BodyMalformed, format!("the form has the field `{name}` twice"))
}

fn form_problem(error: MultipartError) -> Problem {
    if let MultipartError::Payload(error) = error {
        return payload_problem(&error);
    }
    Problem::new(Code::BodyMalformed, format!("the form cannot be read: {error}"))
}
