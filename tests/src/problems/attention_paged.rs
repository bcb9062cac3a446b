//! Paged caches: who lies where, and attention over them. Every token of a step has a cell of its own.

use ggrs_core::error::Fault;
use ggrs_core::ops::{Attention, Visibility};
use ggrs_core::{DType, GraphError, Real};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::strategies::{FLOATS, KV, one_of};
use crate::oracle::{self, Array, AttentionParams, IntArray, PagedKv};
use crate::problem::{Problem, Scene, Tensor, Tolerance, View, operand};

/// A step over a paged cache.
#[derive(Clone, Debug)]
pub(super) struct Paging {
    /// Cells of a block.
    pub(super) block: usize,
    /// Blocks of a slot.
    pub(super) n_blocks: usize,
    /// For each slot that takes part: position of its first token, number of tokens.
    pub(super) slots: Vec<(usize, usize)>,
    /// Tokens without a slot, between the others.
    pub(super) n_padding: usize,
}

/// The operands that say who lies where.
pub(super) struct PageTensors {
    pub(super) positions: Tensor,
    pub(super) slots: Tensor,
    pub(super) table: Tensor,
}

impl Paging {
    /// Cells of the cache: those of all slots, and one block that nobody has.
    pub(super) fn n_cells(&self) -> usize {
        self.block * (self.n_blocks * self.slots.len().max(1) + 1)
    }

    /// Tokens of the step.
    pub(super) fn n_tokens(&self) -> usize {
        self.slots.iter().map(|(_, n)| n).sum::<usize>() + self.n_padding
    }

    /// Slot and position of every token, slots in turn.
    fn tokens(&self) -> Vec<(i64, i64)> {
        let longest = self
            .slots
            .iter()
            .map(|(_, n)| *n)
            .max()
            .unwrap_or(0)
            .max(self.n_padding);
        let mut tokens = Vec::new();
        for i in 0..longest {
            for (slot, (first, n)) in self.slots.iter().enumerate().filter(|(_, (_, n))| i < *n) {
                debug_assert!(first + n <= self.n_blocks * self.block, "{self:?}");
                tokens.push((slot as i64, (first + i) as i64));
            }
            if i < self.n_padding {
                // The position of padding means nothing.
                tokens.push((-1, i64::from(i32::MIN)));
            }
        }
        tokens
    }

    /// The operands, with blocks in random order.
    pub(super) fn pose(&self, scene: &mut Scene) -> Result<PageTensors, GraphError> {
        let tokens = self.tokens();
        let ints = |shape: &[usize], data: Vec<i64>| IntArray::new(shape, data);
        let n_slots = self.slots.len().max(1);
        let order = scene.random.permutation(self.n_blocks * n_slots + 1);
        let table = order
            .into_iter()
            .take(self.n_blocks * n_slots)
            .map(|block| block as i64)
            .collect();
        let vector = operand(DType::I32, [tokens.len()]);
        Ok(PageTensors {
            positions: scene
                .input(&vector)
                .ids(&ints(&[tokens.len()], tokens.iter().map(|t| t.1).collect()))?,
            slots: scene
                .input(&vector)
                .ids(&ints(&[tokens.len()], tokens.iter().map(|t| t.0).collect()))?,
            table: scene
                .input(&operand(DType::I32, [n_slots, self.n_blocks]))
                .ids(&ints(&[n_slots, self.n_blocks], table))?,
        })
    }

