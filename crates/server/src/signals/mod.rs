//! What fleets are scaled by, for those who do not ask `/metrics`: CloudWatch's embedded metrics, and how the GPUs are doing.
//!
//! [`emf`] writes a line of [`document`] now and then, from what a [`meter`] has found since the last one; [`gpu`] asks NVIDIA's
//! library. `docs/scaling.md` says what each signal means.

mod document;
pub(crate) mod emf;
pub(crate) mod gpu;
mod meter;
