//! `docs/runtime-protocol.md` agrees with the code.
//!
//! Every example there is packed, read as the message it claims to be, and packed again: the same bytes must come out, in
//! whatever order. A field that the page forgets, invents or misspells changes them.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use dunnage_protocol::{Frame, MessageError, ToServer, ToWorker, decode};
use serde::{Serialize, Serializer};
use serde_json::Value;

const PAGE: &str = include_str!("../../../docs/runtime-protocol.md");
const CODE: &str = include_str!("../src/message.rs");

#[test]
fn the_kinds_are_those_of_the_code() {
    let listed =
        |direction: &str| -> BTreeSet<u16> { kinds().filter(|kind| kind.direction == direction).map(|kind| kind.number).collect() };
    let known = |is_known: fn(&Frame) -> bool| -> BTreeSet<u16> {
        (0..=u16::MAX).filter(|&kind| is_known(&Frame { kind, header: Bytes::new(), payload: Bytes::new() })).collect()
    };
    assert_eq!(listed("to the worker"), known(|frame| !matches!(ToWorker::from_frame(frame), Err(MessageError::UnknownKind(_)))));
    assert_eq!(listed("to the server"), known(|frame| !matches!(ToServer::from_frame(frame), Err(MessageError::UnknownKind(_)))));
}

#[test]
fn every_message_has_an_example_with_all_its_fields() {
    for kind in kinds() {
        let examples: Vec<_> = blocks(&format!("json {}", kind.name)).collect();
        assert!(!examples.is_empty(), "`{}` has no example", kind.name);
        for example in examples {
            let json: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}"));
            let header = Bytes::from(rmp_serde::to_vec_named(&Packed(&json)).unwrap());
            let frame = Frame { kind: kind.number, header, payload: Bytes::new() };
            let (name, again) = read_and_pack(&frame);
            assert_eq!(name, kind.name, "the name of kind {}", kind.number);
            assert_eq!(sorted(&again.header), sorted(&frame.header), "{example} is read as {:?}", read_and_pack(&frame));
        }
    }
}

#[test]
fn every_answer_and_operation_has_an_example() {
    let examples: String = blocks("json Ask").chain(blocks("json Reply")).collect();
    for (enumeration, title) in [("pub enum Operation", "Operation"), ("pub enum Answer", "Answer")] {
        for word in variants(enumeration) {
            assert!(examples.contains(&format!("\"{word}\"")), "{title} `{word}` has no example");
        }
    }
}

#[test]
fn the_dumps_are_what_the_code_sends() {
    for name in ["Hello", "Outputs"] {
        let dump = blocks(&format!("hex {name}")).next().expect("a dump");
        let bytes = dump.lines().flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace());
        let bytes: Vec<u8> = bytes.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
        let mut buffer = BytesMut::from(&bytes[..]);
        let frame = decode(&mut buffer).expect("a frame").expect("a whole frame");
        assert!(buffer.is_empty(), "bytes behind the frame");
        let (read, again) = read_and_pack(&frame);
        assert_eq!(read, name);
        assert_eq!(again.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn the_error_codes_are_those_of_the_code() {
    for (heading, structure) in [("| Call error |", "pub struct CallError"), ("| Refusal |", "pub struct AskError")] {
        let listed: BTreeSet<_> = rows(heading).map(|row| quoted(row[0])).collect();
        assert_eq!(listed, codes(structure), "{heading}");
    }
}

struct Kind {
    number: u16,
    name: &'static str,
    direction: &'static str,
}

/// The page's table of messages.
fn kinds() -> impl Iterator<Item = Kind> {
    rows("| Kind | Message |").map(|row| Kind {
        number: row[0].parse().expect("a number"),
        name: quoted(row[1]),
        direction: row[2],
    })
}

/// The rows of the table that begins so, cut into cells.
fn rows(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let table = &PAGE[PAGE.find(heading).unwrap_or_else(|| panic!("the page has no table `{heading}`"))..];
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(|line| line.split('|').skip(1).map(str::trim).collect())
}

/// The fenced blocks with this label.
fn blocks(label: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{label}\n");
    PAGE.match_indices(&fence)
        .map(|(start, fence)| PAGE[start + fence.len()..].split("```").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .into_iter()
}

fn quoted(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// The codes that the documentation of a structure's `code` lists: codes are texts, so that is where they are defined.
fn codes(structure: &str) -> BTreeSet<&'static str> {
    let body = &CODE[CODE.find(structure).expect("the structure")..];
    let documentation = body.split("pub code").next().unwrap_or_default();
    documentation.split('`').skip(1).step_by(2).collect()
}

/// The words of an enumeration's variants, as they go over the wire.
fn variants(enumeration: &str) -> Vec<String> {
    let body = &CODE[CODE.find(enumeration).expect("the enumeration")..];
    let body = body.split("\n}\n").next().unwrap_or_default();
    let names = body.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)));
    let names = names.map(|line| line.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default());
    names.map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// The message in a frame: its name, and the frame that the code makes of it.
fn read_and_pack(frame: &Frame) -> (String, Frame) {
    let (debug, again) = if frame.kind < 100 {
        let message = ToWorker::from_frame(frame).expect("a message");
        (format!("{message:?}"), message.to_frame().expect("a frame"))
    } else {
        let message = ToServer::from_frame(frame).expect("a message");
        (format!("{message:?}"), message.to_frame().expect("a frame"))
    };
    let name = debug.split('(').next().unwrap_or_default().to_owned();
    (name, again)
}

fn sorted(bytes: &[u8]) -> Vec<u8> {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    sorted
}

/// JSON in which the text `h'00ff'` stands for bytes.
struct Packed<'a>(&'a Value);

impl Serialize for Packed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(object) => serializer.collect_map(object.iter().map(|(key, value)| (key, Packed(value)))),
            Value::Array(array) => serializer.collect_seq(array.iter().map(Packed)),
            Value::String(text) => match text.strip_prefix("h'") {
                Some(digits) => serializer.serialize_bytes(&unhex(digits.trim_end_matches('\''))),
                None => serializer.serialize_str(text),
            },
            other => other.serialize(serializer),
        }
    }
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte")).collect()
}
