//! Products with experts chosen per token, alone or as gate and up of a gated linear unit.
//!
//! A *pair* is a token and one of its experts: a row of the result. For a few tokens every pair is multiplied for itself;
//! for more, pairs are sorted by expert, so that an expert's weights are read once for all its tokens. Pairs whose
//! expert is not held here are zeros.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::{self, UnaryKind, Window};

use super::glu::activation;
use super::held::Held;
use super::matmul::finish;
use super::product::{Activations, BLOCK_COLUMNS, BLOCK_ROWS, Layout, Product};
use crate::gemm::Routed;
use crate::kernel::{Args, Choice, Kernel, Request};
use crate::part::Part;
use crate::view::{Blocks, Groups, GroupsSlot, In, Out, ScratchLayout};

/// From how many tokens on pairs are sorted by expert.
const GROUPED_TOKENS: usize = 3;

/// `out[t, j] = weights[ids[t, j]] @ x[t, min(j, n - 1)]`.
pub(crate) fn matmul_id(op: &ops::MatMulId, request: &Request<'_>) -> Result<Choice, Unsupported> {
    Ok(choose::<1>("matmul_id", op.window, None, request))
}

/// The same for gate and up, joined.
pub(crate) fn matmul_id_glu(
    op: &ops::MatMulIdGlu,
    request: &Request<'_>,
) -> Result<Choice, Unsupported> {
    Ok(choose::<2>(
        "matmul_id_glu",
        op.window,
        Some(activation(op.kind)),
        request,
    ))
}

fn choose<const N: usize>(
    family: &str,
    window: Option<Window>,
    gate: Option<UnaryKind>,
    request: &Request<'_>,
) -> Choice {
    let mut scratch = ScratchLayout::new();
    let sizes = request.output(0).shape.sizes();
    let (n_tokens, n_used) = (
        sizes.first().copied().unwrap_or(0),
        sizes.get(1).copied().unwrap_or(0),
    );
    let n_experts = request.input(0).shape.sizes().first().copied().unwrap_or(0);
    let experts = Held::new(window, n_experts);
    let n_pairs = n_tokens.saturating_mul(n_used);
    let grouped = n_tokens >= GROUPED_TOKENS;
    let layout = Layout::<N>::new(request, if grouped { n_pairs } else { 1 }, &mut scratch);
    // Pairs of experts that are elsewhere are the last group.
    let n_groups = n_experts + usize::from(experts.is_part());
    let groups = grouped.then(|| GroupsSlot::new(&mut scratch, n_groups, n_pairs));
    let (name, reason) = layout.name(family, request);
    let (way, why) = if grouped {
        ("grouped", "tokens sorted by expert")
    } else {
        ("pairs", "each expert for itself")
    };
    let isa = request.isa();
    Choice::new(
        format!("{name}/{way}"),
        format!("{reason}, {why}"),
        scratch,
        move |args: &Args<'_>| {
            let (x, out) = (args.input(N), args.output(0));
            MatMulId {
                product: layout.build(args, isa),
                ids: args.input(N + 1),
                experts,
                n_used: out.grid().from_end(1),
                x_per_token: x.grid().from_end(1),
                out,
                groups: groups.map(|slot| Groups::new(&args.scratch, slot)),
                gate,
            }
        },
    )
}

struct MatMulId<const N: usize> {
    product: Product<N>,
    ids: In,
    out: Out,
    experts: Held,
    n_used: usize,
    /// Rows of x for each token: 1, or one for each expert.
    x_per_token: usize,
    groups: Option<Groups>,
    gate: Option<UnaryKind>,
}

impl<const N: usize> MatMulId<N> {
    /// The expert of a pair, if it is held here.
    fn expert(&self, pair: usize) -> Result<Option<usize>, Fault> {
        let (token, j) = (pair / self.n_used, pair % self.n_used);
        let index = self.ids.id(token, j);
        self.experts.place(index, "expert ids", token)
    }

    /// The row of x that a pair multiplies.
    fn x_row(&self, pair: usize) -> usize {
        let (token, j) = (pair / self.n_used, pair % self.n_used);
        token * self.x_per_token + j.min(self.x_per_token.saturating_sub(1))
    }

