//! Problems of writing in place: rows by id, a tensor over another, keys and values into a paged cache.

use ggrs_core::error::Fault;
use ggrs_core::ops::{CacheWrite, SetRows, Store};
use ggrs_core::{DType, GraphError, Value};
use proptest::prelude::Strategy;

use super::Family;
use super::attention_paged::{Paging, any_paging, paging_rows};
use super::strategies::{FLOATS, KV, WRITABLE, any_operand, one_of, positive};
use crate::oracle::{self, Array};
use crate::problem::{Operand, Problem, Role, Scene, Tensor, Tolerance, View, operand};

const F32: DType = DType::F32;

fn state(scene: &mut Scene, operand: &Operand) -> Result<Tensor, GraphError> {
    let leaf = scene.state(operand);
    if operand.dtype.is_int() {
        leaf.ids_below(1000)
    } else {
        leaf.normals(1.0)
    }
}

fn source(scene: &mut Scene, operand: &Operand) -> Result<Tensor, GraphError> {
    let leaf = scene.leaf(Role::Input, operand);
    if operand.dtype.is_int() {
        leaf.ids_below(1000)
    } else {
        leaf.normals(1.0)
    }
}

/// The state after the write, and what a reader of the written value sees.
fn expect_written(
    scene: &mut Scene,
    stem: &'static str,
    dst: &Tensor,
    written: Value,
    answer: impl Fn() -> Array,
) -> Result<(), GraphError> {
    let tolerance = Tolerance::of(stem, dst.dtype());
    scene.expect_state(dst, tolerance.clone(), &answer);
    scene.expect(written, tolerance, answer)
}

#[derive(Clone, Debug)]
struct RowsSet {
    dst: Operand,
    /// Dtype and view; the shape is that of `dst` with as many rows as there are ids.
    rows: (DType, View),
    ids: Operand,
    /// All ids equal: the last row written stays.
    one_target: bool,
}

impl Problem for RowsSet {
    fn stem(&self) -> &'static str {
        "set_rows"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let n_rows = self.dst.from_end(1);
        let dst = state(scene, &self.dst)?;
        let mut shape = self.dst.shape.clone();
        let rank = shape.len();
        shape[rank - 2] = self.ids.from_end(0);
        let rows = source(scene, &operand(self.rows.0, shape).via(self.rows.1))?;
        let ids =
            scene
                .input(&self.ids)
                .ids_below(if self.one_target { 1 } else { n_rows.max(1) })?;
        let written = scene.apply(SetRows, &[&dst, &rows, &ids])?;
        expect_written(scene, "set_rows", &dst, written, || {
            oracle::set_rows(&dst.floats(), &rows.floats(), &ids.ints())
        })?;
        for index in [-1, n_rows as i64] {
            let mut bad = ids.ints();
            let Some(id) = bad
                .data
                .first_mut()
                .filter(|_| !self.dst.shape.contains(&0))
            else {
                break;
            };
            *id = index;
            scene.refuse_ids(
                &ids,
                &bad,
                Fault::IndexOutOfRange {
                    role: "ids",
                    row: 0,
                    index,
                    bound: n_rows,
                },
            );
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Stored {
    dst: Operand,
    src: (DType, View),
}

impl Problem for Stored {
    fn stem(&self) -> &'static str {
        "store"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let dst = state(scene, &self.dst)?;
        let src = source(
            scene,
            &operand(self.src.0, self.dst.shape.as_slice()).via(self.src.1),
        )?;
        let written = scene.apply(Store, &[&dst, &src])?;
        expect_written(scene, "store", &dst, written, || src.floats())
    }
}

#[derive(Clone, Debug)]
struct CacheWritten {
    paging: Paging,
    cache: DType,
    /// Of a cell: heads and width, or width alone.
    cell: Vec<usize>,
    rows: (DType, View),
}

impl Problem for CacheWritten {
    fn stem(&self) -> &'static str {
        "cache_write"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let with_cell = |n: usize| [&[n], self.cell.as_slice()].concat();
        let cache = state(
            scene,
            &operand(self.cache, with_cell(self.paging.n_cells())),
        )?;
        let rows = source(
            scene,
            &operand(self.rows.0, with_cell(self.paging.n_tokens())).via(self.rows.1),
        )?;
        let pages = self.paging.pose(scene)?;
        let operands = [&cache, &rows, &pages.positions, &pages.slots, &pages.table];
        let written = scene.apply(
            CacheWrite {
                block: self.paging.block,
            },
            &operands,
        )?;
        expect_written(scene, "cache_write", &cache, written, || {
            let (slots, positions, table) = (
                pages.slots.ints(),
                pages.positions.ints(),
                pages.table.ints(),
            );
            let table = oracle::Pages {
                table: &table,
                block_cells: self.paging.block,
            };
            oracle::cache_write(&cache.floats(), &rows.floats(), &slots, &positions, &table)
        })?;
        if !self.cell.contains(&0) {
            self.paging.refuse(scene, &pages);
        }
        Ok(())
    }
}

