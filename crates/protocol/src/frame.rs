//! The envelope around every message.
//!
//! ```text
//! offset  size  field
//!      0     4  length of the header in bytes, little-endian
//!      4     4  length of the payload in bytes, little-endian
//!      8     2  kind of the message, little-endian
//!     10     2  flags, little-endian: 1 where the payload is in a descriptor, otherwise 0
//!     12        header (a MessagePack map), then payload (raw bytes), unless it is in a descriptor
//! ```

use std::io::{self, Read};

use bytes::buf::Writer;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The size of the fixed part in front of every frame.
pub const PREFIX_BYTES: usize = 12;
/// The longest header: 16 MiB. Headers hold addresses, parameters and state values.
pub const MAX_HEADER_BYTES: usize = 16 << 20;
/// The longest payload: 256 MiB. Payloads hold output vectors.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 20;

/// The flag of a frame whose payload does not follow: it is in a descriptor that has been sent with the frame's first byte.
const IN_DESCRIPTOR: u16 = 1;

/// How much memory is set aside at least for bytes that have been announced and are not there yet.
const AHEAD_BYTES: usize = 64 << 10;

/// One message in its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which message the header holds.
    pub kind: u16,
    /// The message, as a MessagePack map.
    pub header: Bytes,
    /// Bytes that would be wasteful to pack.
    pub payload: Bytes,
}

impl Frame {
    /// Appends the frame to `buffer`, as it goes over the wire.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] if a part is over its limit; `buffer` is then unchanged.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let header_length = checked_length("header", self.header.len(), MAX_HEADER_BYTES)?;
        let payload_length = checked_length("payload", self.payload.len(), MAX_PAYLOAD_BYTES)?;
        buffer.reserve(PREFIX_BYTES + self.header.len() + self.payload.len());
        buffer.put_u32_le(header_length);
        buffer.put_u32_le(payload_length);
        buffer.put_u16_le(self.kind);
        buffer.put_u16_le(Place::Follows.flags());
        buffer.put_slice(&self.header);
        buffer.put_slice(&self.payload);
        Ok(())
    }

    /// The only frame in `buffer`, which [`encode_head_with`] has begun.
    pub(crate) fn whole(mut buffer: BytesMut) -> Self {
        let header_bytes = buffer.get_u32_le() as usize;
        let _payload_bytes = buffer.get_u32_le();
        let kind = buffer.get_u16_le();
        let _flags = buffer.get_u16_le();
        let header = buffer.split_to(header_bytes).freeze();
        Self { kind, header, payload: buffer.freeze() }
    }

    /// The frame as it goes over the wire.
    ///
    /// # Errors
    ///
    /// As [`Frame::encode`].
    pub fn to_bytes(&self) -> Result<Bytes, FrameError> {
        let mut buffer = BytesMut::new();
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }
}

/// Where the payload of a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind the header.
    Follows,
    /// In a descriptor.
    InDescriptor,
}

impl Place {
    fn flags(self) -> u16 {
        match self {
            Self::Follows => 0,
            Self::InDescriptor => IN_DESCRIPTOR,
        }
    }
}

/// Appends a frame to `buffer` but for its payload, which has to follow or to come in a descriptor. The header is written by `write`
/// where it belongs, so that it is not copied.
///
/// # Errors
///
/// What `write` returns, or [`FrameError::TooLong`]; `buffer` is then unchanged.
pub(crate) fn encode_head_with<Error: From<FrameError>>(
    buffer: &mut BytesMut,
    kind: u16,
    payload: (Place, usize),
    write: impl FnOnce(Writer<&mut BytesMut>) -> Result<(), Error>,
) -> Result<(), Error> {
    let begin = buffer.len();
    let written = write_head(buffer, kind, payload, write);
    if written.is_err() {
        buffer.truncate(begin);
    }
    written
}

fn write_head<Error: From<FrameError>>(
    buffer: &mut BytesMut,
    kind: u16,
    payload: (Place, usize),
    write: impl FnOnce(Writer<&mut BytesMut>) -> Result<(), Error>,
) -> Result<(), Error> {
    let begin = buffer.len();
    let (place, payload_bytes) = payload;
    let payload_length = checked_length("payload", payload_bytes, MAX_PAYLOAD_BYTES)?;
    // The header's length is put in once it is known.
    buffer.put_u32_le(0);
    buffer.put_u32_le(payload_length);
    buffer.put_u16_le(kind);
    buffer.put_u16_le(place.flags());
    write((&mut *buffer).writer())?;
    let header_length = checked_length("header", buffer.len() - begin - PREFIX_BYTES, MAX_HEADER_BYTES)?;
    buffer[begin..begin + 4].copy_from_slice(&header_length.to_le_bytes());
    Ok(())
}

