//! The builder: append-only, every method infers and checks at once.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::topo::Dependencies;
use super::{Graph, Node, ValueInfo};
use crate::error::OperandInfo;
use crate::ops::{Alias, LeafKind, Op, Operands, Outputs};
use crate::{Dim, GraphError, NodeId, OpError, Role, Symbol, SymbolId, TensorDesc, ValueId};

/// A value of a builder: what ops take and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    pub(crate) id: ValueId,
    builder: u32,
}

impl Value {
    /// The value's id in the graph that the builder seals.
    pub fn id(self) -> ValueId {
        self.id
    }
}

/// Which write of its storage a value belongs to.
#[derive(Clone, Copy, Default)]
struct Version {
    count: u32,
    writer: Option<NodeId>,
}

/// Builds a graph op by op.
///
/// Each op method infers the result and checks dtype, shape and layout at once. Nodes are named after their op inside
/// the current scope.
pub struct GraphBuilder {
    tag: u32,
    nodes: Vec<Node>,
    values: Vec<ValueInfo>,
    /// Per value: how often its storage had been written when it was made.
    seen: Vec<u32>,
    /// Per storage: how often it has been written.
    versions: Vec<Version>,
    outputs: Vec<(Arc<str>, ValueId)>,
    symbols: Vec<Symbol>,
    names: HashSet<Arc<str>>,
    counters: HashMap<String, u32>,
    scope: String,
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GraphBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        // Tells the values of one builder from another's; never enters a graph.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            tag: NEXT.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
            values: Vec::new(),
            seen: Vec::new(),
            versions: Vec::new(),
            outputs: Vec::new(),
            symbols: Vec::new(),
            names: HashSet::new(),
            counters: HashMap::new(),
            scope: String::new(),
        }
    }

    /// A dimension whose size binding will give, from 1 to `max` (at least 2).
    pub fn symbol(&mut self, name: &'static str, max: usize) -> Result<Symbol, GraphError> {
        if max < 2 {
            return Err(GraphError::SymbolRange { name, max });
        }
        if self.symbols.iter().any(|s| s.name == name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
        let symbol = Symbol {
            id: SymbolId::from_index(self.symbols.len()),
            name,
            max,
        };
        self.symbols.push(symbol);
        Ok(symbol)
    }

    /// Names the nodes that follow `scope.op`; an empty scope names them after their op alone.
    pub fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Description of a value of this builder; `None` if it is another's.
    pub fn desc(&self, value: Value) -> Option<&TensorDesc> {
        (value.builder == self.tag)
            .then(|| self.values.get(value.id.index()).map(|v| &v.desc))
            .flatten()
    }

    /// Marks a value as an output under a name of its own. Outputs are read without gaps: a strided view is copied
    /// by a `contiguous` node of its own.
    #[track_caller]
    pub fn output(&mut self, name: &str, value: Value) -> Result<(), GraphError> {
        self.check_value("output", 0, value, Location::caller())?;
        if self.outputs.iter().any(|(n, _)| &**n == name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
        let gapless = self.desc(value).is_some_and(TensorDesc::is_contiguous);
        let value = if gapless {
            value
        } else {
            self.contiguous(value)?
        };
        self.outputs.push((name.into(), value.id));
        Ok(())
    }

    /// Adds any op. The named methods are the comfortable way; this is the one they all take.
    #[track_caller]
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>, GraphError> {
        let op = op.into();
        let location = Location::caller();
        for (i, v) in inputs.iter().enumerate() {
            self.check_value(op.spec().stem(), i, *v, location)?;
        }
        let name = self.node_name(op.spec().stem());
        let ids: SmallVec<[ValueId; 4]> = inputs.iter().map(|v| v.id).collect();
        let outs = self.append(op, &ids, name, location)?;
        Ok(outs
            .into_iter()
            .map(|id| Value {
                id,
                builder: self.tag,
            })
            .collect())
    }

    /// Adds an op under a name of its own, as when a part of one graph is built again in another.
    ///
    /// # Errors
    /// A name that is taken, and what the op refuses.
    #[track_caller]
    pub fn push_named(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>, GraphError> {
        let op = op.into();
        let location = Location::caller();
        if self.names.contains(name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
        for (i, v) in inputs.iter().enumerate() {
            self.check_value(op.spec().stem(), i, *v, location)?;
        }
        let ids: SmallVec<[ValueId; 4]> = inputs.iter().map(|v| v.id).collect();
        let outs = self.append(op, &ids, name.into(), location)?;
        let builder = self.tag;
        Ok(outs.into_iter().map(|id| Value { id, builder }).collect())
    }

    /// Says what a leaf is to its model, for placement and splitting.
    ///
    /// # Errors
    /// A value of another builder or that is no leaf, a link that does not fit its shape.
    #[track_caller]
    pub fn describe(&mut self, leaf: Value, role: Role) -> Result<(), GraphError> {
        self.check_value("describe", 0, leaf, Location::caller())?;
        let producer = self.values.get(leaf.id.index()).map(|v| v.producer.index());
        let Some(node) = producer.and_then(|p| self.nodes.get_mut(p)) else {
            return Ok(());
        };
        let Op::Leaf(op) = &mut node.op else {
            let name = node.name.to_string();
            return Err(GraphError::NotALeaf { name });
        };
        for link in &role.links {
            let found = op.desc.shape.dim(link.axis).and_then(Dim::fixed);
            let needs = link.axis_size();
            if found.is_none() || found != needs {
                return Err(GraphError::Link {
                    name: node.name.to_string(),
                    desc: op.desc.clone(),
                    group: link.group.to_string(),
                    axis: link.axis,
                    positions: link.positions,
                    needs: needs.unwrap_or(0),
                });
            }
        }
        op.role = Arc::new(role);
        Ok(())
    }

    /// Adds a leaf under a name of its own.
    #[track_caller]
    pub(super) fn leaf(&mut self, name: &str, op: Op) -> Result<Value, GraphError> {
        if self.names.contains(name) {
            return Err(GraphError::DuplicateName {
                name: name.to_owned(),
            });
        }
        let outs = self.append(op, &[], name.into(), Location::caller())?;
        self.first(&outs)
    }

    /// Infers, checks and appends; the one way a node comes to be.
    pub(super) fn append(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        name: Arc<str>,
        location: &'static Location<'static>,
    ) -> Result<SmallVec<[ValueId; 2]>, GraphError> {
        let spec = op.spec();
        let alias = spec.alias();
        let outs = self.infer(&op, inputs, &name, location)?;
        if self.values.len() + outs.len() > u32::MAX as usize {
            return Err(GraphError::TooManyValues { max: u32::MAX });
        }

        let producer = NodeId::from_index(self.nodes.len());
        let mut ids = SmallVec::new();
        for (output, desc) in outs.into_iter().enumerate() {
            let id = ValueId::from_index(self.values.len());
            let storage = match (alias, inputs.first()) {
                (Alias::View | Alias::InPlace, Some(x)) => {
                    self.values.get(x.index()).map_or(id, |v| v.storage)
                }
                _ => id,
            };
            self.versions.push(Version::default());
            if alias == Alias::InPlace
                && let Some(v) = self.versions.get_mut(storage.index())
            {
                *v = Version {
                    count: v.count + 1,
                    writer: Some(producer),
                };
            }
            self.seen
                .push(self.versions.get(storage.index()).map_or(0, |v| v.count));
            self.values.push(ValueInfo {
                desc,
                producer,
                output,
                storage,
            });
            ids.push(id);
        }
        self.names.insert(Arc::clone(&name));
        self.nodes.push(Node {
            op,
            inputs: inputs.into(),
            outputs: ids.clone(),
            name,
        });
        Ok(ids)
    }

    /// The descriptions of an op's results, or the rule its operands break.
    fn infer(
        &self,
        op: &Op,
        inputs: &[ValueId],
        name: &str,
        location: &'static Location<'static>,
    ) -> Result<Outputs, GraphError> {
        let spec = op.spec();
        let descs: SmallVec<[&TensorDesc; 4]> = inputs
            .iter()
            .filter_map(|v| self.values.get(v.index()))
            .map(|v| &v.desc)
            .collect();
        let operands = Operands::new(&descs, spec.roles());
        let outs = spec.infer(&operands).and_then(|outs| {
            if spec.alias() == Alias::InPlace {
                self.check_writable(inputs, &operands)?;
            }
            Ok(outs)
        });
        outs.map_err(|source| GraphError::Op {
            op: spec.stem(),
            name: name.to_owned(),
            operands: self.operand_infos(inputs, &operands),
            source: Box::new(source),
            location,
        })
    }

    /// Seals the graph: there must be something to compute and an order to compute it in.
    pub fn seal(self) -> Result<Graph, GraphError> {
        if let Some(path) = Dependencies::between(&self.nodes, &self.values).cycle() {
            let path = path
                .iter()
                .filter_map(|n| self.nodes.get(n.index()))
                .map(|n| n.name.to_string())
                .collect();
            return Err(GraphError::Cycle { path });
        }
        let graph = Graph {
            nodes: self.nodes,
            values: self.values,
            outputs: self.outputs,
            symbols: self.symbols,
        };
        if graph.roots().next().is_none() {
            return Err(GraphError::NoOutputs);
        }
        Ok(graph)
    }

    /// A builder that takes over another graph's symbols, for binding and rewriting.
    pub(super) fn with_symbols(symbols: &[Symbol]) -> Self {
        Self {
            symbols: symbols.to_vec(),
            ..Self::new()
        }
    }

    /// Marks an output by id, for binding and rewriting.
    pub(super) fn output_id(&mut self, name: Arc<str>, value: ValueId) {
        self.outputs.push((name, value));
    }

    /// Keeps names for nodes that are to come.
    pub(super) fn reserve_names(&mut self, names: impl Iterator<Item = Arc<str>>) {
        self.names.extend(names);
    }

    /// A name for a node of this op: the scope and the stem, numbered from the second on.
    pub(super) fn node_name(&mut self, stem: &str) -> Arc<str> {
        let plain = if self.scope.is_empty() {
            stem.to_owned()
        } else {
            format!("{}.{stem}", self.scope)
        };
        loop {
            let n = self.counters.entry(plain.clone()).or_insert(0);
            *n += 1;
            let name: Arc<str> = if *n == 1 {
                plain.as_str().into()
            } else {
                format!("{plain}_{n}").into()
            };
            if !self.names.contains(&name) {
                return name;
            }
        }
    }

    pub(super) fn first(&self, ids: &[ValueId]) -> Result<Value, GraphError> {
        match ids.first() {
            Some(id) => Ok(Value {
                id: *id,
                builder: self.tag,
            }),
            // Every op has an output; its inference would have to be broken.
            None => Err(GraphError::NoOutputs),
        }
    }

    fn check_value(
        &self,
        op: &'static str,
        operand: usize,
        value: Value,
        location: &'static Location<'static>,
    ) -> Result<(), GraphError> {
        if value.builder != self.tag {
            return Err(GraphError::ForeignValue {
                op,
                operand,
                location,
            });
        }
        self.check_fresh(op, value.id, location)
    }

    /// The value's storage must not have been written since the value was made.
    pub(super) fn check_fresh(
        &self,
        op: &'static str,
        value: ValueId,
        location: &'static Location<'static>,
    ) -> Result<(), GraphError> {
        let version = self
            .values
            .get(value.index())
            .and_then(|v| self.versions.get(v.storage.index()));
        match (version, self.seen.get(value.index())) {
            (Some(now), Some(then)) if now.count != *then => Err(GraphError::StaleValue {
                op,
                name: self.value_name(value),
                writer: now.writer.map_or_else(String::new, |w| self.name_of(w)),
                location,
            }),
            _ => Ok(()),
        }
    }

    /// The first operand must be memory that may be written, and not read by the same op.
    fn check_writable(&self, inputs: &[ValueId], operands: &Operands<'_>) -> Result<(), OpError> {
        let role = operands.role(0);
        let storage_of = |v: &ValueId| self.values.get(v.index()).map(|i| i.storage);
        let Some(storage) = inputs.first().and_then(storage_of) else {
            return Ok(());
        };
        let refuse = |what| Err(OpError::NotWritable { role, what });
        let producer = self
            .values
            .get(storage.index())
            .and_then(|v| self.nodes.get(v.producer.index()));
        if let Some(Op::Leaf(leaf)) = producer.map(|n| &n.op) {
            match leaf.kind {
                LeafKind::Input => return refuse("an input"),
                LeafKind::Weight => return refuse("a weight"),
                LeafKind::Constant(_) => return refuse("a constant"),
                LeafKind::State => {}
            }
        }
        if inputs
            .iter()
            .skip(1)
            .any(|v| storage_of(v) == Some(storage))
        {
            return refuse("also read by the same op");
        }
        let broadcast = operands.iter().next().is_some_and(|x| {
            let dims = x.desc.shape.dims().iter().zip(x.desc.layout.strides());
            dims.into_iter()
                .any(|(d, s)| *s == 0 && *d != Dim::Fixed(1))
        });
        if broadcast {
            refuse("a broadcast view")
        } else {
            Ok(())
        }
    }

    fn operand_infos(&self, inputs: &[ValueId], operands: &Operands<'_>) -> Box<[OperandInfo]> {
        let info = |(x, id): (crate::ops::Operand<'_>, &ValueId)| OperandInfo {
            role: x.role,
            name: self.value_name(*id),
            desc: x.desc.clone(),
        };
        operands.iter().zip(inputs).map(info).collect()
    }

    fn name_of(&self, node: NodeId) -> String {
        self.nodes
            .get(node.index())
            .map_or_else(String::new, |n| n.name.to_string())
    }

    fn value_name(&self, id: ValueId) -> String {
        let Some(v) = self.values.get(id.index()) else {
            return String::new();
        };
        let node = self.name_of(v.producer);
        if v.output == 0 {
            node
        } else {
            format!("{node}:{}", v.output)
        }
    }
}
