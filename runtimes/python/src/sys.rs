//! Lists and tuples of floats, read through the C interface: `pyo3` counts references on every element of a list, or makes a tuple of it
//! first, which is a good part of what a short call costs.

#![allow(unsafe_code, reason = "borrowed elements of a list have no safe form")]

use pyo3::ffi::{self, Py_ssize_t, PyObject};
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyFloat, PyList, PyTuple};

/// The elements as little-endian bytes; `None` unless there are any, and all are exactly floats.
///
/// Another thread of the script that changes the list meanwhile waits.
pub(crate) fn floats_of_list(list: &Bound<'_, PyList>) -> Option<Vec<u8>> {
    // Costs nothing where there is the interpreter's lock. The length is asked for in here, since the list may be another one before.
    with_critical_section(list.as_any(), || {
        floats(list.as_any(), list.len(), |list, index| {
            // SAFETY: `floats` passes the list.
            unsafe { ffi::PyList_GetItem(list, index) }
        })
    })
}

/// As [`floats_of_list`]; a tuple never changes.
pub(crate) fn floats_of_tuple(tuple: &Bound<'_, PyTuple>) -> Option<Vec<u8>> {
    floats(tuple.as_any(), tuple.len(), |tuple, index| {
        // SAFETY: `floats` passes the tuple.
        unsafe { ffi::PyTuple_GetItem(tuple, index) }
    })
}

/// `item` borrows the element of `sequence` at an index.
fn floats(
    sequence: &Bound<'_, PyAny>,
    length: usize,
    item: impl Fn(*mut PyObject, Py_ssize_t) -> *mut PyObject,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length * size_of::<f64>()];
    for (index, bytes) in (0..).zip(bytes.as_chunks_mut().0) {
        let element = item(sequence.as_ptr(), index);
        // SAFETY: `sequence` keeps its elements: it is held, and so is either the interpreter's lock or, in an interpreter without, the
        // list's own, without which no thread changes a list. Nothing here runs any code of the script or lets go of the lock: it takes
        // no other, blocks nowhere, and makes no object that could set off a collection.
        let element = unsafe { Borrowed::from_ptr_or_err(sequence.py(), element) }.ok()?;
        element.cast_exact::<PyFloat>().ok()?;
        // SAFETY: `element` is a float, which is alive, as said above.
        *bytes = unsafe { ffi::PyFloat_AsDouble(element.as_ptr()) }.to_le_bytes();
    }
    (!bytes.is_empty()).then_some(bytes)
}
