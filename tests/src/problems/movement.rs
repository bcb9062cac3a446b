//! Problems of moving: gapless copies, casts, joins, rows by id.

use ggrs_core::error::Fault;
use ggrs_core::ops::{Cast, Concat, Contiguous, GetRows, Window};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::{FLOATS, WEIGHTS, WRITABLE, any_operand, one_of, positive, shape, size};
use crate::oracle;
use crate::problem::{Operand, Problem, Role, Scene, Tensor, Tolerance, View, operand};

fn any_values(scene: &mut Scene, role: Role, x: &Operand) -> Result<Tensor, GraphError> {
    let leaf = scene.leaf(role, x);
    if x.dtype.is_int() {
        leaf.ids_below(1000)
    } else {
        leaf.normals(1.0)
    }
}

#[derive(Clone, Debug)]
struct Copied {
    x: Operand,
}

impl Problem for Copied {
    fn stem(&self) -> &'static str {
        "contiguous"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = any_values(scene, Role::Input, &self.x)?;
        let y = scene.apply(Contiguous, &[&x])?;
        scene.expect(y, Tolerance::of("contiguous", x.dtype()), || x.floats())
    }
}

#[derive(Clone, Debug)]
struct Converted {
    x: Operand,
    to: DType,
}

impl Problem for Converted {
    fn stem(&self) -> &'static str {
        "cast"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = any_values(scene, Role::Input, &self.x)?;
        let y = scene.apply(Cast { dtype: self.to }, &[&x])?;
        // What a block holds becomes F32 first.
        scene.expect(y, Tolerance::of("cast", self.to), || {
            if self.to.is_int() {
                x.floats()
            } else {
                oracle::cast(&x.floats(), DType::F32)
            }
        })
    }
}

#[derive(Clone, Debug)]
struct Joined {
    axis: usize,
    parts: Vec<Operand>,
}

impl Problem for Joined {
    fn stem(&self) -> &'static str {
        "concat"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let mut parts = Vec::new();
        for part in &self.parts {
            parts.push(any_values(scene, Role::Input, part)?);
        }
        let y = scene.apply(
            Concat { axis: self.axis },
            &parts.iter().collect::<Vec<_>>(),
        )?;
        scene.expect(y, Tolerance::of("concat", parts[0].dtype()), || {
            let values: Vec<_> = parts.iter().map(Tensor::floats).collect();
            oracle::concat(&values.iter().collect::<Vec<_>>(), self.axis)
        })
    }
}

#[derive(Clone, Debug)]
struct Picked {
    role: Role,
    table: Operand,
    /// Which of the rows these are, if not all.
    window: Option<Window>,
    ids: Operand,
}

impl Problem for Picked {
    fn stem(&self) -> &'static str {
        "get_rows"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let window = self.window;
        let n_rows = window.map_or(self.table.from_end(1), |w| w.total);
        let table = any_values(scene, self.role, &self.table)?;
        let ids = scene.input(&self.ids).ids_below(n_rows.max(1))?;
        let y = scene.apply(GetRows { window }, &[&table, &ids])?;
        let result = if table.dtype().is_int() {
            table.dtype()
        } else {
            DType::F32
        };
        scene.expect(y, Tolerance::of("get_rows", result), || {
            let held = table.floats();
            let rows = self.table.shape.len() - 2;
            let table = window.map_or_else(
                || held.clone(),
                |w| oracle::zeros_around(&held, rows, w.first, w.total),
            );
            oracle::get_rows(&table, &ids.ints())
        })?;
        let mut of_rows = self.table.shape.clone();
        of_rows.remove(of_rows.len() - 2);
        let result_is_empty = of_rows.contains(&0);
        for index in [-1, n_rows as i64, i32::MAX.into()] {
            let mut bad = ids.ints();
            let Some(id) = bad
                .data
                .first_mut()
                .filter(|_| n_rows > 0 && !result_is_empty)
            else {
                break;
            };
            *id = index;
            let fault = Fault::IndexOutOfRange {
                role: "ids",
                row: 0,
                index,
                bound: n_rows,
            };
            scene.refuse_ids(&ids, &bad, fault);
        }
        Ok(())
    }
}

