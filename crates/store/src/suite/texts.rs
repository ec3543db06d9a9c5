//! Texts that databases and C libraries stumble over.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use dunnage_types::{JobError, Progress, StateValue};
use serde_json::json;

use super::Bench;
use super::given::{claim_one, enqueue, job, line, new_job, object};
use crate::{Enqueued, Finish, Idempotency, NewJob, StoreError};

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

pub async fn any_texts_read_back_unchanged(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut texts = Texts(0x5eed);
    for _ in 0..100 {
        let (key, text) = (texts.draw(), texts.draw());
        let params = object(json!({ "text": text, key.clone(): [text, { text.clone(): key }] }));
        let id = enqueue(&*store, NewJob { params: params.clone(), key: Some(key.clone()), ..new_job() }).await;
        let kept = job(&*store, id).await;
        assert_eq!((&kept.params, kept.key.as_deref()), (&params, Some(key.as_str())));

        let value = StateValue::Json(json!({ key.clone(): text, "text": [key, text] }));
        match store.set(None, &key, value.clone()).await {
            Ok(()) => assert_eq!(store.get(&key).await.unwrap(), Some(value), "{key:?}"),
            Err(StoreError::InvalidKey) => assert!(key.is_empty() || key.contains('\0'), "{key:?}"),
            Err(error) => panic!("{key:?}: {error}"),
        }
    }
}

/// Draws texts, the same ones from the same seed.
struct Texts(u64);

impl Texts {
    /// Where encodings have their edges.
    const EDGES: [char; 16] = [
        '\0',
        '\u{1}',
        '\n',
        '\u{1B}',
        '"',
        '\\',
        '\u{7F}',
        '\u{80}',
        '\u{7FF}',
        '\u{800}',
        '\u{D7FF}',
        '\u{E000}',
        '\u{FFFE}',
        '\u{FFFF}',
        '\u{10000}',
        '\u{10FFFF}',
    ];

    fn draw(&mut self) -> String {
        let length = self.next() % 12;
        (0..length).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        let drawn = self.next();
        let edge = Self::EDGES[drawn as usize % Self::EDGES.len()];
        if drawn.is_multiple_of(3) {
            edge
        } else {
            u32::try_from(self.next() % 0x11_0000).ok().and_then(char::from_u32).unwrap_or(edge)
        }
    }

    /// Marsaglia's xorshift.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
}
