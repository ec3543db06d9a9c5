//! What must be true of the accounts.

use proptest::prelude::*;

use super::*;
use crate::cache::folder::Identity;
use crate::cache::name::Names;
use crate::source::ObjectInfo;

fn file(number: u64, key: &str, bytes: u64) -> Arc<Kept> {
    let object = ObjectAddress { bucket: "faces".into(), key: key.into(), version_id: None };
    let names = Names::new(&object, "\"e\"", FileId(number));
    let identity = Identity::of(&rustix::fs::stat("/proc/self/exe").unwrap()).unwrap();
    let info = ObjectInfo { size: bytes, etag: "\"e\"".into() };
    Arc::new(Kept { id: FileId(number), object, info, names, path: "/none".into(), identity, crc64: 0, bytes })
}

/// Makes room for a file and takes it in; nobody uses it.
fn take_in(index: &mut Index, kept: &Arc<Kept>) -> Option<Vec<u64>> {
    let claim = index.claim(kept.bytes, Urgency::Wanted)?;
    assert!(index.settle(&claim, &[]));
    let former = index.keep(kept.clone(), 0, Instant::now(), false);
    former.into_iter().for_each(|former| index.removed(former.id));
    assert!(index.unpin(kept.id).is_none());
    Some(claim.victims.iter().map(|victim| victim.id.0).collect())
}

#[test]
fn room_is_only_there_once_the_victims_are_gone() {
    let mut index = Index::new(100);
    take_in(&mut index, &file(1, "a", 80)).unwrap();
    let claim = index.claim(60, Urgency::Wanted).unwrap();
    assert_eq!(index.bytes(), 100, "what was free is reserved, and the victim goes on counting");
    assert!(index.claim(1, Urgency::Wanted).is_none());
    assert!(index.settle(&claim, &[]));
    assert_eq!(index.bytes(), 60);
    assert!(index.claim(40, Urgency::Wanted).is_some());
}

#[test]
fn a_claim_whose_victim_does_not_go_is_given_back() {
    let mut index = Index::new(100);
    take_in(&mut index, &file(1, "a", 80)).unwrap();
    let claim = index.claim(60, Urgency::Wanted).unwrap();
    assert!(!index.settle(&claim, &[FileId(1)]));
    assert_eq!(index.bytes(), 80);
    assert!(index.current(&claim.victims[0].object).is_none(), "it is not handed out any more");
    assert_eq!(index.claim(60, Urgency::Wanted).unwrap().victims.len(), 1, "but tried again");
}

#[test]
fn a_claim_survives_the_loss_of_the_folder() {
    let mut index = Index::new(100);
    take_in(&mut index, &file(1, "a", 80)).unwrap();
    let claim = index.claim(60, Urgency::Wanted).unwrap();
    index.forget_files();
    let other = index.claim(70, Urgency::Wanted).unwrap();
    assert!(index.settle(&other, &[]));
    assert!(!index.settle(&claim, &[]), "somebody else was faster");
    assert_eq!(index.bytes(), 70);
}

#[test]
fn a_file_in_use_stays_and_is_removed_after_its_last_use() {
    let mut index = Index::new(100);
    let old = file(1, "a", 40);
    take_in(&mut index, &old).unwrap();
    index.pin(FileId(1), Urgency::Wanted);
    index.pin(FileId(1), Urgency::Wanted);
    assert!(index.claim(61, Urgency::Wanted).is_none());
    assert_eq!(take_in(&mut index, &file(2, "a", 40)), Some(vec![]));
    assert!(index.unpin(FileId(1)).is_none());
    assert_eq!(index.unpin(FileId(1)).unwrap().id, FileId(1));
    index.removed(FileId(1));
    assert_eq!((index.bytes(), index.current(&old.object).unwrap().kept.id), (40, FileId(2)));
}

#[derive(Debug, Clone)]
enum Step {
    TakeIn { key: u8, bytes: u64 },
    Pin(u8),
    Unpin,
    TakeOut(u8),
    Stuck,
    ForgetFiles,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, 1..60_u64).prop_map(|(key, bytes)| Step::TakeIn { key, bytes }),
        4 => (0..6_u8).prop_map(Step::Pin),
        3 => Just(Step::Unpin),
        1 => (0..6_u8).prop_map(Step::TakeOut),
        1 => Just(Step::Stuck),
        1 => Just(Step::ForgetFiles),
    ]
}

/// What must be true of the accounts at all times.
fn check(index: &Index, pinned: &[FileId]) {
    let sum = |entries: &mut dyn Iterator<Item = &Entry>| entries.map(|entry| entry.kept.bytes).sum::<u64>();
    assert!(index.bytes() <= index.capacity);
    assert_eq!(sum(&mut index.files.values()), index.held);
    assert_eq!(sum(&mut index.idle.values().map(|id| &index.files[id])), index.idle_bytes);
    assert!(index.idle.values().all(|id| index.files[id].pins == 0 && !pinned.contains(id)));
    assert!(index.current.iter().all(|(object, id)| index.files[id].kept.object == *object));
    assert!(index.files.values().all(|entry| entry.pins > 0 || index.idle.contains_key(&entry.last_use)));
}

proptest! {
    #[test]
    fn the_accounts_are_right_whatever_happens(steps in proptest::collection::vec(step(), 1..80)) {
        let mut index = Index::new(100);
        let mut pinned: Vec<FileId> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let current = |index: &Index, key: u8| index.current(&file(0, &key.to_string(), 1).object).map(|entry| entry.kept.id);
            match step {
                Step::TakeIn { key, bytes } => drop(take_in(&mut index, &file(number as u64 + 1, &key.to_string(), bytes))),
                Step::Pin(key) => if let Some(id) = current(&index, key) {
                    index.pin(id, Urgency::Wanted);
                    pinned.push(id);
                },
                Step::Unpin => if let Some(id) = pinned.pop() && let Some(unused) = index.unpin(id) {
                    prop_assert!(!pinned.contains(&id));
                    index.removed(unused.id);
                },
                Step::TakeOut(key) => if let Some(out) = current(&index, key).and_then(|id| index.take_out(id)) {
                    index.removed(out.id);
                    pinned.retain(|id| *id != out.id);
                },
                Step::Stuck => for out in index.take_out_oldest(1) {
                    index.stuck(out.id);
                },
                Step::ForgetFiles => {
                    index.forget_files();
                    pinned.clear();
                }
            }
            check(&index, &pinned);
        }
    }
}
