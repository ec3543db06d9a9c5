//! The JSON body of a submission.

use std::collections::VecDeque;

use dunnage_types::{FileAddress, JsonObject};
use serde::Deserialize;
use serde_json::error::Category;
use utoipa::ToSchema;

use crate::problem::{Code, Problem};

/// The body of `/train`, `/input` and `/output`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object with `Files`")]
pub(crate) struct Body {
    /// The files, as `s3://bucket/key` or `file:///absolute/path`. At least one. `files` is understood too.
    #[serde(rename = "Files", alias = "files")]
    #[schema(schema_with = crate::schemas::addresses)]
    pub(crate) files: Vec<String>,
    /// Anything the script should know; it sees them as `ctx.params`.
    #[serde(rename = "Params", default)]
    #[schema(value_type = Object)]
    pub(crate) params: JsonObject,
    /// Jobs with the same key run one at a time, in order. Not for `/output`.
    #[serde(rename = "Key", default)]
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]+$")]
    pub(crate) key: Option<String>,
    /// An `https` URL that the job's end is posted to, signed; `docs/callbacks.md` has the details. Not for `/output`.
    #[serde(rename = "Callback", default)]
    #[schema(max_length = 2048, example = "https://example.com/hook")]
    pub(crate) callback: Option<String>,
    /// Where in S3 the result is written to, besides the answer of `/status`: an object, or with `/` at the end a folder, in which the
    /// object is named by the job's id; `docs/results.md` has the details. Not for `/output`.
    #[serde(rename = "OutputUri", default)]
    #[schema(pattern = "^s3://", example = "s3://results/gait/")]
    pub(crate) output_uri: Option<String>,
}

/// Reads a JSON body. Wrong JSON and a wrong shape are told apart.
pub(crate) fn parse(bytes: &[u8]) -> Result<Body, Problem> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => return Err(Problem::new(Code::BodyMalformed, "the body is empty; send `{\"Files\": [\"…\"]}`")),
        // A list of fields would be taken for the object otherwise.
        Some(b'[') => return Err(Problem::new(Code::RequestInvalid, "the body must be a JSON object, found an array")),
        Some(_) => {}
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        match error.classify() {
            Category::Data if text.starts_with("missing field") => {
                Problem::new(Code::FilesMissing, "the body lacks `Files`, a list of addresses such as `s3://bucket/key`")
            }
            Category::Data if !text.starts_with("duplicate field") => Problem::new(Code::RequestInvalid, clip(&text)),
            _ => Problem::new(Code::BodyMalformed, format!("the body is no valid JSON: {}", clip(&text))),
        }
    })
}

pub(super) fn parse_params(text: &str) -> Result<JsonObject, Problem> {
    serde_json::from_str(text).map_err(|error| {
        Problem::new(Code::RequestInvalid, format!("`Params` must be a JSON object: {}", clip(&error.to_string())))
    })
}

pub(super) fn parse_address(text: &str) -> Result<FileAddress, Problem> {
    match text.parse() {
        Ok(FileAddress::Upload { .. }) => Err(dunnage_types::AddressError::Upload),
        other => other,
    }
    .map_err(|error| Problem::new(Code::FileAddressInvalid, format!("`{}`: {error}", clip(text))))
}

/// As much of a client's text as belongs into an answer, without control characters.
pub(super) fn clip(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown: VecDeque<char> = text.chars().take(SHOWN + 1).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if shown.len() > SHOWN {
        shown.truncate(SHOWN);
        shown.push_back('…');
    }
    shown.into_iter().collect()
}
