//! Problems: one case of an op as a small graph with its data and the oracle's answers. They must not know any device.

mod operand;
mod scene;
mod tolerances;
mod view;

pub use operand::{Operand, operand};
pub use scene::{
    Answer, Answers, BadData, Leaf, LeafData, Place, Posed, Role, Scene, Tensor, pose,
};
pub use tolerances::Tolerance;
pub use view::View;

use std::fmt::Debug;

use ggrs_core::GraphError;

/// One case of an op. Its `Debug` text is its name and decides its random data.
pub trait Problem: Debug {
    /// The stem of the op that it is about; the graph must have a node with it.
    fn stem(&self) -> &'static str;

    /// Builds the graph, its data and what the oracle answers.
    ///
    /// # Errors
    /// The graph refuses an op: the problem is wrong.
    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError>;
}
