//! The weights of a file as leaves of a graph: each is declared with the shape that the metadata implies and checked
//! against the file.

use std::path::{Path, PathBuf};

use ggrs_core::{DType, GraphBuilder, Role, Shape, Value};

use crate::error::ModelError;
use crate::gguf::GgufFile;

/// A graph under construction over a file's weights.
pub(crate) struct WeightLeaves<'a> {
    file: &'a GgufFile,
    /// The graph so far.
    pub(crate) graph: GraphBuilder,
}

impl<'a> WeightLeaves<'a> {
    pub(crate) fn new(file: &'a GgufFile) -> Self {
        Self {
            file,
            graph: GraphBuilder::new(),
        }
    }

    /// A matrix or a stack of matrices, of any type, under its name in the file.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
    ) -> Result<Value, ModelError> {
        let tensor = self.file.tensor(name)?;
        if tensor.shape != shape {
            return Err(ModelError::TensorShape {
                path: first_path(self.file),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape.to_vec(),
            });
        }
        if tensor.dtype.is_int() {
            let (path, tensor, found) = (first_path(self.file), name.to_owned(), tensor.dtype);
            return Err(ModelError::TensorType {
                path,
                tensor,
                expected: "a float or block format",
                found,
            });
        }
        let leaf = self.graph.weight(name, tensor.dtype, Shape::from(shape))?;
        self.graph.describe(leaf, role)?;
        Ok(leaf)
    }

    /// A vector that ops want in F32, converted by the graph if the file has another type.
    pub(crate) fn vector(
        &mut self,
        name: &str,
        len: usize,
        role: Role,
    ) -> Result<Value, ModelError> {
        let value = self.tensor(name, &[len], role)?;
        match self.graph.desc(value).map(|d| d.dtype) {
            Some(DType::F32) | None => Ok(value),
            Some(_) => Ok(self.graph.cast(value, DType::F32)?),
        }
    }

    /// Is there a tensor of this name?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.has_tensor(name)
    }
}

/// The file that messages name.
pub(crate) fn first_path(file: &GgufFile) -> PathBuf {
    file.paths()
        .next()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
