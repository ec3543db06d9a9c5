use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use dunnage_protocol::{CallId, Item, Outputs, VectorLayout};
use dunnage_types::VectorType;
use proptest::prelude::*;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::*;

/// What a worker seals its files with.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn file(name: &str, contents: &[u8], seals: SealFlags) -> OwnedFd {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
    file.write_all(contents).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// A worker's end, which sends as much with one call as it is told to.
struct Peer(StdUnixStream);

impl Peer {
    fn send(&self, bytes: &[u8], descriptors: &[OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        let sent = rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }
}

fn pair() -> (Connection, Peer) {
    let (server, worker) = StdUnixStream::pair().unwrap();
    (Connection::new(server).unwrap(), Peer(worker))
}

fn outputs(payload_bytes: usize) -> Outputs {
    let layout = VectorLayout { dtype: VectorType::F32, length: payload_bytes as u64 / 4 };
    Outputs { call: CallId(7), items: vec![Item::Vector(layout)] }
}

/// A frame that announces a payload in a descriptor.
fn announcing(payload_bytes: usize) -> BytesMut {
    let mut head = BytesMut::new();
    outputs(payload_bytes).encode_with_descriptor(&mut head, payload_bytes).unwrap();
    head
}

fn with_payload(payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    ToServer::Outputs(outputs(payload.len()), Bytes::copy_from_slice(payload)).encode(&mut frame).unwrap();
    frame
}

fn payload(message: Option<ToServer>) -> Bytes {
    let Some(ToServer::Outputs(_, payload)) = message else { panic!("not {message:?}") };
    payload
}

/// What becomes of a connection over which nothing good comes.
async fn broken(mut connection: Connection) -> DescriptorError {
    loop {
        match connection.turn().await {
            Ok(Some(_)) => {}
            Err(Broken::Descriptor(error)) => return error,
            other => panic!("not {other:?}"),
        }
    }
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn payloads_arrive_in_their_frames_however_these_are_cut(
        sent in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..300), any::<bool>()), 1..8),
        step in 1_usize..400,
    ) {
        let payloads: Vec<_> = sent.iter().map(|(payload, _)| payload.clone()).collect();
        let received = in_runtime(async {
            let (mut connection, peer) = pair();
            let sending = std::thread::spawn(move || {
                for (payload, in_descriptor) in sent {
                    let (frame, mut descriptors) = if in_descriptor {
                        (announcing(payload.len()), vec![file("pieces", &payload, SEALS)])
                    } else {
                        (with_payload(&payload), vec![])
                    };
                    frame.chunks(step).for_each(|piece| peer.send(piece, &std::mem::take(&mut descriptors)));
                }
            });
            let mut received = Vec::new();
            while let Some(message) = connection.turn().await.unwrap() {
                received.push(payload(Some(message)).to_vec());
            }
            sending.join().unwrap();
            received
        });
        prop_assert_eq!(received, payloads);
    }
}

#[tokio::test]
async fn a_file_that_could_change_or_end_under_our_hands_is_refused() {
    let contents = [1; 8192];
    let without = |seal: SealFlags| file("hostile", &contents, SEALS.difference(seal));
    let hole = File::from(rustix::fs::memfd_create("hostile", MemfdFlags::ALLOW_SEALING).unwrap());
    hole.set_len(8192).unwrap();
    rustix::fs::fcntl_add_seals(&hole, SEALS).unwrap();
    let elsewhere = File::from(rustix::fs::memfd_create("hostile", MemfdFlags::ALLOW_SEALING).unwrap());
    elsewhere.set_len(8192).unwrap();
    rustix::fs::fallocate(&elsewhere, FallocateFlags::KEEP_SIZE, 8192, 8192).unwrap();
    rustix::fs::fcntl_add_seals(&elsewhere, SEALS).unwrap();
    let mut ordinary = tempfile::tempfile().unwrap();
    ordinary.write_all(&contents).unwrap();
    let cases = [
        ("writable", without(SealFlags::WRITE), "sealed against every change"),
        ("may become shorter", without(SealFlags::SHRINK), "sealed against every change"),
        ("may become longer", without(SealFlags::GROW), "sealed against every change"),
        ("sealed for now", without(SealFlags::SEAL), "sealed against every change"),
        ("too short", file("hostile", &contents[..8191], SEALS), "has 8191 bytes instead of the 8192"),
        ("too long", file("hostile", &[1; 8193], SEALS), "has 8193 bytes instead of the 8192"),
        ("empty", file("hostile", &[], SEALS), "has 0 bytes instead of the 8192"),
        ("a hole", hole.into(), "has bytes without memory"),
        ("a hole, with memory behind its end", elsewhere.into(), "has bytes without memory"),
        ("an ordinary file", ordinary.into(), "no file in memory"),
        ("a device", File::open("/dev/zero").unwrap().into(), "no file in memory"),
        ("a pipe", rustix::pipe::pipe().unwrap().0, "no file in memory"),
        ("a socket", StdUnixStream::pair().unwrap().0.into(), "no file in memory"),
        ("a folder", File::open("/").unwrap().into(), "no file in memory"),
    ];
    for (what, descriptor, told) in cases {
        let (connection, peer) = pair();
        peer.send(&announcing(8192), &[descriptor]);
        let error = broken(connection).await.to_string();
        assert!(error.contains(told), "{what}: {error}");
    }
}

