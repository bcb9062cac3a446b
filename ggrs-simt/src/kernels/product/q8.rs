//! Activations of 8 bits in working memory, and the launch that makes them: `quantise_q8.cuh`.

use bytemuck::{Pod, Zeroable};
use ggrs_core::TensorDesc;

use crate::driver::DevicePtr;
use crate::kernel::{Launch, ModuleKey};
use crate::params::View;

const FILE: &str = "quantise_q8";
const THREADS: u32 = 128;
/// Elements that share a scale.
pub(crate) const GROUP: u64 = 32;
/// Bytes of a group's scale with its sum.
const SCALE_BYTES: u64 = 8;
const ALIGN: u64 = 256;

/// `Q8` of `quantise_q8.cuh`: rows of `k` quants, and a scale for each 32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct Q8 {
    pub(crate) quants: u64,
    pub(crate) scales: u64,
    pub(crate) k: i32,
    pub(crate) pad: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
struct Quantise {
    x: View,
    to: Q8,
    n_rows: i64,
}

const _: () = assert!(size_of::<Q8>() == 24);
const _: () = assert!(size_of::<Quantise>() == 104);

fn quant_bytes(rows: u64, k: u64) -> u64 {
    rows.saturating_mul(k).next_multiple_of(ALIGN)
}

impl Q8 {
    /// Memory for so many rows.
    pub(crate) fn bytes(rows: u64, k: u64) -> u64 {
        quant_bytes(rows, k).saturating_add(rows.saturating_mul(k / GROUP * SCALE_BYTES))
    }

    /// Memory for the rows of `x`.
    pub(crate) fn bytes_of(x: &TensorDesc) -> u64 {
        let k = x.shape.last().bound() as u64;
        let elems = x.shape.elems().unwrap_or(0) as u64;
        Self::bytes(elems / k.max(1), k)
    }

    /// Bytes of `n` rows of `k` elements in shared memory: `q8_shared` of `quantise_q8.cuh`.
    pub(crate) const fn shared_bytes(n: u32, k: u32) -> u32 {
        let quants = k.saturating_add(127) / 128 * 128;
        let scales = k / GROUP as u32 * SCALE_BYTES as u32;
        quants.saturating_add(scales).saturating_mul(n)
    }

    /// So many rows at `storage`, an address of an arena.
    pub(crate) fn at(storage: DevicePtr, rows: u64, k: u32) -> Self {
        Self {
            quants: storage.0,
            scales: storage.plus(quant_bytes(rows, u64::from(k))).0,
            k: k.cast_signed(),
            pad: 0,
        }
    }
}

/// The launch that writes the rows of `x`, of any float dtype.
pub(crate) fn quantise(x: &View, to: Q8) -> Launch {
    let fours = x.elems() / 4;
    let blocks = fours.div_ceil(u64::from(THREADS)).clamp(1, 1 << 20) as u32;
    let p = Quantise {
        x: *x,
        to,
        n_rows: x.rows().cast_signed(),
    };
    Launch::new(ModuleKey::plain(FILE), "quantise_q8", blocks, THREADS, &p)
}

/// Its module.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain(FILE)]
}
