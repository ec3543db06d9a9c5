//! The map behind `ctx.state`.

#![expect(missing_docs, reason = "the name of a scenario states what it holds a store to")]

use std::sync::Arc;

use dunnage_types::{Array, Dtype, StateValue};
use serde_json::{Number, Value, json};
use tokio::task::JoinSet;

use super::given::running;
use super::{Bench, LIMITS};
use crate::{MAX_KEY_BYTES, Store, StoreError};

pub async fn values_read_back_as_they_were_set(bench: &mut dyn Bench) {
    let store = bench.store();
    for (number, value) in values().into_iter().enumerate() {
        let key = format!("key {number}");
        store.set(None, &key, value.clone()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), Some(value.clone()));
        assert_eq!(store.scan(&key, None, 1).await.unwrap(), [(key, value)]);
    }
    assert_eq!(store.get("no such key").await.unwrap(), None);
}

pub async fn a_value_replaces_one_of_another_kind(bench: &mut dyn Bench) {
    let store = bench.store();
    for value in values() {
        store.set(None, "key", value.clone()).await.unwrap();
        assert_eq!(store.get("key").await.unwrap(), Some(value));
    }
    assert_eq!(store.scan("", None, 10).await.unwrap().len(), 1);
}

pub async fn keys_are_checked_by_every_call(bench: &mut dyn Bench) {
    let store = bench.store();
    let one = || json(json!(1));
    for key in ["", "a\0b", "\0", &"k".repeat(MAX_KEY_BYTES + 1), &"ü".repeat(MAX_KEY_BYTES / 2 + 1)] {
        assert_invalid(store.get(key).await);
        assert_invalid(store.set(None, key, one()).await);
        assert_invalid(store.delete(None, key).await);
        assert_invalid(store.increment(None, key, &Number::from(1)).await);
        assert_invalid(store.compare_and_set(None, key, None, Some(one())).await);
    }
    for key in [" ", "a", "'", "%_", "🧪", &"k".repeat(MAX_KEY_BYTES), &"ü".repeat(MAX_KEY_BYTES / 2)] {
        store.set(None, key, one()).await.unwrap();
        assert_eq!(store.get(key).await.unwrap(), Some(one()), "{key}");
    }
    assert_eq!(store.get("A").await.unwrap(), None, "upper and lower case differ");
}

pub async fn a_value_that_is_too_large_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    let limit = LIMITS.value_bytes;
    let array = |bytes: usize| StateValue::Array(Array { dtype: Dtype::U8, shape: vec![bytes as u64], data: vec![1; bytes] });
    let text = |bytes: usize| json(json!("x".repeat(bytes - 2)));
    for value in [StateValue::Bytes(vec![1; limit]), array(limit), text(limit)] {
        store.set(None, "key", value.clone()).await.unwrap();
        assert_eq!(store.get("key").await.unwrap(), Some(value));
    }
    let kept = store.get("key").await.unwrap();
    for value in [StateValue::Bytes(vec![1; limit + 1]), array(limit + 1), text(limit + 1)] {
        assert_too_large(store.set(None, "key", value.clone()).await);
        assert_too_large(store.compare_and_set(None, "key", kept.clone(), Some(value)).await);
    }
    assert_eq!(store.get("key").await.unwrap(), kept);
}

pub async fn an_inconsistent_array_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    let array = StateValue::Array(Array { dtype: Dtype::F32, shape: vec![2, 3], data: vec![0; 20] });
    for refused in
        [store.set(None, "key", array.clone()).await, store.compare_and_set(None, "key", None, Some(array)).await.map(drop)]
    {
        assert!(matches!(&refused, Err(StoreError::InconsistentArray { key }) if key == "key"), "{refused:?}");
    }
    assert_eq!(store.get("key").await.unwrap(), None);
}

pub async fn a_removed_key_is_gone(bench: &mut dyn Bench) {
    let store = bench.store();
    store.set(None, "key", json(json!(1))).await.unwrap();
    assert!(store.delete(None, "key").await.unwrap());
    assert!(!store.delete(None, "key").await.unwrap());
    assert_eq!(store.get("key").await.unwrap(), None);
    assert_eq!(store.scan("", None, 10).await.unwrap(), []);
}

pub async fn increments_add_whole_numbers_exactly(bench: &mut dyn Bench) {
    let store = bench.store();
    let big = (1_i64 << 53) + 1;
    let steps = [
        (json!(big), json!(big)),
        (json!(1), json!(big + 1)),
        (json!(i64::MAX - big - 1), json!(i64::MAX)),
        (json!(i64::MIN), json!(-1)),
        (json!(1), json!(0)),
        (json!(0.5), json!(0.5)),
        (json!(2), json!(2.5)),
        (json!(0.5), json!(3.0)),
    ];
    for (by, expected) in steps {
        let Value::Number(by) = by else { panic!("{by} is no number") };
        let sum = Value::Number(store.increment(None, "n", &by).await.unwrap());
        assert_eq!((&sum, store.get("n").await.unwrap()), (&expected, Some(json(expected.clone()))), "after adding {by}");
    }
}

