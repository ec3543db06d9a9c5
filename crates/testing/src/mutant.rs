//! The product, broken on purpose in one place: tests that still pass with it are worth nothing.

mod panic;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol};

use crate::setup::{BUILT_BESIDE, built_dunnage};

/// What is changed in the binary.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// Nothing: a copy with which everything must hold.
    Nothing,
    /// A text becomes another one of the same length, wherever it stands.
    Text {
        /// What stands there.
        find: &'static str,
        /// What comes in its place.
        replace: &'static str,
    },
    /// A function returns at once: 0, `false`, `Ok(())`, or nothing. It must be one that returns its value in registers.
    ReturnsZero(&'static str),
    /// A function returns at once: 1, `true`, or what means that it waits for ever if it is the `{{closure}}` of an `async fn` without
    /// a value.
    ReturnsOne(&'static str),
    /// A function panics at once. Only on x86-64, see [`CAN_PANIC`].
    Panics(&'static str),
}

/// Whether [`Change::Panics`] can be made here.
pub const CAN_PANIC: bool = cfg!(target_arch = "x86_64");

/// The machine's instructions for returning 0 in both registers that values are returned in, and for returning 1.
#[cfg(target_arch = "x86_64")]
const RETURNS: [&[u8]; 2] = [&[0x31, 0xc0, 0x31, 0xd2, 0xc3], &[0xb8, 0x01, 0x00, 0x00, 0x00, 0xc3]];
#[cfg(target_arch = "aarch64")]
const RETURNS: [&[u8]; 2] =
    [&[0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0xc0, 0x03, 0x5f, 0xd6], &[0x20, 0x00, 0x80, 0xd2, 0xc0, 0x03, 0x5f, 0xd6]];

/// Makes a changed copy of the binary in `folder`, with the runtimes beside it.
///
/// # Panics
///
/// When there is nothing to change: the text has changed, or the function has another name or was inlined.
#[must_use]
pub fn breed(change: Change, folder: &Path) -> PathBuf {
    breed_with(&[change], folder)
}

/// The same with several changes.
///
/// # Panics
///
/// As [`breed`] does.
#[must_use]
pub fn breed_with(changes: &[Change], folder: &Path) -> PathBuf {
    let original = built_dunnage();
    let mut bytes = std::fs::read(&original).expect("the binary has been built");
    for change in changes {
        match change {
            Change::Nothing => {}
            Change::Text { find, replace } => replace_text(&mut bytes, find, replace),
            Change::ReturnsZero(function) => replace_code(&mut bytes, function, RETURNS[0]),
            Change::ReturnsOne(function) => replace_code(&mut bytes, function, RETURNS[1]),
            Change::Panics(function) => panic::plant(&mut bytes, function),
        }
    }
    place(&bytes, &original, folder)
}

/// Makes a copy of the binary that is `bytes`, with the permissions and the neighbours of the `original`.
fn place(bytes: &[u8], original: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join("dunnage");
    std::fs::write(&copy, bytes).expect("the copy can be written");
    let permissions = std::fs::metadata(original).expect("the binary has been built").permissions();
    std::fs::set_permissions(&copy, permissions).expect("the copy is ours");
    for name in BUILT_BESIDE {
        symlink(original.with_file_name(name), folder.join(name)).expect("the folder is empty");
    }
    copy
}

fn replace_text(bytes: &mut [u8], find: &str, replace: &str) {
    assert_eq!(find.len(), replace.len(), "the texts must be of one length: `{find}`");
    let places: Vec<_> = memchr::memmem::find_iter(bytes, find).collect();
    assert!(!places.is_empty(), "`{find}` is not in the binary; has it changed?");
    for place in places {
        bytes[place..place + find.len()].copy_from_slice(replace.as_bytes());
    }
}

fn replace_code(bytes: &mut [u8], function: &str, code: &[u8]) {
    for (_, place) in places_of(bytes, function) {
        bytes[place..place + code.len()].copy_from_slice(code);
    }
}

/// Where a function begins, in memory and in the file; it may be there more than once.
fn places_of(bytes: &[u8], function: &str) -> Vec<(u64, usize)> {
    let file = parse(bytes);
    // Most names are ruled out before they are written out, which takes long for all of them.
    let words: Vec<_> = function.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let may_be = |name: &str| words.iter().all(|word| *word == "closure" || name.contains(word));
    let is_it = |name: &str| may_be(name) && format!("{:#}", rustc_demangle::demangle(name)) == function;
    let addresses = file.symbols().filter(|symbol| symbol.name().is_ok_and(is_it)).map(|symbol| symbol.address());
    let place = |address: u64| {
        file.sections().find_map(|section| {
            let (begin, length) = section.file_range()?;
            let within = address.checked_sub(section.address()).filter(|within| *within < length)?;
            Some((address, usize::try_from(begin + within).ok()?))
        })
    };
    let places: Vec<_> = addresses.filter_map(place).collect();
    assert!(!places.is_empty(), "the binary has no function `{function}`; has it another name, or was it inlined?");
    places
}

fn parse(bytes: &[u8]) -> object::File<'_> {
    object::File::parse(bytes).expect("the binary is one that can be read")
}
