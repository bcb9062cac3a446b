//! The integer product on AMX int8 tiles, by inline assembly: Rust's intrinsics for them are not stable.
//!
//! A tile register holds 16 rows of 64 bytes. The sixteen columns of a call are the first operand (signed bytes), the
//! packed weights are the second one as they are: a row of it is four elements of 16 weight rows. One product covers
//! what shares a scale, a group or half of one; scaling and summing is the AVX-512 kernel's.

#![allow(
    clippy::needless_range_loop,
    reason = "tile and column numbers index several arrays side by side"
)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

use super::blocks::Block;
use super::integer_kernel::{Group, add_scaled, start_dots};
use super::lanes::Lanes;
use super::lanes_avx512::Zmm;
use super::product::{Operands, Results};
use crate::pack::{ActivationGroup, GROUP_ELEMS, TILE_ROWS};

/// Columns that one call multiplies.
pub(super) const COLUMNS: usize = 16;

/// Tiles of weights that one call multiplies.
pub(super) const TILES: usize = 2;

/// Does the machine have AMX int8, and does the system let this process use it?
pub(crate) fn amx_is_available() -> bool {
    /// CPUID leaf 7, EDX: AMX-TILE and AMX-INT8.
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    let has_leaf_7 = __cpuid(0).eax >= 7;
    has_leaf_7 && __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8 && request_tile_state()
}

/// Asks Linux for the tile registers; it grants them to the whole process.
#[cfg(target_os = "linux")]
fn request_tile_state() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call takes two numbers and touches no memory.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn request_tile_state() -> bool {
    false
}

/// The operand of `ldtilecfg`: bytes in a row and rows of every tile register.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileConfig {
    /// Registers 0 and 1: the products; 2: the columns; 3 and 4: the weights, `depth` elements deep.
    const fn new(depth: usize) -> Self {
        let (columns, quads, wide, deep) = (
            COLUMNS as u8,
            (depth / 4) as u8,
            4 * TILE_ROWS as u16,
            depth as u16,
        );
        let mut config = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes = [
            wide, wide, deep, wide, wide, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        config.rows = [
            columns, columns, columns, quads, quads, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        config
    }
}

/// Unpacked operands and the products of one group.
#[repr(C, align(64))]
struct Scratch {
    weights: [[[u8; 64]; GROUP_ELEMS / 4]; TILES],
    columns: [[i8; GROUP_ELEMS]; COLUMNS],
    dots: [[[i32; TILE_ROWS]; COLUMNS]; TILES],
}

impl Scratch {
    /// Multiplies the columns by both tiles from element `first` of the group on, as deep as the registers are set.
    ///
    /// # Safety
    /// The tile registers are configured for operands that `weights` and `columns` hold behind `first`.
    #[inline(always)]
    unsafe fn multiply(&mut self, first: usize) {
        let columns = self.columns.as_ptr().cast::<i8>().wrapping_add(first);
        let lines = self
            .weights
            .as_ptr()
            .cast::<[u8; 64]>()
            .wrapping_add(first / 4);
        // SAFETY: the loads read the operands, which the caller put there; the stores fill `dots`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm2, [{columns} + {column_bytes}]",
                "tileloadd tmm3, [{first_lines} + {line_bytes}]",
                "tdpbsud tmm0, tmm2, tmm3",
                "tileloadd tmm4, [{second_lines} + {line_bytes}]",
                "tdpbsud tmm1, tmm2, tmm4",
                "tilestored [{first_dots} + {line_bytes}], tmm0",
                "tilestored [{second_dots} + {line_bytes}], tmm1",
                columns = in(reg) columns,
                column_bytes = in(reg) GROUP_ELEMS,
                first_lines = in(reg) lines,
                second_lines = in(reg) lines.wrapping_add(GROUP_ELEMS / 4),
                line_bytes = in(reg) 64_usize,
                first_dots = in(reg) self.dots[0].as_mut_ptr(),
                second_dots = in(reg) self.dots[1].as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Multiplies two tiles by sixteen columns over the whole of k.
///
/// # Safety
/// The AMX level exists; `operands` has two packed tiles of format `B` with `n_blocks` blocks and sixteen columns of as
/// many activation groups.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn multiply<B: Block>(operands: &Operands, results: &mut Results) {
    let config = const {
        TileConfig::new(if B::HALVES {
            GROUP_ELEMS / 2
        } else {
            GROUP_ELEMS
        })
    };
    // SAFETY: the level exists, the configuration is a valid one of palette 1, and every pointer below stays inside
    // its tile or row.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly));
        let mut scratch = Scratch {
            weights: [[[0; 64]; GROUP_ELEMS / 4]; TILES],
            columns: [[0; GROUP_ELEMS]; COLUMNS],
            dots: [[[0; TILE_ROWS]; COLUMNS]; TILES],
        };
        let mut sums = [[[Zmm::splat_float(0.0); COLUMNS]; 1]; TILES];
        for block_idx in 0..operands.n_blocks {
            for idx in 0..B::GROUPS {
                let mut columns = [std::ptr::null(); COLUMNS];
                for c in 0..COLUMNS {
                    columns[c] = operands.columns[c]
                        .cast::<ActivationGroup>()
                        .add(block_idx * B::GROUPS + idx);
                    scratch.columns[c] = (*columns[c]).quants;
                }
                let groups = operands.tiles.map(|tile| {
                    let blocks = [tile.wrapping_add(block_idx * B::BYTES)];
                    Group::<1, COLUMNS> {
                        blocks,
                        idx,
                        columns,
                    }
                });
                for t in 0..TILES {
                    for step in 0..GROUP_ELEMS / 4 {
                        let line = B::quants::<Zmm>(groups[t].blocks[0], idx, step);
                        Zmm::store(
                            line.as_floats(),
                            scratch.weights[t][step].as_mut_ptr().cast(),
                        );
                    }
                }
                if B::HALVES {
                    scratch.multiply(0);
                    add_dots::<B>(&groups, 0, [1, 0], &scratch, &mut sums);
                    scratch.multiply(GROUP_ELEMS / 2);
                    add_dots::<B>(&groups, 1, [0, 1], &scratch, &mut sums);
                } else {
                    scratch.multiply(0);
                    add_dots::<B>(&groups, 0, [1, 1], &scratch, &mut sums);
                }
            }
        }
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
        for t in 0..TILES {
            for c in 0..COLUMNS {
                Zmm::store(sums[t][0][c], results[t][c].as_mut_ptr());
            }
        }
    }
}

/// Adds the products in `scratch`, which cover the `halves` (1: this one) of a group, to the sums.
#[inline(always)]
unsafe fn add_dots<B: Block>(
    groups: &[Group<1, COLUMNS>; TILES],
    half: usize,
    halves: [i32; 2],
    scratch: &Scratch,
    sums: &mut [[[<Zmm as Lanes>::Floats; COLUMNS]; 1]; TILES],
) {
    // SAFETY: the contract of `multiply`.
    unsafe {
        for t in 0..TILES {
            let mut dots = start_dots::<Zmm, B, 1, COLUMNS>(&groups[t], halves);
            for c in 0..COLUMNS {
                dots[0][c] = dots[0][c].add(Zmm::load(scratch.dots[t][c].as_ptr().cast()));
            }
            add_scaled::<Zmm, B, 1, COLUMNS>(&groups[t], half, &dots, &mut sums[t]);
        }
    }
}
