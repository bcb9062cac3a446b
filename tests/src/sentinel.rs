//! Guards around a buffer and poison inside: who writes outside, or does not write at all, is found out.
//!
//! It knows bytes only. For a device buffer, upload [`Guarded::bytes`], let the kernel work on
//! [`Guarded::payload_range`], download, and check what came back.

use std::fmt;
use std::ops::Range;

/// Poison, repeated: `0x7fda` is NaN as F16 and as BF16, `0x7fda7fda` is NaN as F32 and no valid id as I32.
const POISON: [u8; 2] = [0xda, 0x7f];

/// The guards' pattern; another than the poison, so that copying one over the other shows.
const GUARD: u8 = 0xa5;

/// A payload between two guards.
#[derive(Clone, Debug)]
pub struct Guarded {
    bytes: Vec<u8>,
    guard_bytes: usize,
}

/// Which guard was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one before the payload.
    Before,
    /// The one after it.
    After,
}

/// A write outside the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardHit {
    /// Which guard.
    pub side: Side,
    /// How far from the payload the nearest changed byte is: 1 is its neighbour.
    pub distance_bytes: usize,
    /// How many bytes of the guard changed.
    pub n_bytes: usize,
    /// The nearest changed byte.
    pub found: u8,
}

impl fmt::Display for GuardHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            side,
            distance_bytes,
            n_bytes,
            found,
        } = self;
        let side = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        write!(
            f,
            "{n_bytes} bytes {side} the buffer were written, the nearest {distance_bytes} away ({found:#04x})"
        )
    }
}

impl std::error::Error for GuardHit {}

impl Guarded {
    /// A poisoned payload, for outputs.
    pub fn poisoned(payload_bytes: usize, guard_bytes: usize) -> Self {
        Self::holding(&poison(payload_bytes), guard_bytes)
    }

    /// A payload with content, for inputs.
    pub fn holding(payload: &[u8], guard_bytes: usize) -> Self {
        let guard = vec![GUARD; guard_bytes];
        Self {
            bytes: [&guard, payload, &guard].concat(),
            guard_bytes,
        }
    }

    /// Guards and payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the payload is in [`Guarded::bytes`].
    pub fn payload_range(&self) -> Range<usize> {
        self.guard_bytes..self.bytes.len() - self.guard_bytes
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_range()]
    }

    /// The payload, to be written.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = self.payload_range();
        &mut self.bytes[range]
    }

    /// Takes what came back from a device.
    ///
    /// # Panics
    /// If the length is another.
    pub fn replace_bytes(&mut self, bytes: &[u8]) {
        self.bytes.copy_from_slice(bytes);
    }

    /// Are both guards as they were? The hit nearest to the payload is told.
    pub fn check(&self) -> Result<(), GuardHit> {
        let range = self.payload_range();
        let before = self.bytes[..range.start].iter().rev();
        let after = self.bytes[range.end..].iter();
        hit(Side::Before, before)
            .or(hit(Side::After, after))
            .map_or(Ok(()), Err)
    }

    /// Byte offset in the payload of the first element of `elem_bytes` (2, 4 or 8) that is still poison.
    pub fn first_unwritten(&self, elem_bytes: usize) -> Option<usize> {
        let poison = poison(elem_bytes);
        self.payload()
            .chunks(elem_bytes)
            .position(|elem| elem == poison)
            .map(|i| i * elem_bytes)
    }
}

/// Looks at a guard from the payload outwards.
fn hit<'a>(side: Side, guard: impl Iterator<Item = &'a u8> + Clone) -> Option<GuardHit> {
    let (distance, &found) = guard
        .clone()
        .enumerate()
        .find(|(_, byte)| **byte != GUARD)?;
    let n_bytes = guard.filter(|byte| **byte != GUARD).count();
    Some(GuardHit {
        side,
        distance_bytes: distance + 1,
        n_bytes,
        found,
    })
}

/// `n_bytes` of poison.
pub fn poison(n_bytes: usize) -> Vec<u8> {
    let mut bytes = POISON.repeat(n_bytes.div_ceil(POISON.len()));
    bytes.truncate(n_bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ggrs_core::DType;

    use crate::oracle::{decode_ints, dequantize};

    #[test]
    fn poison_is_nan_in_every_float_type_and_no_id() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            assert!(
                dequantize(dtype, &[4], &poison(4 * dtype.block_bytes()))
                    .data
                    .iter()
                    .all(|v| v.is_nan())
            );
        }
        for dtype in [DType::I32, DType::I64] {
            assert!(decode_ints(dtype, &[1], &poison(dtype.block_bytes())).data[0] > 1 << 30);
        }
    }

    #[test]
    fn a_hit_tells_side_and_distance() {
        let clean = Guarded::poisoned(10, 8);
        assert_eq!(clean.check(), Ok(()));
        assert_eq!((clean.payload_range(), clean.payload().len()), (8..18, 10));
        for (at, side, distance_bytes) in [
            (0, Side::Before, 8),
            (7, Side::Before, 1),
            (18, Side::After, 1),
            (25, Side::After, 8),
        ] {
            let mut hit = clean.clone();
            let mut bytes = hit.bytes().to_vec();
            bytes[at] = 0;
            hit.replace_bytes(&bytes);
            assert_eq!(
                hit.check(),
                Err(GuardHit {
                    side,
                    distance_bytes,
                    n_bytes: 1,
                    found: 0
                })
            );
        }
    }

    #[test]
    fn an_unwritten_element_is_found() {
        let mut output = Guarded::poisoned(16, 4);
        assert_eq!(output.first_unwritten(4), Some(0));
        output.payload_mut()[..8].fill(0);
        output.payload_mut()[12..].fill(0);
        assert_eq!(output.first_unwritten(4), Some(8));
        output.payload_mut().fill(1);
        assert_eq!(output.first_unwritten(4), None);
        assert_eq!(output.check(), Ok(()));
    }
}
