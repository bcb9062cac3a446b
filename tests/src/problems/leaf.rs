//! Problems of leaves: what comes from outside is read as it is, whatever its role and dtype.

use ggrs_core::ops::Contiguous;
use ggrs_core::{DType, GraphError};
use proptest::prelude::Strategy;

use super::Family;
use super::strategies::{any_operand, one_of};
use crate::problem::{Operand, Problem, Role, Scene, Tolerance, View, operand};

#[derive(Clone, Debug)]
struct ReadLeaf {
    role: Role,
    x: Operand,
}

impl Problem for ReadLeaf {
    fn stem(&self) -> &'static str {
        match self.role {
            Role::Input => "input",
            Role::Weight => "weight",
            Role::State => "state",
            Role::Constant => "constant",
        }
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let leaf = scene.leaf(self.role, &self.x);
        let x = if self.x.dtype.is_int() {
            leaf.ids_below(1000)
        } else {
            leaf.normals(1.0)
        }?;
        let y = scene.apply(Contiguous, &[&x])?;
        scene.expect(y, Tolerance::of("contiguous", x.dtype()), || x.floats())
    }
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let roles = [Role::Input, Role::Weight, Role::State, Role::Constant];
    let role = roles.into_iter().find(|&role| {
        ReadLeaf {
            role,
            x: operand(DType::F32, [1]),
        }
        .stem()
            == stem
    })?;
    let every_dtype = DType::ALL.map(|dtype| operand(dtype, [3, 256]));
    let edges = [
        operand(DType::F32, [0, 7]),
        operand(DType::F32, []),
        operand(DType::I32, [1]),
    ];
    let slices = [DType::F32, DType::Q4_K].map(|dtype| operand(dtype, [3, 256]).via(View::Rows));
    let rows = every_dtype
        .into_iter()
        .chain(edges)
        .chain(slices)
        .map(move |x| ReadLeaf { role, x });
    let dtypes = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::I64];
    let any = (any_operand(0..=4, dtypes, View::ALL), one_of([role]))
        .prop_map(|(x, role)| ReadLeaf { role, x });
    Some(Family::new(rows, any))
}
