//! Random cuts of tensors, and the naive answer to who holds which block.

use std::ops::Range;

use ggrs_core::shard::Part;
use ggrs_core::{DType, Sharding, Split, TensorDesc};
use proptest::prelude::*;

/// Atoms of the cut axis: enough to share in any way, and each a whole block of every dtype.
const ATOMS: usize = 96;
/// Elements of an atom along the last axis.
const ATOM: usize = 256;

/// A tensor cut over members.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) desc: TensorDesc,
    pub(crate) sharding: Sharding,
    pub(crate) members: usize,
    /// For each member its blocks, by their number in the whole tensor.
    pub(crate) blocks: Vec<Vec<usize>>,
}

impl Case {
    pub(crate) fn bytes(&self) -> usize {
        self.desc.bytes().unwrap()
    }

    /// A member's part of the whole tensor's bytes.
    pub(crate) fn part(&self, member: usize, whole: &[u8]) -> Vec<u8> {
        let size = self.desc.dtype.block_bytes();
        let blocks = self.blocks[member].iter();
        blocks
            .flat_map(|b| whole[b * size..(b + 1) * size].iter().copied())
            .collect()
    }
}

pub(crate) fn dtypes() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![DType::F32, DType::F16, DType::Q8_0, DType::Q4_K])
}

/// Shares of one to five members, even, uneven or empty.
fn shares() -> impl Strategy<Value = Vec<usize>> {
    let fixed = prop::sample::select(vec![vec![1, 1], vec![3, 1], vec![1, 0], vec![30, 25]]);
    let random = prop::collection::vec(0..4usize, 1..=5).prop_map(|mut shares| {
        shares[0] += usize::from(shares.iter().all(|s| *s == 0));
        shares
    });
    prop_oneof![fixed, random]
}

/// Every stretch of the axis cut by the shares; with `shared`, members also hold the atom before their own.
fn parts(shares: &[usize], n_stretches: usize, shared: bool, unit: usize) -> Vec<Part> {
    let (sum, stretch) = (shares.iter().sum::<usize>(), ATOMS / n_stretches);
    let bound = |members: usize| shares[..members].iter().sum::<usize>() * stretch / sum;
    let part = |member: usize| {
        let own = |s: usize| {
            let mut own = bound(member)..bound(member + 1);
            if shared && !own.is_empty() {
                own.start = own.start.saturating_sub(1);
            }
            (s * stretch + own.start) * unit..(s * stretch + own.end) * unit
        };
        (0..n_stretches)
            .map(own)
            .filter(|r| !r.is_empty())
            .collect()
    };
    (0..shares.len()).map(part).collect()
}

/// The blocks that a member's ranges along an axis stand for, in the order of its part.
fn blocks(desc: &TensorDesc, axis: usize, part: &[Range<usize>]) -> Vec<usize> {
    let block = desc.dtype.block_elems();
    let mut sizes = desc.shape.sizes();
    let mut part = part.to_vec();
    let last = sizes.len() - 1;
    sizes[last] /= block;
    if axis == last {
        part = part
            .iter()
            .map(|r| r.start / block..r.end / block)
            .collect();
    }
    let outer: usize = sizes[..axis].iter().product();
    let inner: usize = sizes[axis + 1..].iter().product();
    let mut blocks = Vec::new();
    for o in 0..outer {
        for at in part.iter().flat_map(Clone::clone) {
            blocks.extend((0..inner).map(|i| (o * sizes[axis] + at) * inner + i));
        }
    }
    blocks
}

prop_compose! {
    pub(crate) fn cases()(
        dtype in dtypes(),
        shares in shares(),
        n_stretches in prop::sample::select(vec![1usize, 2, 3, 4]),
        axis in 0..3usize,
        rows in 1..4usize,
        shared in any::<bool>(),
    ) -> Case {
        let (shape, unit) = match axis {
            0 => ([ATOMS, rows, ATOM], 1),
            1 => ([rows, ATOMS, ATOM], 1),
            _ => ([rows, 2, ATOMS * ATOM], ATOM),
        };
        let desc = TensorDesc::new(dtype, shape);
        let parts = parts(&shares, n_stretches, shared, unit);
        let blocks = parts.iter().map(|p| blocks(&desc, axis, p)).collect();
        let split = Split::new(axis, shape[axis], parts).unwrap();
        Case { desc, sharding: Sharding::Split(split), members: shares.len(), blocks }
    }
}

/// Two numbers that a range is made of.
pub(crate) fn fractions() -> impl Strategy<Value = (f64, f64)> {
    (0.0..1.0, prop_oneof![Just(0.0), 0.0..0.01, 0.0..1.0])
}

/// A range that begins and ends anywhere.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small sizes"
)]
pub(crate) fn range((start, len): (f64, f64), bytes: usize) -> Range<usize> {
    let start = (start * bytes as f64) as usize;
    let len = (len * (bytes - start) as f64) as usize;
    start..start + len
}

/// Bytes that differ from their neighbours.
pub(crate) fn pattern(n: usize, seed: u8) -> Vec<u8> {
    let mixed = |i: usize| (i.wrapping_mul(0x9E37_79B9) >> 11).to_le_bytes()[0] ^ seed;
    (0..n).map(mixed).collect()
}
