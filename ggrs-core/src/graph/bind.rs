//! Binding: a graph with symbols becomes a graph of one bucket, every op inferred and checked anew.

use super::{Graph, GraphBuilder};
use crate::ops::Op;
use crate::{Dim, GraphError, Shape, TensorDesc};

impl Graph {
    /// This graph with every symbol set to a size: the graph of one bucket.
    ///
    /// # Errors
    /// A symbol without a size or outside its range, or an op that the sizes do not suit.
    pub fn bind(&self, sizes: &[(&str, usize)]) -> Result<Self, GraphError> {
        let mut bound = Vec::with_capacity(self.symbols.len());
        for s in &self.symbols {
            let got = sizes
                .iter()
                .find(|(n, _)| *n == s.name)
                .map(|(_, size)| *size);
            match got {
                None => {
                    return Err(GraphError::Unbound {
                        name: s.name,
                        max: s.max,
                    });
                }
                Some(n) if n == 0 || n > s.max => {
                    return Err(GraphError::BindRange {
                        name: s.name,
                        got: n,
                        max: s.max,
                    });
                }
                Some(n) => bound.push(n),
            }
        }
        let shape = |shape: &Shape| {
            Shape::new(shape.dims().iter().map(|d| match d {
                Dim::Sym(s) => bound.get(s.id.index()).map_or(*d, |n| Dim::Fixed(*n)),
                Dim::Fixed(_) => *d,
            }))
        };
        self.rebuild(GraphBuilder::new(), |op| match op {
            Op::Leaf(mut leaf) => {
                leaf.desc = TensorDesc::new(leaf.desc.dtype, shape(&leaf.desc.shape));
                leaf.into()
            }
            Op::Reshape(mut op) => {
                op.shape = shape(&op.shape);
                op.into()
            }
            Op::Broadcast(mut op) => {
                op.shape = shape(&op.shape);
                op.into()
            }
            other => other,
        })
    }

    /// The same nodes, each op changed by `change`, through the builder.
    fn rebuild(
        &self,
        mut builder: GraphBuilder,
        change: impl Fn(Op) -> Op,
    ) -> Result<Self, GraphError> {
        let here = std::panic::Location::caller();
        for node in &self.nodes {
            // Values keep their ids: every node gives as many outputs as before.
            builder.append(
                change(node.op.clone()),
                &node.inputs,
                node.name.clone(),
                here,
            )?;
        }
        for (name, value) in &self.outputs {
            builder.output_id(name.clone(), *value);
        }
        builder.seal()
    }
}