fn set_rows_rows() -> Vec<RowsSet> {
    let set = |dst: Operand, ids: Operand| RowsSet {
        rows: (dst.dtype, View::Plain),
        dst,
        ids,
        one_target: false,
    };
    let i32 = DType::I32;
    let mut rows = vec![
        set(operand(F32, [5, 7]), operand(i32, [0])),
        set(operand(F32, [1, 1]), operand(i32, [1])),
        set(operand(F32, [40, 257]), operand(DType::I64, [33])),
        set(operand(F32, [3, 5, 7]), operand(i32, [3, 4])),
        set(operand(F32, [3, 5, 7]), operand(i32, [1, 4])),
        set(operand(F32, [2, 3, 5, 7]), operand(DType::I64, [2, 1, 4])),
        set(operand(i32, [5, 7]), operand(i32, [3])),
        set(operand(DType::I64, [5, 7]), operand(i32, [3])),
        set(operand(F32, [5, 7]), operand(i32, [4]).via(View::Columns)),
        set(
            operand(F32, [3, 5, 7]),
            operand(i32, [3, 4]).via(View::Transposed),
        ),
        RowsSet {
            one_target: true,
            ..set(operand(F32, [5, 7]), operand(i32, [9]))
        },
        RowsSet {
            one_target: true,
            ..set(operand(DType::F16, [2, 5, 33]), operand(i32, [2, 4]))
        },
    ];
    for view in [View::OuterReversed, View::Columns, View::Rows] {
        rows.push(set(
            operand(F32, [3, 5, 33]).via(view),
            operand(i32, [3, 4]),
        ));
        rows.push(
            set(
                operand(DType::Q8_0, [3, 5, 64]).via(view),
                operand(i32, [3, 4]),
            )
            .from(F32, View::Plain),
        );
        rows.push(set(operand(F32, [3, 5, 33]), operand(i32, [3, 4])).from(DType::F16, view));
    }
    for dtype in WRITABLE {
        for from in FLOATS {
            rows.push(set(operand(dtype, [9, 96]), operand(i32, [4])).from(from, View::Plain));
        }
    }
    rows
}

impl RowsSet {
    /// With rows of this dtype and view.
    fn from(mut self, dtype: DType, view: View) -> Self {
        self.rows = (dtype, view);
        self
    }
}

