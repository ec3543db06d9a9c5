//! What requests mean to S3, as far as the tests need it.

mod lists;
mod objects;
mod uploads;
mod xml;

use super::answer::{Answer, Outcome, Refusal};
use super::record::Request;
use super::state::State;

/// Does what a request asks for.
pub(super) fn answer(state: &mut State, request: &Request, body: Vec<u8>) -> Outcome {
    let (bucket, key) = request.place();
    if key.is_empty() { of_bucket(state, request, bucket, &body) } else { of_object(state, request, (bucket, key), body) }
}

fn of_bucket(state: &mut State, request: &Request, name: &str, body: &[u8]) -> Outcome {
    let has = |name: &str| request.query(name).is_some();
    match request.method.as_str() {
        "PUT" if has("versioning") => {
            state.bucket_mut(name)?.keeps_versions = String::from_utf8_lossy(body).contains("<Status>Enabled</Status>");
            Ok(Answer::empty(200))
        }
        "PUT" => {
            state.buckets.entry(name.to_owned()).or_default();
            Ok(Answer::empty(200))
        }
        "HEAD" => state.bucket(name).map(|_| Answer::empty(200)),
        "GET" if has("uploads") => lists::uploads(state, request, name),
        "GET" if has("list-type") => lists::objects(state.bucket(name)?, request, name),
        "POST" if has("delete") => objects::delete_many(state, name, body),
        _ => unknown(),
    }
}

fn of_object(state: &mut State, request: &Request, place: (&str, &str), body: Vec<u8>) -> Outcome {
    let upload = request.query("uploadId");
    match (request.method.as_str(), upload) {
        ("GET", Some(id)) => lists::parts(state, place, id),
        ("GET" | "HEAD", None) => objects::get(state.bucket(place.0)?, request, place.1),
        ("PUT", Some(id)) => uploads::part(state, request, id, body),
        ("PUT", None) => objects::put(state, request, place, body),
        ("POST", Some(id)) => uploads::complete(state, request, id, &body),
        ("POST", None) if request.query("uploads").is_some() => uploads::create(state, request, place),
        ("DELETE", Some(id)) => uploads::abort(state, id),
        ("DELETE", None) => objects::delete(state, place, request.query("versionId")),
        _ => unknown(),
    }
}

fn unknown() -> Outcome {
    Err(Refusal::new(501, "NotImplemented"))
}
