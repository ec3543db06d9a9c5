//! The answer to a batch, taken out of its frame.

use bytes::Bytes;
use dunnage_protocol::{CallError, Item, Outputs, VectorLayout};
use dunnage_types::Vector;

use crate::exit::Exit;

/// Splits a payload into the vectors that `outputs` announces, without copying.
pub(crate) fn vectors(outputs: Outputs, mut payload: Bytes) -> Result<Vec<Result<Vector<Bytes>, CallError>>, Exit> {
    let mut split = |item| match item {
        Item::Error(error) => Ok(Err(error)),
        Item::Vector(layout) => take_vector(layout, &mut payload),
    };
    let vectors = outputs.items.into_iter().map(&mut split).collect::<Result<_, _>>()?;
    if payload.is_empty() { Ok(vectors) } else { Err(Exit::Protocol("its payload is longer than announced".to_owned())) }
}

fn take_vector(layout: VectorLayout, payload: &mut Bytes) -> Result<Result<Vector<Bytes>, CallError>, Exit> {
    let bytes = usize::try_from(layout.length).ok().and_then(|length| length.checked_mul(layout.dtype.size()));
    let bytes = bytes.filter(|bytes| *bytes <= payload.len());
    let bytes = bytes.ok_or_else(|| Exit::Protocol("its payload is shorter than announced".to_owned()))?;
    if bytes == 0 {
        return Ok(Err(CallError::new("bad_output", "the output vector is empty; return at least one number")));
    }
    let vector = Vector::new(layout.dtype, payload.split_to(bytes));
    Ok(vector.map_err(|error| CallError::new("bad_output", error.to_string())))
}
