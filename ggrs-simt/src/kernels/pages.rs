//! Where a cache write puts the tokens of a step, and what may be wrong with that.

use bytemuck::{Pod, Zeroable};
use ggrs_core::TensorDesc;

use super::axes::Divisor;
use crate::kernel::{Args, FaultKind};

/// `Pages` of `pages.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct Pages {
    positions: u64,
    slots: u64,
    table: u64,
    n_cells: i64,
    block: Divisor,
    n_slots: i32,
    n_blocks: i32,
    pad: i32,
}

const _: () = assert!(size_of::<Pages>() == 56);

impl Pages {
    /// Those of a `cache_write` into a cache of blocks of `block` cells.
    pub(crate) fn of(write: &Args<'_>, block: usize) -> Self {
        let (positions, slots, table) = (write.input(2), write.input(3), write.input(4));
        let [.., n_slots, n_blocks] = table.size;
        let n_cells = write.output_sizes(0).first().copied().unwrap_or(0);
        Self {
            positions: positions.data,
            slots: slots.data,
            table: table.data,
            n_cells: n_cells as i64,
            block: Divisor::new(block as u64),
            n_slots,
            n_blocks,
            pad: 0,
        }
    }

    /// What may be found wrong, in the order of `PageFaults`.
    pub(crate) fn faults(cache: &TensorDesc, table: &TensorDesc, block: usize) -> [FaultKind; 3] {
        let size = |desc: &TensorDesc, i: usize| desc.shape.sizes().get(i).copied().unwrap_or(0);
        let n_blocks = size(cache, 0).checked_div(block).unwrap_or(0);
        [
            ("slots", size(table, 0)),
            ("positions", size(table, 1).saturating_mul(block)),
            ("page table", n_blocks),
        ]
        .map(|(role, bound)| FaultKind::IndexOutOfRange { role, bound })
    }
}
