//! Single objects: reading, writing, removing.

use std::ops::Range;

use super::super::answer::{Answer, Outcome, Refusal};
use super::super::checksum::Algorithm;
use super::super::object::Object;
use super::super::record::Request;
use super::super::state::{Bucket, State};
use super::xml::{element, texts};

/// `GetObject` and `HeadObject`.
pub(super) fn get(bucket: &Bucket, request: &Request, key: &str) -> Outcome {
    let object = find(bucket, key, request.query("versionId"))?;
    if request.header("if-match").is_some_and(|wanted| !is_named(wanted, &object.etag)) {
        return Err(Refusal::new(412, "PreconditionFailed"));
    }
    let answer = if request.header("if-none-match").is_some_and(|held| is_named(held, &object.etag)) {
        Answer::empty(304)
    } else {
        found(object, request)?
    };
    let answer = answer.with("ETag", &object.etag).with("Last-Modified", &httpdate::fmt_http_date(object.modified));
    Ok(object.version.iter().fold(answer, |answer, version| answer.with("x-amz-version-id", version)))
}

fn find<'a>(bucket: &'a Bucket, key: &str, version: Option<&str>) -> Result<&'a Object, Refusal> {
    match version {
        None => bucket.newest(key).ok_or_else(|| Refusal::new(404, "NoSuchKey")),
        Some(version) => match bucket.version(key, version) {
            None => Err(Refusal::new(404, "NoSuchVersion")),
            Some(object) if object.is_delete_marker => Err(Refusal::new(405, "MethodNotAllowed")),
            Some(object) => Ok(object),
        },
    }
}

/// Whether an ETag is one of those that a condition names.
fn is_named(condition: &str, etag: &str) -> bool {
    condition.split(',').map(str::trim).any(|named| named == "*" || named.trim_matches('"') == etag.trim_matches('"'))
}

fn found(object: &Object, request: &Request) -> Outcome {
    let size = object.size();
    let answer = match request.range() {
        None => with_checksums(Answer::of(200, object.content.clone(), 0..size), object, request),
        Some(asked) => {
            let range = range(asked, size).ok_or_else(|| Refusal::new(416, "InvalidRange"))?;
            let place = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            Answer::of(206, object.content.clone(), range).with("Content-Range", &place)
        }
    };
    Ok(answer.with("Accept-Ranges", "bytes").with("Content-Type", "application/octet-stream"))
}

/// Those of the whole come with the whole, and only to those who ask.
fn with_checksums(mut answer: Answer, object: &Object, request: &Request) -> Answer {
    if request.header("x-amz-checksum-mode").is_none_or(|mode| !mode.eq_ignore_ascii_case("enabled")) {
        return answer;
    }
    for (algorithm, value) in &object.checksums {
        let kind = if object.is_composite { "COMPOSITE" } else { "FULL_OBJECT" };
        answer = answer.with(algorithm.header(), value).with("x-amz-checksum-type", kind);
    }
    answer
}

/// The bytes that `bytes=0-99`, `bytes=100-` or `bytes=-100` mean, or `None` when the object has none of them.
fn range(asked: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) => first..size,
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return None,
    };
    (range.start < range.end).then_some(range)
}

/// `PutObject`.
pub(super) fn put(state: &mut State, request: &Request, (bucket, key): (&str, &str), body: Vec<u8>) -> Outcome {
    require_condition(state.bucket(bucket)?, request, key)?;
    let object = received(request, body)?;
    let answer = written(&object);
    let version = state.put(bucket, key, object)?;
    Ok(version.iter().fold(answer, |answer, version| answer.with("x-amz-version-id", version)))
}

/// Whether an object may be written, by the conditions that the request makes.
pub(super) fn require_condition(bucket: &Bucket, request: &Request, key: &str) -> Result<(), Refusal> {
    let known = bucket.newest(key);
    match request.header("if-match") {
        Some(_) if known.is_none() => return Err(Refusal::new(404, "NoSuchKey")),
        Some(wanted) if known.is_some_and(|object| !is_named(wanted, &object.etag)) => {
            return Err(Refusal::new(412, "PreconditionFailed"));
        }
        _ => {}
    }
    if request.header("if-none-match").is_some() && known.is_some() {
        return Err(Refusal::new(412, "PreconditionFailed"));
    }
    Ok(())
}

/// A body as an object, if it fits the checksums that came with it.
pub(super) fn received(request: &Request, body: Vec<u8>) -> Result<Object, Refusal> {
    let mut object = Object::new(body);
    for algorithm in Algorithm::ALL {
        if let Some(value) = request.header(algorithm.header()) {
            if value != algorithm.of_content(&object.content) {
                return Err(Refusal::new(400, "BadDigest"));
            }
            object = object.with_checksum(algorithm, value.to_owned());
        }
    }
    Ok(object)
}

/// What is said of an object or a part that has been written.
pub(super) fn written(object: &Object) -> Answer {
    let answer = Answer::empty(200).with("ETag", &object.etag);
    object.checksums.iter().fold(answer, |answer, (algorithm, value)| answer.with(algorithm.header(), value))
}

/// `DeleteObject`.
pub(super) fn delete(state: &mut State, (bucket, key): (&str, &str), version: Option<&str>) -> Outcome {
    remove(state, bucket, key, version)?;
    Ok(Answer::empty(204))
}

/// `DeleteObjects`.
pub(super) fn delete_many(state: &mut State, bucket: &str, body: &[u8]) -> Outcome {
    state.bucket(bucket)?;
    let body = String::from_utf8_lossy(body);
    let mut deleted = String::new();
    for object in body.split("<Object>").skip(1) {
        let key = texts(object, "Key").pop().ok_or_else(|| Refusal::new(400, "MalformedXML"))?;
        remove(state, bucket, &key, texts(object, "VersionId").first().map(String::as_str))?;
        deleted += &format!("<Deleted>{}</Deleted>", element("Key", &key));
    }
    let is_quiet = texts(&body, "Quiet") == ["true"];
    Ok(Answer::xml(200, &format!("<DeleteResult>{}</DeleteResult>", if is_quiet { "" } else { &deleted })))
}

/// Removes an object, or where versions are kept marks it as deleted, unless one of them is named.
fn remove(state: &mut State, bucket: &str, key: &str, version: Option<&str>) -> Result<(), Refusal> {
    if version.is_none() && state.bucket(bucket)?.keeps_versions {
        return state.put(bucket, key, Object::delete_marker()).map(drop);
    }
    state.bucket_mut(bucket)?.remove(key, version);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_mean_the_bytes_that_there_are() {
        assert_eq!(range("bytes=0-9", 100), Some(0..10));
        assert_eq!(range("bytes=90-199", 100), Some(90..100));
        assert_eq!(range("bytes=40-", 100), Some(40..100));
        assert_eq!(range("bytes=-30", 100), Some(70..100));
        assert_eq!(range("bytes=100-", 100), None);
        assert_eq!(range("bytes=0-", 0), None);
    }
}
