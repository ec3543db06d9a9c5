//! What there is in a bucket.

use std::collections::BTreeMap;

use super::super::answer::{Answer, Outcome, Refusal};
use super::super::record::Request;
use super::super::state::{Bucket, State};
use super::xml::{element, time};

/// No page of a list is longer.
const PAGE: usize = 1000;

/// `ListObjectsV2`.
pub(super) fn objects(bucket: &Bucket, request: &Request, name: &str) -> Outcome {
    let prefix = request.query("prefix").unwrap_or_default();
    let delimiter = request.query("delimiter").filter(|delimiter| !delimiter.is_empty());
    let after = request.query("continuation-token").or(request.query("start-after")).unwrap_or_default();
    let most = request.query("max-keys").and_then(|most| most.parse().ok()).unwrap_or(PAGE).min(PAGE);
    let keys = bucket.objects.keys().filter(|key| key.starts_with(prefix) && bucket.newest(key).is_some());
    let places = keys.map(|key| place(key, prefix, delimiter)).map(|place| (place.name(), place));
    let places: BTreeMap<&str, Place<'_>> = places.filter(|(name, _)| *name > after).collect();
    let page: Vec<Place<'_>> = places.values().take(most).copied().collect();
    let is_truncated = page.len() < places.len();
    let mut list = [element("Name", name), element("Prefix", prefix), element("KeyCount", &page.len().to_string())].concat();
    list += &element("IsTruncated", &is_truncated.to_string());
    if let Some(last) = page.last().filter(|_| is_truncated) {
        list += &element("NextContinuationToken", last.name());
    }
    page.iter().for_each(|place| list += &entry(bucket, *place));
    Ok(Answer::xml(200, &format!("<ListBucketResult>{list}</ListBucketResult>")))
}

/// A key, or what several keys have in common up to the delimiter.
#[derive(Clone, Copy)]
enum Place<'a> {
    Common(&'a str),
    Key(&'a str),
}

impl<'a> Place<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Common(name) | Self::Key(name) => name,
        }
    }
}

fn place<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Place<'a> {
    let end = delimiter.and_then(|delimiter| Some(prefix.len() + key[prefix.len()..].find(delimiter)? + delimiter.len()));
    end.map_or(Place::Key(key), |end| Place::Common(&key[..end]))
}

fn entry(bucket: &Bucket, place: Place<'_>) -> String {
    match (place, bucket.newest(place.name())) {
        (Place::Key(key), Some(object)) => {
            let texts = [element("Key", key), element("Size", &object.size().to_string()), element("ETag", &object.etag)];
            format!("<Contents>{}{}</Contents>", texts.concat(), element("LastModified", &time(object.modified)))
        }
        _ => format!("<CommonPrefixes>{}</CommonPrefixes>", element("Prefix", place.name())),
    }
}

/// `ListMultipartUploads`, on one page.
pub(super) fn uploads(state: &State, request: &Request, bucket: &str) -> Outcome {
    state.bucket(bucket)?;
    let prefix = request.query("prefix").unwrap_or_default();
    let meant = state.uploads.iter().filter(|(_, upload)| upload.bucket == bucket && upload.key.starts_with(prefix));
    let entries: String = meant
        .map(|(id, upload)| {
            let texts = [element("Key", &upload.key), element("UploadId", id), element("Initiated", &time(upload.begun))];
            format!("<Upload>{}</Upload>", texts.concat())
        })
        .collect();
    let begin = [element("Bucket", bucket), element("IsTruncated", "false")].concat();
    Ok(Answer::xml(200, &format!("<ListMultipartUploadsResult>{begin}{entries}</ListMultipartUploadsResult>")))
}

/// `ListParts`, on one page.
pub(super) fn parts(state: &State, (bucket, key): (&str, &str), id: &str) -> Outcome {
    let upload = state.uploads.get(id).ok_or_else(|| Refusal::new(404, "NoSuchUpload"))?;
    let entries: String = upload
        .parts
        .iter()
        .map(|(number, part)| {
            let texts = [element("PartNumber", &number.to_string()), element("ETag", &part.etag)];
            format!("<Part>{}{}</Part>", texts.concat(), element("Size", &part.size().to_string()))
        })
        .collect();
    let begin = [element("Bucket", bucket), element("Key", key), element("UploadId", id), element("IsTruncated", "false")].concat();
    Ok(Answer::xml(200, &format!("<ListPartsResult>{begin}{entries}</ListPartsResult>")))
}
