//! Multipart uploads.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::super::answer::{Answer, Outcome, Refusal};
use super::super::checksum::Algorithm;
use super::super::object::Object;
use super::super::record::Request;
use super::super::state::{State, Upload};
use super::objects;
use super::xml::{element, texts};

/// No part but the last is smaller.
const LEAST_PART_BYTES: u64 = 5 << 20;

/// `CreateMultipartUpload`.
pub(super) fn create(state: &mut State, request: &Request, (bucket, key): (&str, &str)) -> Outcome {
    state.bucket(bucket)?;
    let id = state.next_id("upload");
    let checksum = request.header("x-amz-checksum-algorithm").and_then(algorithm).map(|algorithm| {
        let kind = request.header("x-amz-checksum-type");
        (algorithm, kind.map_or(algorithm != Algorithm::Crc64Nvme, |kind| kind.eq_ignore_ascii_case("composite")))
    });
    let names = [element("Bucket", bucket), element("Key", key), element("UploadId", &id)].concat();
    let upload =
        Upload { bucket: bucket.to_owned(), key: key.to_owned(), begun: SystemTime::now(), checksum, parts: BTreeMap::new() };
    state.uploads.insert(id, upload);
    Ok(Answer::xml(200, &format!("<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>")))
}

fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "CRC64NVME" => Some(Algorithm::Crc64Nvme),
        "CRC32" => Some(Algorithm::Crc32),
        "CRC32C" => Some(Algorithm::Crc32c),
        "SHA256" => Some(Algorithm::Sha256),
        _ => None,
    }
}

/// `UploadPart`.
pub(super) fn part(state: &mut State, request: &Request, id: &str, body: Vec<u8>) -> Outcome {
    let upload = state.uploads.get_mut(id).ok_or_else(unknown)?;
    let number = request.query("partNumber").and_then(|number| number.parse().ok()).filter(|number| (1..=10_000).contains(number));
    let number = number.ok_or_else(|| Refusal::new(400, "InvalidArgument"))?;
    let part = objects::received(request, body)?;
    let answer = objects::written(&part);
    upload.parts.insert(number, part);
    Ok(answer)
}

/// `CompleteMultipartUpload`.
pub(super) fn complete(state: &mut State, request: &Request, id: &str, body: &[u8]) -> Outcome {
    let upload = state.uploads.get(id).ok_or_else(unknown)?;
    objects::require_condition(state.bucket(&upload.bucket)?, request, &upload.key)?;
    let object = joined(upload, &named_parts(upload, &String::from_utf8_lossy(body))?)?;
    for (algorithm, value) in &object.checksums {
        if request.header(algorithm.header()).is_some_and(|wanted| wanted != value) {
            return Err(Refusal::new(400, "BadDigest"));
        }
    }
    let upload = state.uploads.remove(id).ok_or_else(unknown)?;
    let names = [element("Bucket", &upload.bucket), element("Key", &upload.key), element("ETag", &object.etag)].concat();
    let version = state.put(&upload.bucket, &upload.key, object)?;
    let answer = Answer::xml(200, &format!("<CompleteMultipartUploadResult>{names}</CompleteMultipartUploadResult>"));
    Ok(version.iter().fold(answer, |answer, version| answer.with("x-amz-version-id", version)))
}

/// The parts that a body names, if they are there and in order.
fn named_parts<'a>(upload: &'a Upload, body: &str) -> Result<Vec<&'a Object>, Refusal> {
    let (numbers, etags) = (texts(body, "PartNumber"), texts(body, "ETag"));
    if numbers.is_empty() || numbers.len() != etags.len() {
        return Err(Refusal::new(400, "MalformedXML"));
    }
    let numbers: Vec<u32> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err(Refusal::new(400, "InvalidPartOrder"));
    }
    let parts = numbers.iter().zip(etags).map(|(number, etag)| {
        let part = upload.parts.get(number).filter(|part| part.etag.trim_matches('"') == etag.trim_matches('"'));
        part.ok_or_else(|| Refusal::new(400, "InvalidPart"))
    });
    parts.collect()
}

fn joined(upload: &Upload, parts: &[&Object]) -> Result<Object, Refusal> {
    if parts.iter().rev().skip(1).any(|part| part.size() < LEAST_PART_BYTES) {
        return Err(Refusal::new(400, "EntityTooSmall"));
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes(0..part.size())).collect();
    let object = Object::new(bytes);
    let etag = format!("\"{}-{}\"", object.etag.trim_matches('"'), parts.len());
    let object = object.etag(&etag);
    let Some((algorithm, is_composite)) = upload.checksum else { return Ok(object) };
    if !is_composite {
        return Ok(object.checksum(algorithm));
    }
    let ranges = parts.iter().scan(0, |end, part| {
        let start = *end;
        *end += part.size();
        Some(start..*end)
    });
    let ranges: Vec<_> = ranges.collect();
    let value = algorithm.of_parts(&object.content, &ranges);
    Ok(Object { is_composite, ..object.with_checksum(algorithm, value) })
}

/// `AbortMultipartUpload`.
pub(super) fn abort(state: &mut State, id: &str) -> Outcome {
    state.uploads.remove(id).map(|_| Answer::empty(204)).ok_or_else(unknown)
}

fn unknown() -> Refusal {
    Refusal::new(404, "NoSuchUpload")
}
