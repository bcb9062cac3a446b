//! The outline of a synthetic model: its keys and tensors, before any weight exists.
//!
//! Architectures fill an outline; the writer turns it into a file. Neither dtypes nor random numbers are known here.

use crate::gguf::writer::{Encode, GgufHeader, WriteError};

use super::mix::Role;

/// How a tensor's values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fill {
    /// A weight in any dtype: zero mean and this standard deviation.
    Weight { std: f32 },
    /// F32, uniform.
    Uniform { low: f32, high: f32 },
    /// F32, normal with zero mean.
    Normal { std: f32 },
    /// F32 rope factors: 1 for the first dimensions, so large that nothing rotates for the others.
    RopeFactors { n_rotated: usize },
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct OutlineTensor {
    pub(super) name: String,
    /// Outermost axis first.
    pub(super) shape: Vec<usize>,
    pub(super) role: Role,
    pub(super) layer: usize,
    pub(super) fill: Fill,
}

/// Keys and tensors of a model, in file order.
pub(super) struct Outline {
    pub(super) header: GgufHeader,
    pub(super) tensors: Vec<OutlineTensor>,
    arch: &'static str,
    layer: Option<usize>,
}

impl Outline {
    pub(super) fn new(arch: &'static str) -> Self {
        Self {
            header: GgufHeader::new(),
            tensors: Vec::new(),
            arch,
            layer: None,
        }
    }

    /// The tensors added from here on belong to this layer.
    pub(super) fn enter_layer(&mut self, layer: usize) {
        self.layer = Some(layer);
    }

    /// Sets a key of the architecture; its name goes in front.
    pub(super) fn key<T: Encode>(&mut self, name: &str, value: T) -> Result<(), WriteError> {
        self.header.set(&format!("{}.{name}", self.arch), value)
    }

    /// Sets several `u32` keys of the architecture.
    pub(super) fn counts(&mut self, counts: &[(&str, usize)]) -> Result<(), WriteError> {
        counts
            .iter()
            .try_for_each(|(name, count)| self.key(name, *count as u32))
    }

    /// A weight that keeps the size of what it is multiplied with, times `gain`: its standard deviation is
    /// `gain / sqrt(length of a row)`.
    pub(super) fn weight(&mut self, name: &str, role: Role, shape: &[usize], gain: f32) {
        let row_elems = shape.last().copied().unwrap_or(1);
        self.weight_with_std(name, role, shape, gain / (row_elems as f32).sqrt());
    }

    /// A weight with the given standard deviation.
    pub(super) fn weight_with_std(&mut self, name: &str, role: Role, shape: &[usize], std: f32) {
        self.push(&format!("{name}.weight"), role, shape, Fill::Weight { std });
    }

    /// A norm's weight: near 1.
    pub(super) fn norm(&mut self, name: &str, len: usize) {
        self.vector(&format!("{name}.weight"), len, 0.9, 1.1);
    }

    /// An F32 vector of uniform values; the name is taken as it is.
    pub(super) fn vector(&mut self, name: &str, len: usize, low: f32, high: f32) {
        self.unquantized(name, &[len], Fill::Uniform { low, high });
    }

    /// An F32 tensor; the name is taken as it is.
    pub(super) fn unquantized(&mut self, name: &str, shape: &[usize], fill: Fill) {
        self.push(name, Role::Unquantized, shape, fill);
    }

    fn push(&mut self, name: &str, role: Role, shape: &[usize], fill: Fill) {
        let name = match self.layer {
            Some(layer) => format!("blk.{layer}.{name}"),
            None => name.into(),
        };
        self.tensors.push(OutlineTensor {
            name,
            shape: shape.into(),
            role,
            layer: self.layer.unwrap_or(0),
            fill,
        });
    }
}
