//! Order, reachability and cycles. The only file that knows petgraph.

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed};

use super::{Graph, Node, ValueInfo};
use crate::NodeId;
use crate::ops::Alias;

/// Which node must run before which: data edges, and for storage written in place, readers before the writer and the
/// writer before later readers.
pub(super) struct Dependencies(DiGraph<(), ()>);

impl Dependencies {
    /// Of a sealed graph.
    pub(super) fn of(graph: &Graph) -> Self {
        Self::between(&graph.nodes, &graph.values)
    }

    /// Of nodes in program order.
    pub(super) fn between(nodes: &[Node], values: &[ValueInfo]) -> Self {
        let mut edges: Vec<(u32, u32)> = Vec::new();
        // For each storage: its last writer, and the readers since.
        let mut writer: Vec<Option<u32>> = vec![None; values.len()];
        let mut readers: Vec<Vec<u32>> = vec![Vec::new(); values.len()];
        for (i, node) in nodes.iter().enumerate() {
            let me = NodeId::from_index(i).0;
            for v in &node.inputs {
                let Some(info) = values.get(v.index()) else {
                    continue;
                };
                edges.push((info.producer.0, me));
                let s = info.storage.index();
                if let Some(w) = writer.get(s).copied().flatten() {
                    edges.push((w, me));
                }
                if let Some(r) = readers.get_mut(s) {
                    r.push(me);
                }
            }
            if node.op.spec().alias() == Alias::InPlace
                && let Some(info) = node.outputs.first().and_then(|v| values.get(v.index()))
            {
                let s = info.storage.index();
                if let (Some(r), Some(w)) = (readers.get_mut(s), writer.get_mut(s)) {
                    edges.extend(
                        r.drain(..)
                            .filter(|reader| *reader != me)
                            .map(|reader| (reader, me)),
                    );
                    *w = Some(me);
                }
            }
        }
        Self::from_edges(nodes.len(), edges)
    }

    fn from_edges(n_nodes: usize, edges: Vec<(u32, u32)>) -> Self {
        let mut graph = DiGraph::with_capacity(n_nodes, edges.len());
        for _ in 0..n_nodes {
            graph.add_node(());
        }
        graph.extend_with_edges(edges.into_iter().filter(|(a, b)| a != b));
        Self(graph)
    }

    /// The nodes along a cycle, if there is one.
    pub(super) fn cycle(&self) -> Option<Vec<NodeId>> {
        toposort(&self.0, None).err()?;
        let component = kosaraju_scc(&self.0).into_iter().find(|c| c.len() > 1)?;
        Some(
            component
                .into_iter()
                .map(|n| NodeId::from_index(n.index()))
                .collect(),
        )
    }

    /// For each node, whether one of `roots` needs it.
    pub(super) fn needed_by(&self, roots: impl Iterator<Item = NodeId>) -> Vec<bool> {
        let mut needed = vec![false; self.0.node_count()];
        let reversed = Reversed(&self.0);
        let mut dfs = Dfs::empty(reversed);
        for root in roots {
            dfs.move_to(NodeIndex::new(root.index()));
            while let Some(n) = dfs.next(reversed) {
                if let Some(flag) = needed.get_mut(n.index()) {
                    *flag = true;
                }
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_with_its_nodes() {
        let d = Dependencies::from_edges(4, vec![(0, 1), (1, 2), (2, 1), (2, 3)]);
        let mut cycle: Vec<usize> = d.cycle().unwrap().into_iter().map(NodeId::index).collect();
        cycle.sort_unstable();
        assert_eq!(cycle, [1, 2]);
        assert!(
            Dependencies::from_edges(3, vec![(0, 1), (1, 2), (0, 2)])
                .cycle()
                .is_none()
        );
    }

    #[test]
    fn needed_is_what_reaches_a_root() {
        let d = Dependencies::from_edges(5, vec![(0, 1), (1, 2), (3, 4)]);
        let needed = d.needed_by([NodeId::from_index(2)].into_iter());
        assert_eq!(needed, [true, true, true, false, false]);
    }
}
