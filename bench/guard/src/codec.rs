//! The frames of a request and its answer, and the numbers in them.

use std::hint::black_box;

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use dunnage_protocol::{CallId, File, GivenOutput, Item, Outputs, Request, ToServer, VectorLayout, decode};
use dunnage_types::{JsonObject, Vector, VectorType};

use crate::place::Place;

/// How many numbers an answer has.
pub const NUMBERS: u64 = 128;

/// The numbers of an answer. Most have as many digits as there can be.
#[must_use]
pub fn numbers() -> Vec<f64> {
    (1_u32..).take(usize::try_from(NUMBERS).unwrap_or_default()).map(|number| f64::from(number) / 7.0).collect()
}

/// A request with one file.
#[must_use]
pub fn request() -> Request {
    let file = File {
        uri: "file:///srv/files/users/0042/sample.csv".to_owned(),
        path: "/srv/files/users/0042/sample.csv".into(),
        size: 4096,
        etag: Some("1f3a2-1000-68f1c2d0.1d905c0".to_owned()),
    };
    Request { request_id: "0190b5d2-6a3f-4c1b-9d55-3f2f6d1a7e10".to_owned(), files: vec![file], params: JsonObject::new() }
}

/// Appends the call that asks for `request` to `buffer`.
///
/// # Errors
///
/// When it cannot be written.
pub fn encode_call(request: &Request, buffer: &mut BytesMut) -> anyhow::Result<()> {
    let call = GivenOutput { call: CallId(7), deadline: Some(1_767_225_600.25), limit: Some(30.0), requests: &[request] };
    Ok(call.encode(buffer)?)
}

/// The answer to a call, in its frame.
///
/// # Errors
///
/// When it cannot be written.
pub fn answer() -> anyhow::Result<Bytes> {
    let layout = VectorLayout { dtype: VectorType::F64, length: NUMBERS };
    let outputs = Outputs { call: CallId(7), items: vec![Item::Vector(layout)] };
    let payload = Bytes::copy_from_slice(Vector::from(&numbers()[..]).bytes());
    let mut buffer = BytesMut::new();
    ToServer::Outputs(outputs, payload).encode(&mut buffer)?;
    Ok(buffer.freeze())
}

/// Reads an answer from its frame, out of `buffer`.
///
/// # Errors
///
/// When it is none.
pub fn decode_answer(buffer: &mut BytesMut) -> anyhow::Result<Vector<Bytes>> {
    let frame = decode(buffer)?.ok_or_else(|| anyhow::anyhow!("the frame is incomplete"))?;
    match ToServer::from_frame(&frame)? {
        ToServer::Outputs(_, payload) => Ok(Vector::new(VectorType::F64, payload)?),
        other => anyhow::bail!("another message came back: {other:?}"),
    }
}

pub(crate) fn encode_calls(_place: &Place, rounds: u32) -> anyhow::Result<()> {
    let request = request();
    let mut buffer = BytesMut::with_capacity(4096);
    for _ in 0..rounds {
        buffer.clear();
        encode_call(black_box(&request), &mut buffer)?;
        black_box(&buffer);
    }
    Ok(())
}

pub(crate) fn decode_answers(_place: &Place, rounds: u32) -> anyhow::Result<()> {
    let answer = answer()?;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    for _ in 0..rounds {
        buffer.extend_from_slice(black_box(&answer));
        let vector = decode_answer(&mut buffer)?;
        ensure!(black_box(vector).len() as u64 == NUMBERS, "numbers were lost");
    }
    Ok(())
}

pub(crate) fn print_vectors(_place: &Place, rounds: u32) -> anyhow::Result<()> {
    let vector = Vector::from(&numbers()[..]);
    let mut text = Vec::with_capacity(4096);
    for _ in 0..rounds {
        text.clear();
        serde_json::to_writer(&mut text, black_box(&vector))?;
        black_box(&text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let mut buffer = BytesMut::from(&answer().unwrap()[..]);
        assert_eq!(decode_answer(&mut buffer).unwrap().bytes(), Vector::from(&numbers()[..]).bytes());
    }
}