    /// A run of work: large enough to stream, small enough that no thread waits long for the last one.
    fn grain(n_blocks: usize, n_threads: usize) -> usize {
        (n_blocks / (8 * n_threads)).clamp(1, 8)
    }

    /// Every pair for itself.
    fn multiply_pairs(&self, part: &mut Part<'_>) -> Result<(), Fault> {
        let n_blocks = Blocks::count(&self.out, 1, BLOCK_ROWS);
        let grain = Self::grain(n_blocks, part.work.n_threads());
        let mut workspace = self.product.workspace(&mut part.own);
        let mut chunks = part.work.chunks(n_blocks, grain);
        while let Some(mut share) = chunks.next() {
            let units = share.units();
            let mut blocks = share.blocks(&self.out, 1, BLOCK_ROWS);
            for unit in units {
                let (pair, rows) = blocks.place(unit);
                let Some(expert) = self.expert(pair)? else {
                    blocks.row(unit, 0).fill(0.0);
                    continue;
                };
                let x = Activations::Rows {
                    start: self.x_row(pair),
                    n: 1,
                };
                self.product.block(expert, rows, x, &mut workspace);
                finish(
                    self.product.isa,
                    self.gate,
                    &workspace,
                    0,
                    blocks.row(unit, 0),
                );
            }
        }
        Ok(())
    }

    /// Expert by expert.
    fn multiply_groups(&self, groups: &Groups, part: &mut Part<'_>) {
        let n_blocks = groups.n_blocks(&self.out, BLOCK_ROWS);
        let grain = Self::grain(n_blocks, part.work.n_threads());
        let mut workspace = self.product.workspace(&mut part.own);
        let mut chunks = part.work.chunks(n_blocks, grain);
        let mut columns = [Routed {
            input: 0,
            output: 0,
        }; BLOCK_COLUMNS];
        while let Some(mut share) = chunks.next() {
            let units = share.units();
            let mut blocks = share.group_blocks(&self.out, groups, BLOCK_ROWS);
            for unit in units {
                let (expert, rows) = blocks.place(unit);
                if expert == self.experts.n() {
                    for i in 0..groups.rows(expert).len() {
                        blocks.row(unit, i).fill(0.0);
                    }
                    continue;
                }
                let n_rows = rows.len();
                for (run, pairs) in groups.rows(expert).chunks(BLOCK_COLUMNS).enumerate() {
                    for ((column, pair), output) in columns.iter_mut().zip(pairs).zip(0..) {
                        *column = Routed {
                            input: self.x_row(*pair as usize) as u32,
                            output,
                        };
                    }
                    let x = Activations::Picked(columns.get(..pairs.len()).unwrap_or_default());
                    self.product.block(expert, rows.clone(), x, &mut workspace);
                    for i in 0..pairs.len() {
                        let out = blocks.row(unit, run * BLOCK_COLUMNS + i);
                        finish(self.product.isa, self.gate, &workspace, i * n_rows, out);
                    }
                }
            }
        }
    }
}

impl<const N: usize> Kernel for MatMulId<N> {
    fn phases(&self) -> usize {
        1 + usize::from(self.product.prepares()) + usize::from(self.groups.is_some())
    }

    fn is_serial(&self, phase: usize) -> bool {
        match phase + 1 == self.phases() {
            true => false,
            false if phase == 0 && self.product.prepares() => self.product.prepares_little(),
            false => true,
        }
    }

    fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        let last = self.phases() - 1;
        match &self.groups {
            _ if phase == 0 && self.product.prepares() => self.product.prepare(part),
            Some(groups) if phase == last => self.multiply_groups(groups, part),
            Some(groups) => {
                let mut share = part.work.alone(1);
                if !share.units().is_empty() {
                    let elsewhere = self.experts.n();
                    return groups.sort(&mut share, |pair| {
                        Ok(self.expert(pair)?.unwrap_or(elsewhere))
                    });
                }
            }
            None => return self.multiply_pairs(part),
        }
        Ok(())
    }
}
