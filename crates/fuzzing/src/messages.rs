//! The messages between server and workers.

use bytes::BytesMut;
use dunnage_protocol::{Frame, Item, MessageError, Outputs, ToServer, ToWorker, decode};
use dunnage_workers::fuzzing::vectors;

/// Takes every message out of a stream of frames.
///
/// A message that can be read can be written, and is then read as the same. An answer's payload is split as its header says, or not
/// at all.
pub fn messages(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = decode(&mut buffer) {
        is_stable(&frame, ToWorker::from_frame, ToWorker::to_frame);
        is_stable(&frame, ToServer::from_frame, ToServer::to_frame);
        if let Ok(ToServer::Outputs(outputs, _)) = ToServer::from_frame(&frame) {
            is_split_as_announced(outputs, &frame);
        }
    }
}

fn is_stable<Message>(
    frame: &Frame,
    read: impl Fn(&Frame) -> Result<Message, MessageError>,
    write: impl Fn(&Message) -> Result<Frame, MessageError>,
) {
    let Ok(message) = read(frame) else { return };
    let written = write(&message).expect("a message that was read can be written");
    let again = read(&written).expect("a message that was written can be read");
    // Not the messages: a number that is none differs from itself.
    assert_eq!(write(&again).expect("it could be written before"), written);
}

fn is_split_as_announced(outputs: Outputs, frame: &Frame) {
    let announced = outputs.items.clone();
    let Ok(found) = vectors(outputs, frame.payload.clone()) else { return };
    assert_eq!(found.len(), announced.len(), "there is an answer to each request");
    let mut bytes = 0;
    for (found, announced) in found.iter().zip(&announced) {
        let Item::Vector(layout) = announced else {
            assert!(found.is_err(), "an error was announced");
            continue;
        };
        bytes += layout.length * layout.dtype.size() as u64;
        if let Ok(vector) = found {
            assert_eq!((vector.dtype(), vector.len() as u64), (layout.dtype, layout.length));
            let json = serde_json::to_value(vector).expect("a vector has a JSON form");
            assert!(json.as_array().is_some_and(|numbers| numbers.iter().all(serde_json::Value::is_number)), "{json}");
        }
    }
    assert_eq!(bytes, frame.payload.len() as u64, "the payload is used up");
}