    /// Slots, positions and blocks outside their tables, if there is a token that has one.
    pub(super) fn refuse(&self, scene: &mut Scene, pages: &PageTensors) {
        let Some(token) = self.tokens().iter().position(|(slot, _)| *slot >= 0) else {
            return;
        };
        let (n_slots, n_positions) = (self.slots.len(), self.n_blocks * self.block);
        let cases: [(&Tensor, &'static str, i64, usize); 4] = [
            (&pages.slots, "slots", n_slots as i64, n_slots),
            (
                &pages.positions,
                "positions",
                n_positions as i64,
                n_positions,
            ),
            (&pages.positions, "positions", -1, n_positions),
            (&pages.table, "page table", -1, self.n_cells() / self.block),
        ];
        let (slot, position) = self.tokens()[token];
        for (tensor, role, index, bound) in cases {
            let mut bad = tensor.ints();
            let at = if role == "page table" {
                slot as usize * self.n_blocks + position as usize / self.block
            } else {
                token
            };
            bad.data[at] = index;
            scene.refuse_ids(
                tensor,
                &bad,
                Fault::IndexOutOfRange {
                    role,
                    row: token,
                    index,
                    bound,
                },
            );
        }
        let mut bad = pages.table.ints();
        let index = (self.n_cells() / self.block) as i64;
        bad.data[slot as usize * self.n_blocks + position as usize / self.block] = index;
        let bound = self.n_cells() / self.block;
        scene.refuse_ids(
            &pages.table,
            &bad,
            Fault::IndexOutOfRange {
                role: "page table",
                row: token,
                index,
                bound,
            },
        );
    }
}

/// Steps as servers make them: no token, one, prefill, several slots, padding, the last cell of a slot.
pub(super) fn paging_rows() -> Vec<Paging> {
    let paging = |block, n_blocks, slots: &[(usize, usize)], n_padding| Paging {
        block,
        n_blocks,
        slots: slots.into(),
        n_padding,
    };
    vec![
        paging(4, 2, &[(0, 0)], 0),
        paging(1, 1, &[(0, 1)], 0),
        paging(4, 5, &[(7, 3), (0, 2), (19, 1)], 2),
        paging(16, 3, &[(0, 33)], 0),
        paging(16, 3, &[(47, 1)], 0),
        paging(5, 4, &[(0, 0), (13, 1)], 1),
        paging(32, 3, &[(70, 1), (3, 1), (95, 1), (31, 1)], 0),
        paging(8, 2, &[(0, 0)], 3),
    ]
}

pub(super) fn any_paging() -> impl Strategy<Value = Paging> {
    let slots = proptest::collection::vec((0usize..40, 0usize..6), 1..4);
    (one_of([1usize, 3, 4, 16]), 1usize..5, slots, 0usize..3).prop_map(
        |(block, n_blocks, slots, n_padding)| {
            let n_positions = block * n_blocks;
            let fit = |(first, n): (usize, usize)| {
                let first = first % n_positions;
                (first, n.min(n_positions - first))
            };
            Paging {
                block,
                n_blocks,
                slots: slots.into_iter().map(fit).collect(),
                n_padding,
            }
        },
    )
}

/// Attention over a paged cache.
#[derive(Clone, Debug)]
pub(super) struct PagedAttention {
    pub(super) paging: Paging,
    pub(super) window: Option<usize>,
    /// Query heads, key heads.
    pub(super) heads: (usize, usize),
    /// Of keys, of values.
    pub(super) widths: (usize, usize),
    pub(super) q: (DType, View),
    /// Of keys, of values.
    pub(super) kv: (DType, DType),
    pub(super) softcap: Option<f32>,
    pub(super) sinks: bool,
}

impl PagedAttention {
    /// Grouped heads over F16, nothing else.
    pub(super) fn plain(paging: Paging) -> Self {
        Self {
            paging,
            window: None,
            heads: (4, 2),
            widths: (64, 64),
            q: (DType::F32, View::Plain),
            kv: (DType::F16, DType::F16),
            softcap: None,
            sinks: false,
        }
    }

