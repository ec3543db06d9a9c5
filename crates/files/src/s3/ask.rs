//! Asks for objects.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};

use async_trait::async_trait;

use super::budget::Share;
use super::checksum::Declared;
use super::download::Download;
use super::stream::Stream;
use super::{Refusal, S3, tell};
use crate::FileProblem;
use crate::source::{Asked, ObjectAddress, ObjectInfo, Source, Urgency};

#[async_trait]
impl Source for S3 {
    async fn ask(&self, object: &ObjectAddress, held_etag: Option<&str>, urgency: Urgency) -> Result<Asked, FileProblem> {
        Ok(match self.open(object, held_etag, urgency).await? {
            Some(download) => Asked::Found(Box::new(download)),
            None => Asked::Unchanged,
        })
    }
}

/// The beginning of an object: what the answer says of it, and a stream of all of its bytes.
pub(super) struct Opened {
    pub(super) info: ObjectInfo,
    pub(super) declared: Declared,
    pub(super) stream: Stream,
    pub(super) share: Share,
}

impl S3 {
    /// Asks for an object unless `held_etag` is its etag: then `None`.
    pub(super) async fn open(
        &self,
        object: &ObjectAddress,
        held_etag: Option<&str>,
        urgency: Urgency,
    ) -> Result<Option<Download>, FileProblem> {
        let mut pass = self.admit()?;
        match self.open_stream(object, held_etag, urgency).await {
            Ok(opened) => {
                pass.answered();
                Ok(Some(Download::new(self.clone(), object.clone(), urgency, opened, pass)))
            }
            Err(Refusal::Unchanged) if held_etag.is_some() => {
                pass.succeeded();
                Ok(None)
            }
            Err(refusal) => {
                let problem = FileProblem::from(refusal);
                tell(pass, Some(&problem));
                Err(problem)
            }
        }
    }

    /// Sends the one request that tells everything and begins to bring the bytes.
    pub(super) async fn open_stream(
        &self,
        object: &ObjectAddress,
        held_etag: Option<&str>,
        urgency: Urgency,
    ) -> Result<Opened, Refusal> {
        let part_bytes = self.0.settings.part_bytes;
        let mut share = self.0.budget.take(part_bytes, urgency).await;
        let answer = self.send(&object.bucket, |client| get_whole(client, object, held_etag)).await?;
        let info = info(&answer).map_err(Refusal::Failed)?;
        share.shrink_to(info.size.min(part_bytes));
        let declared = Declared::of(&answer);
        Ok(Opened { info, declared, stream: Stream::new(answer.body, self.0.settings.stall), share })
    }

    /// Asks for the bytes from `start` to before `end` of what is still the object that `info` describes.
    pub(super) async fn open_range(
        &self,
        object: &ObjectAddress,
        info: &ObjectInfo,
        start: u64,
        end: u64,
    ) -> Result<Stream, Refusal> {
        let answer = self.send(&object.bucket, |client| get_range(client, object, &info.etag, start, end)).await?;
        if answer.e_tag() != Some(&info.etag) {
            return Err(Refusal::Changed);
        }
        match content_range(&answer) {
            Some((_, _, total)) if total != info.size => Err(Refusal::Changed),
            Some(range) if range == (start, end, info.size) => Ok(Stream::new(answer.body, self.0.settings.stall)),
            _ => Err(Refusal::Failed(FileProblem::Unavailable(
                "it does not answer a request for a range with that range".to_owned(),
            ))),
        }
    }
}

type Got = Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>;

async fn get_whole(client: Client, object: &ObjectAddress, held_etag: Option<&str>) -> Got {
    client
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .set_if_none_match(held_etag.map(str::to_owned))
        .customize()
        // Not by the operation's own field, which would have the SDK check the bytes as well.
        .mutate_request(|request| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        })
        .send()
        .await
}

/// Not by the version that the first answer named: reading that takes a permission of its own, and `If-Match` does as well.
async fn get_range(client: Client, object: &ObjectAddress, etag: &str, start: u64, end: u64) -> Got {
    client
        .get_object()
        .bucket(&object.bucket)
        .key(&object.key)
        .set_version_id(object.version_id.clone())
        .if_match(etag)
        .range(format!("bytes={start}-{}", end - 1))
        .send()
        .await
}

fn info(answer: &GetObjectOutput) -> Result<ObjectInfo, FileProblem> {
    let without = |what| FileProblem::Unavailable(format!("it answers without {what}"));
    let size = answer.content_length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| without("a length"))?;
    let etag = answer.e_tag.clone().ok_or_else(|| without("an entity tag"))?;
    Ok(ObjectInfo { size, etag })
}

/// The first byte, the one after the last, and the object's size.
fn content_range(answer: &GetObjectOutput) -> Option<(u64, u64, u64)> {
    let (range, total) = answer.content_range()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1, total.parse().ok()?))
}
