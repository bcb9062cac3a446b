//! The members' graphs while they are written: names that all share, operands copied where an op wants no gaps, zeros
//! and empty tensors for members that have nothing to give.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ggrs_core::ops::{Alias, Broadcast, Contiguous, Leaf, LeafKind, Op};
use ggrs_core::ops::{CollectiveKind, ConstData};
use ggrs_core::{
    DType, Graph, GraphBuilder, GraphError, OpError, PartitionError, Role, Shape, Sharding,
    TensorDesc, Value,
};
use smallvec::SmallVec;

/// What a member has of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Local {
    /// This tensor.
    Here(Value),
    /// Zeros, which are made only if something reads them.
    Zero,
    /// Nothing: its part is empty.
    Absent,
}

/// The members' builders; members are counted from 0 to [`Members::len`].
pub(super) struct Members {
    builders: Vec<GraphBuilder>,
    names: HashSet<Arc<str>>,
    zeros: HashMap<(usize, Shape), Value>,
    empties: HashMap<(usize, DType, Shape), Value>,
    /// Does the member have a node that is seen outside?
    busy: Vec<bool>,
}

impl Members {
    /// Empty builders; the whole graph's names are kept for its own nodes.
    pub(super) fn new(graph: &Graph, members: usize) -> Self {
        Self {
            builders: (0..members).map(|_| GraphBuilder::new()).collect(),
            names: graph.nodes().iter().map(|n| Arc::clone(&n.name)).collect(),
            zeros: HashMap::new(),
            empties: HashMap::new(),
            busy: vec![false; members],
        }
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.builders.len()
    }