fn copied_rows() -> Vec<Operand> {
    let mut rows: Vec<Operand> = [&[][..], &[0, 7], &[1], &[7], &[3, 257]]
        .map(|shape| operand(DType::F32, shape))
        .into();
    for view in View::ALL {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64] {
            rows.push(operand(dtype, [3, 4, 33]).via(view));
        }
    }
    for view in View::ROWS_WHOLE {
        rows.extend(
            WEIGHTS
                .iter()
                .filter(|d| d.is_block())
                .map(|&dtype| operand(dtype, [3, 2, 256]).via(view)),
        );
    }
    rows.push(operand(DType::F32, [40, 70]).via(View::Transposed));
    rows
}

fn converted_rows() -> Vec<Converted> {
    let mut rows = Vec::new();
    for to in WRITABLE {
        rows.extend(WEIGHTS.map(|from| Converted {
            x: operand(from, [3, 256]),
            to,
        }));
        rows.push(Converted {
            x: operand(DType::F32, [0, 32]),
            to,
        });
        rows.extend(View::ALL.map(|view| Converted {
            x: operand(DType::F32, [3, 2, 32]).via(view),
            to,
        }));
    }
    for to in [DType::F32, DType::F16, DType::BF16] {
        rows.push(Converted {
            x: operand(DType::F32, []),
            to,
        });
        rows.push(Converted {
            x: operand(DType::F16, [5, 257]),
            to,
        });
        rows.push(Converted {
            x: operand(DType::BF16, [7, 33]).via(View::Transposed),
            to,
        });
    }
    for (from, to) in [
        (DType::I32, DType::I64),
        (DType::I64, DType::I32),
        (DType::I32, DType::I32),
    ] {
        rows.push(Converted {
            x: operand(from, [3, 7]),
            to,
        });
        rows.push(Converted {
            x: operand(from, [3, 4, 7]).via(View::Transposed),
            to,
        });
    }
    rows
}

fn joined_rows() -> Vec<Joined> {
    let join = |axis, dtype, shapes: &[&[usize]]| Joined {
        axis,
        parts: shapes.iter().map(|shape| operand(dtype, *shape)).collect(),
    };
    let mut rows = vec![
        join(0, DType::F32, &[&[3], &[1], &[7]]),
        join(0, DType::F32, &[&[2, 5]]),
        join(0, DType::F32, &[&[0, 5], &[2, 5]]),
        join(1, DType::F32, &[&[3, 0], &[3, 0]]),
        join(1, DType::F32, &[&[3, 33], &[3, 1], &[3, 7]]),
        join(1, DType::F16, &[&[2, 1, 5], &[2, 4, 5]]),
        join(2, DType::BF16, &[&[2, 3, 1], &[2, 3, 7]]),
        join(0, DType::I32, &[&[2, 3], &[4, 3]]),
        join(1, DType::I64, &[&[2, 3], &[2, 1]]),
        join(0, DType::Q8_0, &[&[2, 32], &[1, 32]]),
        join(1, DType::Q4_K, &[&[2, 1, 256], &[2, 3, 256]]),
    ];
    for view in View::ALL {
        let parts = vec![
            operand(DType::F32, [3, 4, 7]).via(view),
            operand(DType::F32, [3, 4, 7]).via(View::Transposed),
        ];
        rows.extend((0..3).map(|axis| Joined {
            axis,
            parts: parts.clone(),
        }));
    }
    rows
}

fn any_joined() -> impl Strategy<Value = Joined> {
    let dtypes = one_of([DType::F32, DType::F16, DType::I32]);
    let parts = proptest::collection::vec((size(), one_of(View::ALL)), 1..4);
    (shape(1..=3), 0usize..3, dtypes, parts).prop_map(|(shape, axis, dtype, parts)| {
        let axis = axis % shape.len();
        let part = |(n, view)| {
            let mut shape = shape.clone();
            shape[axis] = n;
            operand(dtype, shape).via(view)
        };
        Joined {
            axis,
            parts: parts.into_iter().map(part).collect(),
        }
    })
}

