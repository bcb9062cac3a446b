//! Leaves: values that come from outside the graph.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::ops::operands::fresh;
use crate::ops::{OpSpec, Operands, Outputs};
use crate::{OpError, Role, TensorDesc};

/// Where a leaf's data comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeafKind {
    /// Written before each run.
    Input,
    /// Loaded once, never written; known by its name in the model file.
    Weight,
    /// Kept between runs and written by ops in place: KV cache, recurrent state.
    State,
    /// Part of the graph.
    Constant(ConstData),
}

/// The bytes of a constant, little-endian, contiguous.
#[derive(Clone, Debug)]
pub struct ConstData(pub Arc<[u8]>);

impl PartialEq for ConstData {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for ConstData {}

impl Hash for ConstData {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// An input, weight, state or constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Where the data comes from.
    pub kind: LeafKind,
    /// What it is; always contiguous.
    pub desc: TensorDesc,
    /// What it is to its model.
    pub role: Arc<Role>,
}

impl OpSpec for Leaf {
    fn stem(&self) -> &'static str {
        match self.kind {
            LeafKind::Input => "input",
            LeafKind::Weight => "weight",
            LeafKind::State => "state",
            LeafKind::Constant(_) => "constant",
        }
    }

    fn roles(&self) -> &'static [&'static str] {
        &[]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        ins.exactly::<0>()?;
        let desc = fresh(self.desc.dtype, self.desc.shape.clone())?;
        if let LeafKind::Constant(data) = &self.kind {
            let expected = desc.bytes().unwrap_or(usize::MAX);
            if data.0.len() != expected {
                let got = data.0.len();
                return Err(OpError::ConstantBytes {
                    dtype: desc.dtype,
                    shape: desc.shape,
                    expected,
                    got,
                });
            }
        }
        Ok(Outputs::from_iter([desc]))
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn bytes(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }
}
