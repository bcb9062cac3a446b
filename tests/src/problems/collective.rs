//! Problems of collectives on one device: a copy with one member; more members are for a meta device.

use ggrs_core::ops::{Collective, CollectiveKind, OpSpec};
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::shape;
use crate::oracle::{self, Array};
use crate::problem::{Problem, Scene, Tolerance, operand};

#[derive(Clone, Debug)]
struct Exchange {
    kind: CollectiveKind,
    members: usize,
    shape: Vec<usize>,
}

impl Problem for Exchange {
    fn stem(&self) -> &'static str {
        Collective::even(self.kind, self.members).stem()
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let x = scene
            .input(&operand(DType::F32, self.shape.as_slice()))
            .normals(1.0)?;
        let y = scene.apply(Collective::even(self.kind, self.members), &[&x])?;
        scene.expect(y, Tolerance::of(self.stem(), DType::F32), || {
            // The other members hold the same.
            let parts = vec![x.floats(); self.members];
            let of_first = |mut all: Vec<Array>| all.swap_remove(0);
            match self.kind {
                CollectiveKind::AllReduce => of_first(oracle::all_reduce(&parts)),
                CollectiveKind::AllGather { axis } => of_first(oracle::all_gather(&parts, axis)),
                CollectiveKind::ReduceScatter { axis } => {
                    let extents = vec![self.shape[axis] / self.members; self.members];
                    of_first(oracle::reduce_scatter(&parts, axis, &extents))
                }
            }
        })
    }
}

fn kind(stem: &str, axis: usize) -> Option<CollectiveKind> {
    let kinds = [
        CollectiveKind::AllReduce,
        CollectiveKind::AllGather { axis },
        CollectiveKind::ReduceScatter { axis },
    ];
    kinds
        .into_iter()
        .find(|&kind| Collective::even(kind, 1).stem() == stem)
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let (first, second) = (kind(stem, 0)?, kind(stem, 1)?);
    let shapes: [&[usize]; 5] = [&[0, 4], &[1], &[7], &[6, 33], &[2, 4, 257]];
    let alone = shapes.map(|shape| Exchange {
        kind: first,
        members: 1,
        shape: shape.into(),
    });
    let more = [
        Exchange {
            kind: second,
            members: 1,
            shape: vec![6, 33],
        },
        Exchange {
            kind: second,
            members: 2,
            shape: vec![3, 4],
        },
    ];
    let any = shape(1..=4).prop_map(move |shape| Exchange {
        kind: first,
        members: 1,
        shape,
    });
    Some(Family::new(alone.into_iter().chain(more), any))
}
