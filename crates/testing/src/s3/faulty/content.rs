//! The bytes of objects, held or made when they are needed.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How many bytes a piece of content has that is handled at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// Made content consists of blocks of this size, each beginning with its number.
const BLOCK_BYTES: usize = 64 << 10;
/// What blocks are cut from.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut noise = vec![0; 1 << 20];
    SmallRng::seed_from_u64(7).fill_bytes(&mut noise);
    noise
});

/// What an object consists of.
#[derive(Clone)]
pub(super) enum Content {
    Held(Arc<[u8]>),
    /// No two blocks of one object, and no two seeds, have the same bytes.
    Made {
        size: u64,
        seed: u64,
    },
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Made { size, .. } => *size,
        }
    }

    /// Fills `piece` with what there is from `offset` on; all of it must be there.
    pub(super) fn fill(&self, offset: u64, piece: &mut [u8]) {
        match self {
            Self::Held(bytes) => {
                let start = usize::try_from(offset).expect("what is in memory can be counted");
                piece.copy_from_slice(&bytes[start..start + piece.len()]);
            }
            Self::Made { seed, .. } => make(*seed, offset, piece),
        }
    }

    /// Calls `take` with all bytes of a range, piece by piece.
    pub(super) fn pieces(&self, range: std::ops::Range<u64>, mut take: impl FnMut(&[u8])) {
        let mut piece = vec![0; PIECE_BYTES];
        for start in range.clone().step_by(PIECE_BYTES) {
            let length = usize::try_from(range.end - start).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            self.fill(start, &mut piece[..length]);
            take(&piece[..length]);
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.size())
    }
}

fn make(seed: u64, offset: u64, mut piece: &mut [u8]) {
    let mut at = offset;
    while !piece.is_empty() {
        let (block, within) = (at / BLOCK_BYTES as u64, usize::try_from(at % BLOCK_BYTES as u64).expect("a block is small"));
        let length = piece.len().min(BLOCK_BYTES - within);
        let (now, later) = piece.split_at_mut(length);
        fill_from_block(seed, block, within, now);
        (piece, at) = (later, at + length as u64);
    }
}

fn fill_from_block(seed: u64, block: u64, within: usize, piece: &mut [u8]) {
    let number = [seed.to_le_bytes(), block.to_le_bytes()].concat();
    let places = (NOISE.len() - BLOCK_BYTES) as u64;
    let place = usize::try_from((block.wrapping_mul(0x9e37_79b9) ^ seed) % places).expect("the noise is small");
    let of_number = number.len().saturating_sub(within).min(piece.len());
    piece[..of_number].copy_from_slice(&number[number.len().min(within)..][..of_number]);
    let rest = place + within + of_number;
    let length = piece.len() - of_number;
    piece[of_number..].copy_from_slice(&NOISE[rest..rest + length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_content_is_the_same_wherever_one_begins_to_read() {
        let content = Content::Made { size: 200_000, seed: 3 };
        let mut whole = vec![0; 200_000];
        content.fill(0, &mut whole);
        for (start, length) in [(0, 1), (7, 20), (15, 1), (16, 5), (65_530, 30), (65_536, 16), (131_070, 60_000)] {
            let mut piece = vec![0; length];
            content.fill(start as u64, &mut piece);
            assert!(piece == whole[start..start + length], "{length} bytes from {start} on");
        }
    }

    #[test]
    fn blocks_and_seeds_differ() {
        let read = |seed: u64, offset: u64| {
            let mut piece = vec![0; 32];
            make(seed, offset, &mut piece);
            piece
        };
        assert_ne!(read(0, 0), read(0, BLOCK_BYTES as u64));
        assert_ne!(read(0, 0), read(1, 0));
    }
}
