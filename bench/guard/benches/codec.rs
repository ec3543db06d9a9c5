//! How long the frames of a request and its answer take, and printing the numbers. `make bench-micro` runs them.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dunnage_guard::codec;
use dunnage_types::Vector;

fn encoding(criterion: &mut Criterion) {
    let request = codec::request();
    let mut buffer = BytesMut::with_capacity(4096);
    criterion.bench_function("encode_call", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            codec::encode_call(black_box(&request), &mut buffer).expect("a call can be written");
            black_box(&buffer);
        });
    });
}

fn decoding(criterion: &mut Criterion) {
    let answer = codec::answer().expect("an answer can be written");
    criterion.bench_function("decode_answer", |bencher| {
        bencher.iter_batched_ref(
            || BytesMut::from(&answer[..]),
            |buffer| codec::decode_answer(buffer).expect("it is an answer"),
            BatchSize::SmallInput,
        );
    });
}

fn printing(criterion: &mut Criterion) {
    let vector = Vector::from(&codec::numbers()[..]);
    let mut text = Vec::with_capacity(4096);
    criterion.bench_function("print_vector", |bencher| {
        bencher.iter(|| {
            text.clear();
            serde_json::to_writer(&mut text, black_box(&vector)).expect("numbers can be printed");
            black_box(&text);
        });
    });
}

criterion_group!(benches, encoding, decoding, printing);
criterion_main!(benches);
