//! Texts that databases and C libraries stumble over.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use dunnage_types::{JobError, Progress};
use serde_json::json;

use super::Bench;
use super::given::{claim_one, enqueue, job, line, new_job, object};
use crate::{Enqueued, Finish, Idempotency, NewJob};

pub async fn texts_read_back_unchanged(bench: &mut dyn Bench) {
    let store = bench.store();
    for text in ["", " ", "'; DROP TABLE job; --", "a\0b", "\0", "ü ß 東京 🧪 \u{10FFFF}", "e\u{301}", "\u{FEFF}", "\r\n\t\u{1B}"]
    {
        let params = object(json!({ "text": text, text: 1 }));
        let idempotency = Some(Idempotency { key: text.to_owned(), digest: text.as_bytes().to_vec() });
        let new = NewJob { params: params.clone(), key: Some(text.to_owned()), idempotency, ..new_job() };
        let id = enqueue(&*store, new.clone()).await;
        assert_eq!(store.enqueue(NewJob { id: new_job().id, ..new }).await.unwrap(), Enqueued::Existing(id), "{text:?}");

        let claimed = claim_one(&*store).await;
        assert_eq!((&claimed.job.params, claimed.job.key.as_deref()), (&params, Some(text)));
        store.append_log(claimed.lease, &[line(text)]).await.unwrap();
        assert_eq!(store.log(id, 0, 1).await.unwrap()[0].message, text);
        let progress = Progress { message: Some(text.to_owned()), ..Progress::default() };
        store.progress(claimed.lease, &progress).await.unwrap();
        let version = store.publish(claimed.lease, text).await.unwrap();
        store.mark_bad(version, text).await.unwrap();
        let newest = store.versions().await.unwrap().remove(0);
        assert_eq!((newest.artifact.as_str(), newest.error.as_deref()), (text, Some(text)));

        let error = JobError { code: "script_error".to_owned(), message: text.to_owned(), traceback: Some(text.to_owned()) };
        store.finish(claimed.lease, Finish::Failed(error.clone())).await.unwrap();
        let ended = job(&*store, id).await;
        assert_eq!((ended.error, ended.progress), (Some(error), Some(progress)), "{text:?}");
    }
}