/// Takes the first whole frame out of `buffer`, or `None` while it is incomplete. The lengths are checked as soon as they
/// are there. Whatever they say, no more memory is set aside than what has come takes up, and 64 KiB.
///
/// # Errors
///
/// [`FrameError`] if what is there cannot be a frame; the connection is then of no further use.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    decode_with(buffer, |_| Err(FrameError::Descriptor))
}

/// As [`decode`], on a connection that descriptors come over, too. `take` makes the next of them the payload of a frame, which has so
/// many bytes; it is called once for each frame whose payload is in one, in their order, when the rest of the frame is there.
///
/// # Errors
///
/// As [`decode`], and whatever `take` returns.
pub fn decode_with<Error: From<FrameError>>(
    buffer: &mut BytesMut,
    take: impl FnOnce(usize) -> Result<Bytes, Error>,
) -> Result<Option<Frame>, Error> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let prefix = Prefix::parse(prefix)?;
    let total = PREFIX_BYTES + prefix.header_bytes + prefix.bytes_that_follow();
    if buffer.len() < total {
        let ahead = buffer.len().max(AHEAD_BYTES);
        buffer.reserve(ahead.min(total - buffer.len()));
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    let header = buffer.split_to(prefix.header_bytes).freeze();
    let payload = match prefix.payload {
        Place::Follows => buffer.split_to(prefix.payload_bytes).freeze(),
        Place::InDescriptor => take(prefix.payload_bytes)?,
    };
    Ok(Some(Frame { kind: prefix.kind, header, payload }))
}

/// Reads one frame, blocking until it is there; `None` when the other side has closed the connection between frames. Memory is set
/// aside as its bytes come.
///
/// # Errors
///
/// An [`io::Error`] of the reader; kind `UnexpectedEof` if the connection ended within a frame, `InvalidData` with a
/// [`FrameError`] inside if the bytes cannot be a frame.
pub fn read_frame(reader: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut prefix = [0; PREFIX_BYTES];
    let first = read_some(reader, &mut prefix)?;
    if first == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut prefix[first..])?;
    let prefix = Prefix::parse(&prefix).and_then(Prefix::without_descriptor);
    let prefix = prefix.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let total = prefix.header_bytes + prefix.payload_bytes;
    let mut body = Vec::with_capacity(total.min(AHEAD_BYTES));
    if reader.take(total as u64).read_to_end(&mut body)? < total {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut header = Bytes::from(body);
    let payload = header.split_off(prefix.header_bytes);
    Ok(Some(Frame { kind: prefix.kind, header, payload }))
}

/// Reads at least one byte, unless the other side has closed; a signal does not interrupt it.
fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

struct Prefix {
    header_bytes: usize,
    payload_bytes: usize,
    payload: Place,
    kind: u16,
}

impl Prefix {
    fn parse(bytes: &[u8; PREFIX_BYTES]) -> Result<Self, FrameError> {
        let mut rest = &bytes[..];
        let header_bytes = rest.get_u32_le() as usize;
        let payload_bytes = rest.get_u32_le() as usize;
        let kind = rest.get_u16_le();
        let flags = rest.get_u16_le();
        checked_length("header", header_bytes, MAX_HEADER_BYTES)?;
        checked_length("payload", payload_bytes, MAX_PAYLOAD_BYTES)?;
        let payload = match flags {
            0 => Place::Follows,
            IN_DESCRIPTOR => Place::InDescriptor,
            unknown => return Err(FrameError::Flags(unknown)),
        };
        Ok(Self { header_bytes, payload_bytes, payload, kind })
    }

    fn bytes_that_follow(&self) -> usize {
        match self.payload {
            Place::Follows => self.payload_bytes,
            Place::InDescriptor => 0,
        }
    }

    fn without_descriptor(self) -> Result<Self, FrameError> {
        match self.payload {
            Place::Follows => Ok(self),
            Place::InDescriptor => Err(FrameError::Descriptor),
        }
    }
}