    /// A cache whose cells that no token may see are NaN, where the dtype has one: they must not leak.
    fn cache(
        &self,
        scene: &mut Scene,
        dtype: DType,
        width: usize,
        seen: &[bool],
    ) -> Result<Tensor, GraphError> {
        let shape = [self.paging.n_cells(), self.heads.1, width];
        let leaf = operand(dtype, shape);
        if dtype.is_block() {
            return scene.state(&leaf).normals(1.0);
        }
        let values = scene.random.normals(&shape, 1.0);
        let values = Array::from_fn(&shape, |i| if seen[i[0]] { values.at(i) } else { f64::NAN });
        scene.state(&leaf).values(&values)
    }

    fn seen(&self, table: &IntArray) -> Vec<bool> {
        let mut seen = vec![false; self.paging.n_cells()];
        let pages = oracle::Pages {
            table,
            block_cells: self.paging.block,
        };
        for (slot, position) in self
            .paging
            .tokens()
            .into_iter()
            .filter(|(slot, _)| *slot >= 0)
        {
            let (slot, position) = (slot as usize, position as usize);
            let first = self
                .window
                .map_or(0, |window| (position + 1).saturating_sub(window));
            (first..=position).for_each(|p| seen[pages.cell(slot, p)] = true);
        }
        seen
    }
}

impl Problem for PagedAttention {
    fn stem(&self) -> &'static str {
        "attention"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let scale = 1.0 / (self.widths.0 as f32).sqrt();
        let q_shape = [self.paging.n_tokens(), self.heads.0, self.widths.0];
        let q = scene
            .input(&operand(self.q.0, q_shape).via(self.q.1))
            .normals(1.0)?;
        let pages = self.paging.pose(scene)?;
        let seen = self.seen(&pages.table.ints());
        let k = self.cache(scene, self.kv.0, self.widths.0, &seen)?;
        let v = self.cache(scene, self.kv.1, self.widths.1, &seen)?;
        let sinks = self
            .sinks
            .then(|| {
                scene
                    .input(&operand(DType::F32, [self.heads.0]))
                    .normals(1.0)
            })
            .transpose()?;
        let op = Attention {
            scale: Real(scale),
            softcap: self.softcap.map(Real),
            visibility: Visibility::Paged {
                block: self.paging.block,
                window: self.window,
            },
            sinks: self.sinks,
        };
        let mut operands = vec![&q, &k, &v, &pages.positions, &pages.slots, &pages.table];
        operands.extend(&sinks);
        let y = scene.apply(op, &operands)?;
        let tolerance = Tolerance::Op {
            stem: "attention",
            dtypes: vec![self.kv.0, self.kv.1],
        };
        scene.expect(y, tolerance, || {
            let (slots, positions, table) = (
                pages.slots.ints(),
                pages.positions.ints(),
                pages.table.ints(),
            );
            let kv = PagedKv {
                k: &k.floats(),
                v: &v.floats(),
                pages: oracle::Pages {
                    table: &table,
                    block_cells: self.paging.block,
                },
                slots: &slots,
                positions: &positions,
                window: self.window,
            };
            let sinks = sinks.as_ref().map(Tensor::floats);
            let params = AttentionParams {
                scale: scale.into(),
                softcap: self.softcap.map(f64::from),
                sinks: sinks.as_ref(),
            };
            oracle::attention_paged(&q.floats(), &kv, &params)
        })?;
        self.paging.refuse(scene, &pages);
        Ok(())
    }
}

