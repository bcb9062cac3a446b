//! Rows of activations as products want them, normed and in 8 bits: `norm_q8.cuh`.

use bytemuck::{Pod, Zeroable};

use super::product::q8::Q8;
use crate::kernel::{Launch, ModuleKey};

/// `NormQ8` of `norm_q8.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct NormQ8 {
    pub(crate) x: u64,
    /// What is added to `x`, and where the sum is written; 0 if nothing is.
    pub(crate) addend: u64,
    /// Weights of the norm; 0 if there is none.
    pub(crate) weight: u64,
    pub(crate) sum: u64,
    /// The norm in F32.
    pub(crate) normed: u64,
    pub(crate) q8: Q8,
    pub(crate) width: i32,
    pub(crate) eps: f32,
}

const _: () = assert!(size_of::<NormQ8>() == 72);

/// What the width of a row must be a multiple of.
pub(crate) const WIDTH_OF: usize = 32;

/// Elements of a row at most, and of one that every block makes for itself: shared memory.
pub(crate) const MAX_WIDTH: usize = 16384;
const MAX_OWN_WIDTH: u32 = 8192;

/// Threads of a block that makes a row: whole warps of either width, and not too few for the row.
const WARPS_OF: u32 = 64;
const MIN_OWN_THREADS: u32 = 256;

impl NormQ8 {
    /// One row as it is, to be put in 8 bits.
    pub(crate) fn plain(x: u64, width: u32) -> Self {
        Self {
            x,
            width: width.cast_signed(),
            ..Self::zeroed()
        }
    }

    /// Shared memory of a block that makes a row for itself: `own_row` of `norm_q8.cuh`.
    pub(crate) const fn own_bytes(&self) -> u32 {
        let width = self.width.unsigned_abs();
        let floats = if self.weight == 0 { 0 } else { 4 * width };
        floats + Q8::shared_bytes(1, width)
    }

    /// Threads of a block if each makes the one row for itself, instead of a launch before theirs: a block on each
    /// multiprocessor, all at once. `blocks` says how many there are of so many threads, a multiple of `unit` and not more
    /// than `most`, of which there are to be `wanted` in all. `None` if the blocks would be too many.
    pub(crate) fn threads_of_each(
        &self,
        (wanted, unit, most): (u64, u32, u32),
        n_multiprocessors: u32,
        blocks: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        let width = self.width.unsigned_abs();
        if width > MAX_OWN_WIDTH || !width.is_multiple_of(WIDTH_OF as u32) {
            return None;
        }
        let unit = unit.max(WARPS_OF);
        let each = wanted.div_ceil(u64::from(n_multiprocessors.max(1)));
        let least = u32::try_from(each).ok()?.max(MIN_OWN_THREADS);
        let mut threads = least.checked_next_multiple_of(unit)?;
        while threads <= most {
            if blocks(threads) <= n_multiprocessors {
                return Some(threads);
            }
            threads += unit;
        }
        None
    }

    /// The launch that makes `n_rows` rows.
    pub(crate) fn launch(&self, n_rows: u32) -> Launch {
        let width = self.width.unsigned_abs();
        let threads = width.div_ceil(4).next_multiple_of(64).clamp(64, 1024);
        let module = ModuleKey::plain("norm_q8");
        Launch::new(module, "norm_q8", n_rows, threads, self).shared(4 * width)
    }
}

/// Its module.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("norm_q8")]
}