fn picked_rows() -> Vec<Picked> {
    let pick = |table: Operand, ids: Operand| Picked {
        role: Role::Input,
        table,
        window: None,
        ids,
    };
    let (f32, i32) = (DType::F32, DType::I32);
    let mut rows = vec![
        pick(operand(f32, [5, 7]), operand(i32, [0])),
        pick(operand(f32, [1, 1]), operand(i32, [1])),
        pick(operand(f32, [5, 0]), operand(i32, [3])),
        pick(operand(f32, [257, 33]), operand(DType::I64, [40])),
        pick(operand(f32, [3, 5, 7]), operand(i32, [3, 4])),
        pick(operand(f32, [3, 5, 7]), operand(i32, [1, 4])),
        pick(operand(f32, [2, 3, 5, 7]), operand(DType::I64, [2, 1, 4])),
        pick(operand(f32, [2, 3, 5, 7]), operand(i32, [1, 3, 2])),
        pick(operand(f32, [4, 8, 1]), operand(i32, [4, 2])),
        pick(operand(i32, [5, 7]), operand(i32, [3])),
        pick(operand(DType::I64, [2, 5, 3]), operand(DType::I64, [2, 3])),
        pick(operand(f32, [5, 7]), operand(i32, [6]).via(View::Columns)),
        pick(
            operand(f32, [3, 5, 7]),
            operand(i32, [3, 4]).via(View::Transposed),
        ),
        pick(
            operand(f32, [3, 5, 7]),
            operand(i32, [3, 4]).via(View::Repeated(0)),
        ),
    ];
    for (dtype, first) in [(f32, 3), (i32, 0), (DType::I64, 4)] {
        let window = Some(Window { first, total: 9 });
        rows.push(Picked {
            window,
            ..pick(operand(dtype, [3, 5, 7]), operand(i32, [1, 12]))
        });
        rows.push(Picked {
            window,
            ..pick(operand(dtype, [3, 0, 7]), operand(i32, [3, 4]))
        });
    }
    for view in View::ROWS_WHOLE {
        rows.push(pick(
            operand(f32, [3, 5, 33]).via(view),
            operand(i32, [3, 4]),
        ));
        rows.push(pick(
            operand(DType::Q4_0, [3, 5, 64]).via(view),
            operand(i32, [3, 4]),
        ));
    }
    for dtype in WEIGHTS {
        let weight = Picked {
            role: Role::Weight,
            ..pick(operand(dtype, [9, 512]), operand(i32, [7]))
        };
        rows.push(weight.clone());
        // First, middle and last rows, all and none.
        for (first, total) in [(0, 12), (2, 12), (3, 12), (0, 9), (5, 5)] {
            let mut row = weight.clone();
            row.window = Some(Window { first, total });
            row.table.shape[0] = if first == 5 { 0 } else { 9 };
            row.ids.shape[0] = 33;
            rows.push(row);
        }
    }
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let scalars = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64];
    match stem {
        "contiguous" => {
            let any = any_operand(0..=4, scalars, View::ALL).prop_map(|x| Copied { x });
            Some(Family::new(
                copied_rows().into_iter().map(|x| Copied { x }),
                any,
            ))
        }
        "cast" => {
            let floats = any_operand(0..=4, FLOATS, View::ALL);
            let any = (floats, one_of(FLOATS)).prop_map(|(x, to)| Converted { x, to });
            let blocks = (
                shape(1..=3),
                one_of(View::ROWS_WHOLE),
                one_of(WRITABLE),
                one_of(WEIGHTS),
            );
            let blocks = blocks.prop_map(|(mut shape, view, to, from)| {
                shape[0] = shape[0].min(4);
                let last = shape.len() - 1;
                shape[last] = 256;
                Converted {
                    x: operand(from, shape).via(view),
                    to,
                }
            });
            Some(Family::new(converted_rows(), any).and([], blocks))
        }
        "concat" => Some(Family::new(joined_rows(), any_joined())),
        "get_rows" => {
            let any = (
                any_operand(2..=4, scalars, View::ROWS_WHOLE),
                positive(),
                one_of(View::ALL),
                0usize..3,
                proptest::option::of((0usize..9, 1usize..9)),
            );
            let any = any.prop_map(|(mut table, n, view, shared, around)| {
                let rank = table.shape.len();
                let n_rows = table.shape[rank - 2];
                let window = around.map(|(first, after)| Window {
                    first,
                    total: first + n_rows + after,
                });
                if window.is_none() {
                    table.shape[rank - 2] = n_rows.max(1);
                }
                let mut ids = table.shape[..rank - 1].to_vec();
                if let Some(axis) = ids.get_mut(shared).filter(|_| shared < rank - 2) {
                    *axis = 1;
                }
                ids[rank - 2] = n;
                Picked {
                    role: Role::Input,
                    table,
                    window,
                    ids: operand(DType::I32, ids).via(view),
                }
            });
            Some(Family::new(picked_rows(), any))
        }
        _ => None,
    }
}
