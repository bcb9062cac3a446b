//! Passes: small rewrites of a graph, each with a typed outcome; after each the graph is built and checked anew.

mod drop_dead;
mod fold_views;
mod fuse_add_norm;
mod fuse_gate_up;
mod fuse_norm_mul;
mod fuse_router;
mod merge_equal;
mod pass_set;
mod pattern;

use std::fmt;

pub use pass_set::PassSet;

use crate::{Graph, NodeId, Patch};

/// What a pass made of a graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Patches to apply.
    Applied(Vec<Patch>),
    /// Only the marked nodes stay.
    Keep(Vec<bool>),
    /// Nothing to do.
    NoMatch,
    /// The pattern is there, but a condition fails.
    Rejected(Vec<Rejection>),
}

/// A pattern that was found but not rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The node where it was found.
    pub node: NodeId,
    /// Why it stays.
    pub why: &'static str,
}

/// A rewrite.
pub trait Pass: Send + Sync {
    /// The pass's name: what `--no-pass` takes.
    fn name(&self) -> &'static str;

    /// Looks at a graph.
    fn run(&self, graph: &Graph) -> Outcome;
}

/// What a pass did in a run of all passes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PassReport {
    /// The pass.
    pub pass: &'static str,
    /// Patches applied or nodes dropped.
    pub applied: usize,
    /// Node and reason of each pattern that was found but not rewritten.
    pub rejected: Vec<(String, &'static str)>,
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} applied", self.pass, self.applied)?;
        for (node, why) in &self.rejected {
            write!(f, "; not {node}: {why}")?;
        }
        Ok(())
    }
}