fn checked_length(part: &'static str, length: usize, limit: usize) -> Result<u32, FrameError> {
    let fits = u32::try_from(length).ok().filter(|_| length <= limit);
    fits.ok_or(FrameError::TooLong { part, length, limit })
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A part is longer than the protocol allows.
    #[error("a frame's {part} has {length} bytes; at most {limit} are allowed")]
    TooLong {
        /// `header` or `payload`.
        part: &'static str,
        /// Its length.
        length: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// There are flags that mean nothing: this is another protocol, or garbage.
    #[error("a frame has the flags {0:#06x}; only 0 and 1 are known")]
    Flags(u16),
    /// The payload is in a descriptor, on a connection that none comes over.
    #[error("a frame's payload is in a descriptor, and none can come here")]
    Descriptor,
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        (any::<u16>(), bytes(), bytes()).prop_map(|(kind, header, payload)| Frame { kind, header, payload })
    }

    proptest! {
        #[test]
        fn frames_survive_any_fragmentation(frames in proptest::collection::vec(any_frame(), 1..5), step in 1_usize..50) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                frame.encode(&mut wire).unwrap();
            }
            let mut buffer = BytesMut::new();
            let mut decoded = Vec::new();
            for part in wire.chunks(step) {
                buffer.extend_from_slice(part);
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert_eq!(decoded, frames);
            prop_assert!(buffer.is_empty());
        }

        /// The payloads that are in descriptors stand in a list of their own, as they do not come with the bytes.
        #[test]
        fn payloads_in_descriptors_are_taken_in_the_order_of_their_frames(
            frames in proptest::collection::vec((any_frame(), any::<bool>()), 1..5), step in 1_usize..50,
        ) {
            let (mut wire, mut elsewhere) = (BytesMut::new(), VecDeque::new());
            for (frame, in_descriptor) in &frames {
                let place = if *in_descriptor { Place::InDescriptor } else { Place::Follows };
                let write = |mut writer: Writer<&mut BytesMut>| writer.write_all(&frame.header).map_err(|_| FrameError::Descriptor);
                encode_head_with(&mut wire, frame.kind, (place, frame.payload.len()), write).unwrap();
                match place {
                    Place::Follows => wire.put_slice(&frame.payload),
                    Place::InDescriptor => elsewhere.push_back(frame.payload.clone()),
                }
            }
            let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
            for part in wire.chunks(step) {
                buffer.extend_from_slice(part);
                let mut take = |length| elsewhere.pop_front().filter(|payload| payload.len() == length).ok_or(FrameError::Descriptor);
                while let Some(frame) = decode_with(&mut buffer, &mut take).unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert!(decoded.iter().eq(frames.iter().map(|(frame, _)| frame)));
            prop_assert!(buffer.is_empty() && elsewhere.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
            let mut reader = &bytes[..];
            while let Ok(Some(_)) = read_frame(&mut reader) {}
        }
    }

    #[test]
    fn an_impossible_length_is_refused_from_the_prefix_alone() {
        let mut buffer = BytesMut::from(&[0xff_u8; PREFIX_BYTES][..]);
        let error = decode(&mut buffer).unwrap_err();
        assert_eq!(error, FrameError::TooLong { part: "header", length: 0xffff_ffff, limit: MAX_HEADER_BYTES });
    }

    #[test]
    fn a_payload_in_a_descriptor_is_refused_where_none_can_come() {
        let mut wire = BytesMut::new();
        encode_head_with::<FrameError>(&mut wire, 104, (Place::InDescriptor, 1 << 20), |_| Ok(())).unwrap();
        assert_eq!(decode(&mut wire.clone()), Err(FrameError::Descriptor));
        let error = read_frame(&mut &wire[..]).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidData, FrameError::Descriptor.to_string()));
        wire[10] = 3;
        assert_eq!(decode(&mut wire), Err(FrameError::Flags(3)));
    }

    #[test]
    fn what_is_announced_takes_up_no_memory_before_it_is_there() {
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(u32::try_from(MAX_HEADER_BYTES).unwrap());
        buffer.put_u32_le(u32::try_from(MAX_PAYLOAD_BYTES).unwrap());
        buffer.put_u32_le(1);
        for _ in 0..4 {
            assert_eq!(decode(&mut buffer), Ok(None));
            assert!(buffer.capacity() <= 3 * buffer.len() + 2 * AHEAD_BYTES, "{} for {}", buffer.capacity(), buffer.len());
            buffer.put_bytes(0, buffer.capacity() - buffer.len());
        }
    }

    #[test]
    fn an_end_between_frames_differs_from_one_within() {
        let wire = Frame { kind: 1, header: Bytes::from_static(b"abc"), payload: Bytes::new() }.to_bytes().unwrap();
        assert!(read_frame(&mut &wire[..0]).unwrap().is_none());
        assert_eq!(read_frame(&mut &wire[..5]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_frame(&mut &wire[..]).unwrap().is_some());
    }
}
