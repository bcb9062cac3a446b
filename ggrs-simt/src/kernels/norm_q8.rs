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

/// Blocks of a multiprocessor that may make the same row: more would read it for longer than a launch takes.
const OWN_PER_MULTIPROCESSOR: u32 = 3;

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
        floats + width + width / 32 * 8
    }

    /// Should each of so many blocks make the one row for itself, instead of a launch before theirs?
    pub(crate) const fn is_made_by_each(&self, blocks: u32, n_multiprocessors: u32) -> bool {
        let most = n_multiprocessors.saturating_mul(OWN_PER_MULTIPROCESSOR);
        let width = self.width.unsigned_abs();
        width <= MAX_OWN_WIDTH && width.is_multiple_of(WIDTH_OF as u32) && blocks <= most
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