pub async fn an_increment_of_something_else_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    let cases = [
        (json(json!("1")), json!(1)),
        (json(json!(null)), json!(1)),
        (json(json!([1])), json!(1)),
        (StateValue::Bytes(vec![1]), json!(1)),
        (json(json!(i64::MAX)), json!(1)),
        (json(json!(i64::MIN)), json!(-1)),
        (json(json!(f64::MAX)), json!(f64::MAX)),
    ];
    for (value, by) in cases {
        let Value::Number(by) = by else { panic!("{by} is no number") };
        store.set(None, "key", value.clone()).await.unwrap();
        let refused = store.increment(None, "key", &by).await;
        assert!(matches!(&refused, Err(StoreError::NotANumber { key }) if key == "key"), "{value:?} plus {by}: {refused:?}");
        assert_eq!(store.get("key").await.unwrap(), Some(value));
    }
}

pub async fn concurrent_increments_lose_nothing(bench: &mut dyn Bench) {
    const TASKS: i64 = 8;
    const INCREMENTS: i64 = 1000;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = bench.store();
        tasks.spawn(async move {
            for _ in 0..INCREMENTS {
                store.increment(None, "n", &Number::from(1)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(bench.store().get("n").await.unwrap(), Some(json(json!(TASKS * INCREMENTS))));
}

pub async fn a_value_is_swapped_for_the_one_expected_only(bench: &mut dyn Bench) {
    let store = bench.store();
    let swap = async |old: Option<Value>, new: Option<Value>| {
        store.compare_and_set(None, "key", old.map(json), new.map(json)).await.unwrap()
    };
    assert!(!swap(Some(json!(1)), Some(json!(2))).await, "absent is not 1");
    assert!(swap(None, None).await);
    assert!(swap(None, Some(json!({"a": 1, "b": [2]}))).await);
    assert!(!swap(None, Some(json!(2))).await, "it is there");
    assert!(!swap(Some(json!({"a": 1, "b": [3]})), Some(json!(2))).await);
    assert!(swap(Some(json!({"b": [2.0], "a": 1.0})), Some(json!(1))).await, "numbers are compared by value");
    assert!(!swap(Some(json!("1")), None).await);
    assert!(swap(Some(json!(1.0)), None).await);
    assert_eq!(store.get("key").await.unwrap(), None);

    let bytes = |bytes: &[u8]| Some(StateValue::Bytes(bytes.to_vec()));
    assert!(store.compare_and_set(None, "key", None, bytes(b"\0a")).await.unwrap());
    assert!(!store.compare_and_set(None, "key", bytes(b"\0b"), bytes(b"c")).await.unwrap());
    assert!(store.compare_and_set(None, "key", bytes(b"\0a"), bytes(b"c")).await.unwrap());
}

pub async fn of_concurrent_swaps_one_succeeds(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut expected = None;
    for round in 0..20 {
        let mut swaps = JoinSet::new();
        for task in 0..8 {
            let (store, old, new) = (store.clone(), expected.clone(), json(json!([round, task])));
            swaps.spawn(async move {
                let swapped = store.compare_and_set(None, "key", old, Some(new.clone())).await.unwrap();
                swapped.then_some(new)
            });
        }
        let winners: Vec<_> = swaps.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(store.get("key").await.unwrap().as_ref(), winners.first());
        expected = winners.into_iter().next();
    }
}

pub async fn a_scan_goes_on_page_by_page_in_byte_order(bench: &mut dyn Bench) {
    let store = bench.store();
    let mut keys: Vec<String> =
        ["a", "B", "aa", "a/1", "a/10", "a/2", "ä", "z", "🧪", "\u{FFFF}", " ", "~"].map(str::to_owned).to_vec();
    for key in &keys {
        store.set(None, key, json(json!(key))).await.unwrap();
    }
    keys.sort_unstable_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    for limit in [1, 5, 100] {
        assert_eq!(scan_all(&store, "", limit).await, keys, "pages of {limit}");
    }
    assert_eq!(scan_all(&store, "a/", 2).await, ["a/1", "a/10", "a/2"]);
    assert_eq!(names(store.scan("a", Some("a/10"), 10).await.unwrap()), ["a/2", "aa"]);
    assert_eq!(names(store.scan("a", Some("a/11"), 10).await.unwrap()), ["a/2", "aa"], "the key need not be there");
    assert_eq!(names(store.scan("a", Some("A"), 1).await.unwrap()), ["a"], "what is behind begins with the prefix");
    assert_eq!(names(store.scan("a/", Some("a/1\0"), 10).await.unwrap()), ["a/10", "a/2"], "no key holds a zero character");
    assert_eq!(store.scan("a", Some("b"), 10).await.unwrap(), []);
    assert_eq!(store.scan("", None, 0).await.unwrap(), []);
}

pub async fn a_scan_finds_every_key_with_its_prefix_and_no_other(bench: &mut dyn Bench) {
    let store = bench.store();
    let last = char::MAX.to_string();
    let ends = ["a", "a\u{7F}", "a\u{80}", "a\u{7FF}", "a\u{D7FF}", "a\u{E000}", "a\u{FFFF}", "a\u{10000}", "%", "_", "a%", "a_b"];
    let mut keys: Vec<String> =
        ends.iter().flat_map(|end| [(*end).to_owned(), format!("{end}x"), format!("{end}{last}")]).collect();
    keys.extend([last.clone(), last.repeat(3), "b".to_owned()]);
    keys.sort_unstable();
    keys.dedup();
    for key in &keys {
        store.set(None, key, json(json!(1))).await.unwrap();
    }
    for prefix in keys.iter().map(String::as_str).chain(["", "c", "\u{D7FF}", "a\0", "\0"]) {
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        assert_eq!(scan_all(&store, prefix, 7).await, expected, "{prefix:?}");
    }
}

pub async fn a_scan_ends_early_but_never_without_an_entry(bench: &mut dyn Bench) {
    let store = bench.store();
    for number in 0..5 {
        store.set(None, &number.to_string(), StateValue::Bytes(vec![1; LIMITS.value_bytes])).await.unwrap();
    }
    let page = store.scan("", None, 100).await.unwrap();
    let bytes: usize = page.iter().map(|(_, value)| value.size()).sum();
    assert!(!page.is_empty() && page.len() < 5 && bytes <= LIMITS.scan_bytes, "{} entries, {bytes} bytes", page.len());
    assert_eq!(scan_all(&store, "", 100).await, ["0", "1", "2", "3", "4"]);
}

pub async fn the_holder_may_write_state(bench: &mut dyn Bench) {
    let store = bench.store();
    let lease = Some(running(&*store).await);
    store.set(lease, "a", json(json!(1))).await.unwrap();
    assert_eq!(store.increment(lease, "a", &Number::from(2)).await.unwrap(), Number::from(3));
    assert!(store.compare_and_set(lease, "a", Some(json(json!(3))), Some(json(json!("b")))).await.unwrap());
    assert!(store.delete(lease, "a").await.unwrap());
    assert_eq!(store.get("a").await.unwrap(), None);
}

fn values() -> Vec<StateValue> {
    let mut nested = json!(1);
    for _ in 0..500 {
        nested = json!([nested]);
    }
    let array =
        |dtype: Dtype, shape: &[u64], data: &[u8]| StateValue::Array(Array { dtype, shape: shape.to_vec(), data: data.to_vec() });
    vec![
        json(json!(null)),
        json(json!(true)),
        json(json!("")),
        json(json!("a\0b ü 🧪 \u{10FFFF} \" \\ \u{2028}")),
        json(json!({"": [], "a\0": {}, "ü": [null, -0.0, 1.5]})),
        json(json!([u64::MAX, i64::MIN, 9_007_199_254_740_993_i64])),
        json(json!([0.1, 1e-7, 5e-324, f64::MAX, 1.0, 31.245_270_191_439_438, 121.487_919_511_619_45, 100.783_994_402_979_95])),
        json(nested),
        StateValue::Bytes(Vec::new()),
        StateValue::Bytes((0..=255).collect()),
        array(Dtype::F32, &[2, 1], &[0, 0, 128, 63, 0, 0, 192, 127]),
        array(Dtype::I64, &[], &[255; 8]),
        array(Dtype::U8, &[0, u64::MAX], &[]),
    ]
}

fn json(value: Value) -> StateValue {
    StateValue::Json(value)
}

/// The keys of every page.
async fn scan_all(store: &Arc<dyn Store>, prefix: &str, limit: u32) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = store.scan(prefix, found.last().map(String::as_str), limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        if page.is_empty() {
            return found;
        }
        found.extend(names(page));
    }
}

fn names(page: Vec<(String, StateValue)>) -> Vec<String> {
    page.into_iter().map(|(key, _)| key).collect()
}

fn assert_invalid<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::InvalidKey)), "{result:?}");
}

fn assert_too_large<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let expected = LIMITS.value_bytes;
    match result {
        Err(StoreError::ValueTooLarge { key, size, limit }) => {
            assert_eq!((key.as_str(), size, limit), ("key", expected + 1, expected))
        }
        other => panic!("{other:?}"),
    }
}
