//! How many activations a tile has, and which matrix units multiply it.

use std::borrow::Cow;

use ggrs_core::DType;

use super::shape::Shape;
use crate::driver::Facts;
use crate::kernel::ModuleKey;

/// Rows of weights of a tile.
const ROWS: usize = 128;

/// What decoding the weights of a tile costs, in activations: found by measurement, as all that is decided here.
const DECODING: usize = 64;

/// Which instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Units {
    /// `mma.sync`.
    Warps,
    /// `wgmma` of sm_90a.
    Groups,
}

/// A kernel for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    units: Units,
    /// Activations.
    pub(super) columns: usize,
}

const fn tile(units: Units, columns: usize) -> Tile {
    Tile { units, columns }
}

/// The largest that a format's registers leave room for comes last.
const OF_WARPS: [Tile; 3] = [
    tile(Units::Warps, 32),
    tile(Units::Warps, 64),
    tile(Units::Warps, 80),
];
const OF_WARPS_AND_LARGE_PIECES: [Tile; 2] = [tile(Units::Warps, 32), tile(Units::Warps, 64)];
const OF_GROUPS: [Tile; 2] = [tile(Units::Groups, 64), tile(Units::Groups, 128)];
const OF_GROUPS_AND_LARGE_PIECES: [Tile; 2] = [tile(Units::Groups, 64), tile(Units::Groups, 96)];

/// The tiles of warps for weights of a format.
const fn of_warps(dtype: DType) -> &'static [Tile] {
    match dtype {
        DType::Q5_K => &OF_WARPS_AND_LARGE_PIECES,
        _ => &OF_WARPS,
    }
}

/// The tiles of groups for weights of a format.
const fn of_groups(dtype: DType) -> &'static [Tile] {
    match dtype {
        DType::F16 | DType::BF16 | DType::Q5_K | DType::Q6_K => &OF_GROUPS_AND_LARGE_PIECES,
        _ => &OF_GROUPS,
    }
}

/// Formats that there are modules for.
const FORMATS: [DType; 15] = [
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
];

impl Tile {
    /// The tile that is done first, by what a multiprocessor has to do.
    fn best(dtype: DType, facts: &Facts, tasks: impl Fn(Self) -> usize) -> Self {
        let multiprocessors = (facts.n_multiprocessors as usize).max(1);
        let has_groups = facts.arch == "sm_90a" && !facts.is_simulated;
        let candidates: &[Self] = if has_groups {
            of_groups(dtype)
        } else {
            of_warps(dtype)
        };
        // Two blocks run at once and hide each other's waits; one that is left over takes half as long again.
        let cost = |tile: &Self| {
            let rounds = tasks(*tile).div_ceil(multiprocessors);
            (2 * rounds + rounds % 2).saturating_mul(tile.columns + DECODING)
        };
        candidates
            .iter()
            .copied()
            .min_by_key(cost)
            .unwrap_or(tile(Units::Warps, 64))
    }

    /// For all activations with the same weights.
    pub(super) fn dense(shape: &Shape, facts: &Facts) -> Self {
        Self::best(shape.dtype, facts, |tile| {
            tile.row_tiles(shape) * shape.n_results.div_ceil(tile.columns)
        })
    }

    /// For experts: as if each had the same number of pairs, and some that are left over.
    pub(super) fn grouped(shape: &Shape, experts: usize, facts: &Facts) -> Self {
        Self::best(shape.dtype, facts, |tile| {
            let left_over = experts.saturating_mul(tile.columns / 2);
            let columns = (shape.n_results + left_over) / tile.columns;
            tile.row_tiles(shape).saturating_mul(columns.max(experts))
        })
    }

    fn row_tiles(self, shape: &Shape) -> usize {
        let rows = if shape.is_gated { ROWS / 2 } else { ROWS };
        shape.m.div_ceil(rows)
    }

    /// Blocks of the launch; `columns`: tiles side by side.
    pub(super) fn blocks(self, shape: &Shape, columns: usize) -> usize {
        self.row_tiles(shape).saturating_mul(columns)
    }

    /// The kernel, and its file.
    pub(super) const fn kernel(self) -> &'static str {
        match self.units {
            Units::Warps => "gemm",
            Units::Groups => "gemm_wgmma",
        }
    }

    pub(super) const fn threads(self) -> u32 {
        match self.units {
            Units::Warps => 128,
            Units::Groups => 256,
        }
    }

    /// Stages of 128 elements of 16 bits for each activation, at multiples of 1024 bytes for `wgmma`; then, in their
    /// place, the sums: `SUMS_PITCH` of `gemm.cuh`.
    pub(super) fn shared_bytes(self) -> u32 {
        let columns = self.columns as u32;
        let stage = columns * 256;
        let stages = match self.units {
            Units::Warps if columns > 64 => 2 * stage,
            Units::Warps => 3 * stage,
            Units::Groups => 3 * stage + 1024,
        };
        stages.max(columns * (ROWS as u32 + 4) * 4)
    }

    pub(super) fn module(self, dtype: DType) -> ModuleKey {
        ModuleKey::plain(self.kernel())
            .with("FORMAT", dtype.name())
            .with("N_TILE", Cow::Owned(self.columns.to_string()))
    }
}

/// A module for each format and tile.
pub(super) fn modules() -> Vec<ModuleKey> {
    let tiles = |dtype| of_warps(dtype).iter().chain(of_groups(dtype));
    FORMATS
        .into_iter()
        .flat_map(|dtype| tiles(dtype).map(move |tile| tile.module(dtype)))
        .collect()
}