#[tokio::test]
async fn descriptors_and_frames_have_to_fit_each_other() {
    let good = || file("hostile", &[1; 64], SEALS);
    let (connection, peer) = pair();
    peer.send(&announcing(64), &[]);
    assert!(matches!(broken(connection).await, DescriptorError::Missing));

    let (connection, peer) = pair();
    peer.send(&with_payload(&[1; 64]), &[good()]);
    assert!(matches!(broken(connection).await, DescriptorError::Unannounced));

    let (connection, peer) = pair();
    peer.send(&announcing(64), &[good(), good()]);
    assert!(matches!(broken(connection).await, DescriptorError::Cut));

    // A frame that never ends, with a descriptor at every byte.
    let (connection, peer) = pair();
    announcing(64).chunks(1).take(20).for_each(|byte| peer.send(byte, &[good()]));
    assert!(matches!(broken(connection).await, DescriptorError::TooMany));
}

#[tokio::test]
async fn an_empty_payload_needs_no_descriptor_and_gets_none() {
    let (connection, peer) = pair();
    peer.send(&announcing(0), &[file("hostile", &[], SEALS)]);
    assert!(matches!(broken(connection).await, DescriptorError::Length { found: 0, announced: 0 }));
}

/// This process's descriptors of files of a name, and places in its memory.
fn kept(name: &str) -> (usize, usize) {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (links.filter(|link| link.to_string_lossy().contains(name)).count(), maps.lines().filter(|line| line.contains(name)).count())
}

#[tokio::test]
async fn a_thousand_payloads_leave_neither_descriptors_nor_memory_behind() {
    let (mut connection, peer) = pair();
    for number in 0..1000_u32 {
        let contents = number.to_le_bytes().repeat(5000);
        peer.send(&announcing(contents.len()), &[file("a-thousand", &contents, SEALS)]);
        let received = payload(connection.turn().await.unwrap());
        assert_eq!(kept("a-thousand"), (0, 1), "mapped, with its descriptor closed");
        assert_eq!(received, contents);
    }
    assert_eq!(kept("a-thousand"), (0, 0));
    peer.send(&announcing(8), &[file("a-thousand", &[1; 8], SEALS)]);
    peer.send(&announcing(4)[..9], &[file("a-thousand", &[1; 4], SEALS)]);
    assert_eq!(payload(connection.turn().await.unwrap()), [1; 8][..]);
    drop((peer, connection));
    assert_eq!(kept("a-thousand"), (0, 0), "what waited for its frame went with the connection");
}

#[tokio::test]
async fn what_a_worker_has_sent_before_it_ended_arrives() {
    let (mut connection, peer) = pair();
    for number in 1..=20_u8 {
        peer.send(&announcing(64), &[file("last", &[number; 64], SEALS)]);
        peer.send(&with_payload(&[number; 4]), &[]);
    }
    peer.send(&announcing(64)[..30], &[file("last", &[0; 64], SEALS)]);
    drop(peer);
    for number in 1..=20_u8 {
        assert_eq!(payload(connection.next_of_rest().unwrap()), [number; 64][..]);
        assert_eq!(payload(connection.next_of_rest().unwrap()), [number; 4][..]);
    }
    assert!(connection.next_of_rest().unwrap().is_none(), "the last one breaks off");
}