fn stored_rows() -> Vec<Stored> {
    let store = |dst: Operand, dtype, view| Stored {
        dst,
        src: (dtype, view),
    };
    let mut rows: Vec<Stored> = [&[][..], &[0, 7], &[1], &[7], &[3, 257]]
        .map(|shape| store(operand(F32, shape), F32, View::Plain))
        .into();
    for view in [
        View::Plain,
        View::OuterReversed,
        View::Transposed,
        View::Columns,
        View::Rows,
    ] {
        rows.push(store(operand(F32, [3, 4, 33]).via(view), F32, View::Plain));
        rows.push(store(operand(F32, [3, 4, 33]), F32, view));
        rows.push(store(
            operand(DType::F16, [3, 4, 33]).via(view),
            F32,
            View::Transposed,
        ));
        rows.push(store(
            operand(DType::I32, [3, 4, 7]).via(view),
            DType::I32,
            View::Plain,
        ));
        rows.push(store(operand(DType::I64, [3, 4, 7]), DType::I64, view));
    }
    for view in [View::Plain, View::OuterReversed, View::Columns, View::Rows] {
        rows.push(store(
            operand(DType::Q5_1, [3, 2, 64]).via(view),
            F32,
            View::Transposed,
        ));
    }
    for dtype in WRITABLE {
        rows.extend(FLOATS.map(|from| store(operand(dtype, [9, 96]), from, View::Plain)));
    }
    rows.push(store(operand(F32, [3, 33]), F32, View::Repeated(0)));
    rows
}

fn cache_rows() -> Vec<CacheWritten> {
    let write = |paging, cache, cell: &[usize], rows| CacheWritten {
        paging,
        cache,
        cell: cell.into(),
        rows,
    };
    let mut rows = Vec::new();
    for paging in paging_rows() {
        rows.push(write(paging.clone(), F32, &[2, 7], (F32, View::Plain)));
        rows.push(write(paging, DType::F16, &[32], (F32, View::Columns)));
    }
    let several = paging_rows().swap_remove(2);
    for cache in KV {
        for from in FLOATS {
            rows.push(write(several.clone(), cache, &[3, 64], (from, View::Plain)));
        }
        rows.push(write(
            several.clone(),
            cache,
            &[1, 32],
            (F32, View::OuterReversed),
        ));
        rows.push(write(
            several.clone(),
            cache,
            &[2, 2, 32],
            (F32, View::Columns),
        ));
    }
    rows.push(write(several, F32, &[0], (F32, View::Plain)));
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    match stem {
        "set_rows" => {
            let dst = any_operand(
                2..=4,
                FLOATS,
                [View::Plain, View::OuterReversed, View::Columns, View::Rows],
            );
            let any = (
                dst,
                one_of(FLOATS),
                one_of(View::ROWS_WHOLE),
                positive(),
                one_of(View::ALL),
            );
            let any = any.prop_map(|(mut dst, dtype, view, n, ids_view)| {
                let rank = dst.shape.len();
                dst.shape[rank - 2] = dst.shape[rank - 2].max(1);
                let mut ids = dst.shape[..rank - 1].to_vec();
                ids[rank - 2] = n;
                let ids = operand(DType::I32, ids).via(ids_view);
                RowsSet {
                    dst,
                    rows: (dtype, view),
                    ids,
                    one_target: false,
                }
            });
            Some(Family::new(set_rows_rows(), any))
        }
        "store" => {
            let dst_views = [
                View::Plain,
                View::OuterReversed,
                View::Transposed,
                View::Columns,
                View::Rows,
            ];
            let any = (
                any_operand(0..=4, FLOATS, dst_views),
                one_of(FLOATS),
                one_of(View::ALL),
            );
            let any = any.prop_map(|(dst, dtype, view)| Stored {
                dst,
                src: (dtype, view),
            });
            Some(Family::new(stored_rows(), any))
        }
        "cache_write" => {
            let cells = one_of([vec![32], vec![1, 64], vec![3, 32], vec![2, 2, 32]]);
            let any = (
                any_paging(),
                one_of(KV),
                cells,
                one_of(FLOATS),
                one_of(View::ROWS_WHOLE),
            );
            let any = any.prop_map(|(paging, cache, cell, dtype, view)| CacheWritten {
                paging,
                cache,
                cell,
                rows: (dtype, view),
            });
            Some(Family::new(cache_rows(), any))
        }
        _ => None,
    }
}
