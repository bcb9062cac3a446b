//! The passes that run, in their order, until none changes the graph.

use std::fmt;
use std::sync::Arc;

use super::drop_dead::DropDead;
use super::fold_views::FoldViews;
use super::fuse_add_norm::FuseAddNorm;
use super::fuse_gate_up::FuseGateUp;
use super::fuse_norm_mul::FuseNormMul;
use super::fuse_router::FuseRouter;
use super::merge_equal::MergeEqual;
use super::{Outcome, Pass, PassReport};
use crate::{Graph, PlanError};

/// Rounds after which passes that still change the graph are a bug.
const MAX_ROUNDS: usize = 64;

/// The passes that run.
#[derive(Clone)]
pub struct PassSet {
    passes: Vec<Arc<dyn Pass>>,
}

impl Default for PassSet {
    /// All passes.
    fn default() -> Self {
        Self {
            passes: vec![
                Arc::new(FoldViews),
                Arc::new(MergeEqual),
                Arc::new(FuseNormMul),
                Arc::new(FuseAddNorm),
                Arc::new(FuseGateUp),
                Arc::new(FuseRouter),
                Arc::new(DropDead),
            ],
        }
    }
}

impl fmt::Debug for PassSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl PassSet {
    /// No pass: the graph runs as built.
    pub fn none() -> Self {
        Self { passes: Vec::new() }
    }

    /// Without the pass of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.passes.retain(|p| p.name() != name);
        self
    }

    /// Only the pass of this name.
    #[must_use]
    pub fn only(mut self, name: &str) -> Self {
        self.passes.retain(|p| p.name() == name);
        self
    }

    /// The passes' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.passes.iter().map(|p| p.name())
    }

    /// Runs the passes in turn until a whole round changes nothing.
    pub fn run(&self, graph: &Graph) -> Result<(Graph, Vec<PassReport>), PlanError> {
        let mut graph = graph.clone();
        let mut reports: Vec<PassReport> = self
            .names()
            .map(|pass| PassReport {
                pass,
                applied: 0,
                rejected: Vec::new(),
            })
            .collect();
        let mut last = None;
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for (pass, report) in self.passes.iter().zip(&mut reports) {
                report.rejected.clear();
                let name = pass.name();
                let rebuilt = match pass.run(&graph) {
                    Outcome::NoMatch => continue,
                    Outcome::Rejected(all) => {
                        let named = all
                            .iter()
                            .map(|r| (graph.node(r.node).name.to_string(), r.why));
                        report.rejected.extend(named);
                        continue;
                    }
                    Outcome::Applied(patches) => {
                        report.applied += patches.len();
                        graph.patched(name, &patches)
                    }
                    Outcome::Keep(keep) => {
                        report.applied += keep.iter().filter(|k| !**k).count();
                        graph.filtered(name, &keep)
                    }
                };
                graph = rebuilt.map_err(|source| PlanError::Pass { pass: name, source })?;
                changed = true;
                last = Some(name);
            }
            if !changed {
                return Ok((graph, reports));
            }
        }
        Err(PlanError::NoFixpoint {
            rounds: MAX_ROUNDS,
            pass: last.unwrap_or("none"),
        })
    }
}
