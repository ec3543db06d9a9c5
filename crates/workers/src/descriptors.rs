//! Payloads that come beside the socket: files without names, which are mapped and so need not be copied.
//!
//! A worker runs somebody's script, which may send whatever it likes. What is mapped here can therefore neither change nor end under our
//! hands, which would end the server (SIGBUS): the seals say so, and the system keeps them. Nothing but such a file is accepted, and no
//! more of them wait than an honest worker can have sent.

mod sys;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;

pub(crate) use sys::{Received, receive};

/// One for a frame whose beginning has come, and one that has come with its end, for the frame behind it.
const MAX_WAITING: usize = 2;

/// Descriptors whose frames have yet to come whole, in their order.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    waiting: VecDeque<OwnedFd>,
}

impl Descriptors {
    /// Keeps a descriptor for its frame.
    pub(crate) fn put(&mut self, descriptor: OwnedFd) -> Result<(), DescriptorError> {
        if self.waiting.len() == MAX_WAITING {
            return Err(DescriptorError::TooMany);
        }
        self.waiting.push_back(descriptor);
        Ok(())
    }

    /// Makes the next descriptor a payload of this length, and closes it.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, DescriptorError> {
        let descriptor = self.waiting.pop_front().ok_or(DescriptorError::Missing)?;
        sys::map_sealed(&descriptor, length)
    }

    /// All frames have been read that the descriptors could be for.
    pub(crate) fn end(&self) -> Result<(), DescriptorError> {
        if self.waiting.is_empty() { Ok(()) } else { Err(DescriptorError::Unannounced) }
    }
}

/// Why what came beside the socket is no payload. The worker is then of no further use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescriptorError {
    #[error("a descriptor is no file in memory that is sealed against every change")]
    NotSealed,
    #[error("a sealed file has {found} bytes instead of the {announced} announced")]
    Length { found: u64, announced: usize },
    #[error("a sealed file has bytes without memory, or memory of another kind")]
    Unbacked,
    #[error("a frame announces a descriptor that has not come with it")]
    Missing,
    #[error("a descriptor came that no frame announces")]
    Unannounced,
    #[error("more descriptors came than frames")]
    TooMany,
    #[error("more than one descriptor came at once, or the server has reached its own limit of open files")]
    Cut,
    #[error("a sealed file cannot be mapped")]
    System(#[from] io::Error),
}