    /// A name that no node has, made of what it is for.
    pub(super) fn name(&mut self, of: &str, what: &str) -> Arc<str> {
        let plain = format!("{of}.{what}");
        let mut name: Arc<str> = plain.as_str().into();
        let mut n = 1;
        while self.names.contains(&name) {
            n += 1;
            name = format!("{plain}_{n}").into();
        }
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The description of a member's value.
    pub(super) fn desc(&self, member: usize, value: Value) -> Option<&TensorDesc> {
        self.builders[member].desc(value)
    }

    /// Adds a node to a member's graph. Operands with gaps are copied if the op wants none.
    pub(super) fn push(
        &mut self,
        member: usize,
        name: &str,
        op: &Op,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>, PartitionError> {
        if op.is_exchange() {
            self.mark_busy(member);
        }
        let outputs = match self.builders[member].push_named(name, op.clone(), inputs) {
            Err(GraphError::Op { source, .. }) if is_about_gaps(&source) => {
                let written = usize::from(op.spec().alias() == Alias::InPlace);
                let mut gapless: SmallVec<[Value; 4]> = inputs.into();
                for value in gapless.iter_mut().skip(written) {
                    *value = self.gapless(member, name, *value)?;
                }
                self.builders[member].push_named(name, op.clone(), &gapless)
            }
            other => other,
        };
        outputs.map_err(|source| refused(member, name, source))
    }

    /// Notes that the member has a node that is seen outside.
    pub(super) fn mark_busy(&mut self, member: usize) {
        self.busy[member] = true;
    }

    /// [`Self::push`] of an op with one result.
    pub(super) fn push_one(
        &mut self,
        member: usize,
        name: &str,
        op: &Op,
        inputs: &[Value],
    ) -> Result<Value, PartitionError> {
        let outputs = self.push(member, name, op, inputs)?;
        let first = outputs.first().copied();
        first.ok_or_else(|| refused(member, name, GraphError::NoOutputs))
    }

    /// A value without gaps.
    pub(super) fn gapless(
        &mut self,
        member: usize,
        name: &str,
        value: Value,
    ) -> Result<Value, PartitionError> {
        if self
            .desc(member, value)
            .is_some_and(TensorDesc::is_contiguous)
        {
            return Ok(value);
        }
        let name = self.name(name, "contiguous");
        self.push_one(member, &name, &Contiguous.into(), &[value])
    }

    /// Zeros of a shape, F32.
    pub(super) fn zeros(&mut self, member: usize, shape: &Shape) -> Result<Value, PartitionError> {
        let key = (member, shape.clone());
        if let Some(value) = self.zeros.get(&key) {
            return Ok(*value);
        }
        let one = (member, Shape::default());
        let zero = match self.zeros.get(&one) {
            Some(value) => *value,
            None => {
                let name = self.name("zero", "constant");
                let bytes = 0f32.to_le_bytes();
                let leaf = constant(DType::F32, Shape::default(), bytes.as_slice().into());
                let value = self.push_one(member, &name, &leaf, &[])?;
                self.zeros.insert(one, value);
                value
            }
        };
        if shape.rank() == 0 {
            return Ok(zero);
        }
        let name = self.name("zero", "broadcast");
        let op = Broadcast {
            shape: shape.clone(),
        };
        let value = self.push_one(member, &name, &op.into(), &[zero])?;
        self.zeros.insert(key, value);
        Ok(value)
    }

    /// A tensor without elements.
    pub(super) fn empty(
        &mut self,
        member: usize,
        dtype: DType,
        shape: &Shape,
    ) -> Result<Value, PartitionError> {
        let key = (member, dtype, shape.clone());
        if let Some(value) = self.empties.get(&key) {
            return Ok(*value);
        }
        let name = self.name("nothing", "constant");
        let leaf = constant(dtype, shape.clone(), Arc::from([]));
        let value = self.push_one(member, &name, &leaf, &[])?;
        self.empties.insert(key, value);
        Ok(value)
    }

    /// Marks an output.
    pub(super) fn output(
        &mut self,
        member: usize,
        name: &str,
        value: Value,
    ) -> Result<(), PartitionError> {
        self.mark_busy(member);
        self.builders[member]
            .output(name, value)
            .map_err(|source| refused(member, name, source))
    }

    /// The graphs. A member with nothing to do gets an output without elements under the name `idle`.
    pub(super) fn seal(mut self, idle: &str) -> Result<Vec<Graph>, PartitionError> {
        for member in 0..self.len() {
            if !self.busy[member] {
                let nothing = self.empty(member, DType::F32, &Shape::from([0usize]))?;
                self.output(member, idle, nothing)?;
            }
        }
        let sealed = self.builders.into_iter().enumerate();
        sealed
            .map(|(member, b)| b.seal().map_err(|source| refused(member, idle, source)))
            .collect()
    }
}

fn refused(member: usize, node: &str, source: GraphError) -> PartitionError {
    PartitionError::Member {
        member,
        node: node.to_owned(),
        source: Box::new(source),
    }
}

fn constant(dtype: DType, shape: Shape, bytes: Arc<[u8]>) -> Op {
    Leaf {
        kind: LeafKind::Constant(ConstData(bytes)),
        desc: TensorDesc::new(dtype, shape),
        role: Arc::new(Role::default()),
    }
    .into()
}

/// Would a copy without gaps help?
const fn is_about_gaps(error: &OpError) -> bool {
    matches!(
        error,
        OpError::NotContiguous { .. } | OpError::LastAxisStrided { .. } | OpError::NeedsCopy { .. }
    )
}

/// The shape of a member's share.
pub(super) fn local_shape(whole: &Shape, sharding: &Sharding, member: usize) -> Shape {
    match sharding {
        Sharding::Split(split) => whole.clone().with(split.axis(), split.len(member)),
        _ => whole.clone(),
    }
}

/// Has a member nothing of a value?
pub(super) fn is_absent(sharding: &Sharding, member: usize) -> bool {
    matches!(sharding, Sharding::Split(split) if split.is_empty(member))
}

/// A collective's name for its nodes.
pub(super) const fn stem(kind: CollectiveKind) -> &'static str {
    match kind {
        CollectiveKind::AllReduce => "all_reduce",
        CollectiveKind::AllGather { .. } => "all_gather",
        CollectiveKind::ReduceScatter { .. } => "reduce_scatter",
    }
}
