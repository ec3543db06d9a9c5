//! The envelope of messages between server and workers.

use bytes::{Bytes, BytesMut};
use dunnage_protocol::{Frame, FrameError, decode, decode_with, read_frame};

/// Memory that may be set aside for bytes that are not there, besides as much as is there: 64 KiB, and what rounding makes of it.
const AHEAD_BYTES: usize = 3 * (64 << 10);

/// Takes frames out of a stream that comes in pieces; the first byte says how long these are.
///
/// Both ways of reading find the same frames, which are written again as they came, and what a frame announces takes up no memory
/// before it has come. Where payloads may be in descriptors, the frames up to the first of those are the same.
pub fn frames(data: &[u8]) {
    let Some((&step, wire)) = data.split_first() else { return };
    let step = usize::from(step).max(1);
    let found = in_pieces(wire, step, decode);
    let beside = in_pieces(wire, step, |buffer| decode_with(buffer, |_| Ok::<_, FrameError>(Bytes::new())));
    assert!(beside.starts_with(&found), "frames without descriptors, on a connection that has some");
    assert_eq!(found, at_once(wire), "the same bytes, read in two ways");
    let mut written = BytesMut::new();
    found.iter().for_each(|frame| frame.encode(&mut written).expect("what was read is not too long"));
    assert!(wire.starts_with(&written), "frames are written as they were read");
}

fn in_pieces(wire: &[u8], step: usize, decode: impl Fn(&mut BytesMut) -> Result<Option<Frame>, FrameError>) -> Vec<Frame> {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in wire.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&mut buffer) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
        assert!(buffer.capacity() <= 4 * wire.len() + AHEAD_BYTES, "{} bytes are set aside", buffer.capacity());
    }
    found
}

fn at_once(mut wire: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while let Ok(Some(frame)) = read_frame(&mut wire) {
        found.push(frame);
    }
    found
}
