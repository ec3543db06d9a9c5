//! The faulty S3 does what S3 does, and goes wrong as it is told. What the tests see is what came over the wire.

mod faults;
mod meaning;
mod remembering;
mod wire;
