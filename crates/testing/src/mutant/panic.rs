//! Making a function panic. A jump at its beginning leads to the one that the compiler calls when an `async fn` is polled after its end:
//! it takes nothing but the place in the source, and that is borrowed from one of its callers.

use std::collections::BTreeSet;

use object::{Object, ObjectSection};

use super::{parse, places_of};

const PANICS: &str = "core::panicking::panic_const::panic_const_async_fn_resumed";
/// `lea rdi, [rip + PLACE]`, before a call the first argument.
const LOAD: [u8; 3] = [0x48, 0x8d, 0x3d];
/// `call [rip + SLOT]`, how functions of other parts of the program are called.
const CALL: [u8; 2] = [0xff, 0x15];
/// `jmp`.
const JUMP: u8 = 0xe9;

pub(super) fn plant(bytes: &mut [u8], function: &str) {
    let target = places_of(bytes, PANICS)[0].0;
    let source_place = borrowed_place(bytes, target);
    for (address, place) in places_of(bytes, function) {
        let mut code = LOAD.to_vec();
        code.extend(distance(address + 7, source_place));
        code.push(JUMP);
        code.extend(distance(address + 12, target));
        bytes[place..place + code.len()].copy_from_slice(&code);
    }
}

/// What some caller of `target` passes it: the address of a place in the source.
fn borrowed_place(bytes: &[u8], target: u64) -> u64 {
    let file = parse(bytes);
    let relocations = file.dynamic_relocations().expect("the binary is linked dynamically");
    let slots: BTreeSet<u64> =
        relocations.filter(|(_, it)| u64::try_from(it.addend()) == Ok(target)).map(|(slot, _)| slot).collect();
    let text = file.section_by_name(".text").expect("a binary has code");
    let (code, begin) = (text.data().expect("the code is in the file"), text.address());
    let found = memchr::memmem::find_iter(code, &LOAD).find_map(|at| {
        let rest = code.get(at..at + 13)?;
        let next = begin + at as u64 + 7;
        let calls = rest[7..9] == CALL && slots.contains(&displaced(next + 6, &rest[9..13]));
        calls.then(|| displaced(next, &rest[3..7]))
    });
    found.expect("some `async fn` is in the binary")
}

fn distance(from: u64, to: u64) -> [u8; 4] {
    i32::try_from(to.cast_signed() - from.cast_signed()).expect("code lies close together").to_le_bytes()
}

fn displaced(from: u64, by: &[u8]) -> u64 {
    from.wrapping_add_signed(i32::from_le_bytes(by.try_into().expect("four bytes")).into())
}