/// Rows of attention over paged caches.
pub(super) fn rows() -> Vec<PagedAttention> {
    let several = || PagedAttention::plain(paging_rows().swap_remove(2));
    let mut rows: Vec<PagedAttention> = paging_rows()
        .into_iter()
        .map(PagedAttention::plain)
        .collect();
    for window in [1, 3, 8, 1000] {
        rows.push(PagedAttention {
            window: Some(window),
            ..several()
        });
        let prefill = PagedAttention::plain(paging_rows().swap_remove(3));
        rows.push(PagedAttention {
            window: Some(window),
            ..prefill
        });
    }
    rows.extend(
        [(1, 1), (8, 1), (6, 6), (7, 7), (16, 2)]
            .map(|heads| PagedAttention { heads, ..several() }),
    );
    for kv in KV {
        rows.push(PagedAttention {
            kv: (kv, kv),
            ..several()
        });
        rows.push(PagedAttention {
            kv: (kv, DType::F32),
            widths: (128, 64),
            ..several()
        });
        rows.push(PagedAttention {
            kv: (DType::F16, kv),
            widths: (64, 128),
            heads: (5, 1),
            ..several()
        });
    }
    rows.extend([32, 80, 96, 192, 256, 512].map(|d| PagedAttention {
        widths: (d, d),
        ..several()
    }));
    rows.push(PagedAttention {
        widths: (7, 33),
        kv: (DType::F32, DType::F16),
        ..several()
    });
    rows.push(PagedAttention {
        widths: (1, 1),
        kv: (DType::F32, DType::F32),
        ..several()
    });
    rows.push(PagedAttention {
        softcap: Some(5.0),
        ..several()
    });
    rows.push(PagedAttention {
        sinks: true,
        ..several()
    });
    rows.push(PagedAttention {
        sinks: true,
        softcap: Some(3.0),
        window: Some(2),
        ..several()
    });
    rows.extend(FLOATS.map(|dtype| PagedAttention {
        q: (dtype, View::Plain),
        ..several()
    }));
    rows.extend(View::ROWS_WHOLE.map(|view| PagedAttention {
        q: (DType::F32, view),
        ..several()
    }));
    rows.extend(rows_of_many());
    rows
}

/// Prefill of several slots in one step, in turn at first, then one for itself; a long sequence.
fn rows_of_many() -> Vec<PagedAttention> {
    let many = || {
        PagedAttention::plain(Paging {
            block: 16,
            n_blocks: 5,
            slots: vec![(5, 70), (0, 4), (76, 1)],
            n_padding: 3,
        })
    };
    let mut rows = vec![
        many(),
        PagedAttention {
            heads: (5, 1),
            ..many()
        },
        PagedAttention {
            heads: (3, 3),
            q: (DType::F16, View::OuterReversed),
            ..many()
        },
        PagedAttention {
            sinks: true,
            softcap: Some(3.0),
            ..many()
        },
    ];
    rows.extend([1, 20].map(|window| PagedAttention {
        window: Some(window),
        ..many()
    }));
    rows.extend([128, 256, 512].map(|d| PagedAttention {
        widths: (d, d),
        ..many()
    }));
    rows.extend(KV.map(|kv| PagedAttention {
        kv: (kv, kv),
        ..many()
    }));
    // One token that sees many keys.
    let long = || Paging {
        block: 64,
        n_blocks: 9,
        slots: vec![(530, 1)],
        n_padding: 0,
    };
    rows.extend([64, 128, 256].map(|d| PagedAttention {
        heads: (10, 1),
        widths: (d, d),
        sinks: true,
        ..PagedAttention::plain(long())
    }));
    rows
}

/// Random attention over paged caches.
pub(super) fn any_paged() -> impl Strategy<Value = PagedAttention> {
    let heads = one_of([(1, 1), (4, 1), (4, 2), (3, 3), (6, 2)]);
    let widths = one_of([(32, 32), (64, 32), (32, 96), (64, 64)]);
    let window = prop_oneof![Just(None), (1usize..9).prop_map(Some)];
    let softcap = prop_oneof![Just(None), Just(Some(4.0))];
    let kv = (one_of(KV), one_of(KV));
    let q = (one_of(FLOATS), one_of(View::ROWS_WHOLE));
    (
        any_paging(),
        window,
        heads,
        widths,
        q,
        kv,
        softcap,
        any::<bool>(),
    )
        .prop_map(
            |(paging, window, heads, widths, q, kv, softcap, sinks)| PagedAttention {
                paging,
                window,
                heads,
                widths,
                q,
                kv,
                softcap,
                sinks,
            },
        )
}
