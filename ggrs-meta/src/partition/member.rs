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

/// The members' builders.
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
        self.builders.get(member)?.desc(value)
    }

    /// Adds a node to a member's graph. Operands with gaps are copied if the op wants none.
    pub(super) fn push(
        &mut self,
        member: usize,
        name: &str,
        op: &Op,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>, PartitionError> {
        let refuse = |source: GraphError| PartitionError::Member {
            member,
            node: name.to_owned(),
            source: Box::new(source),
        };
        let Some(builder) = self.builders.get_mut(member) else {
            return Ok(SmallVec::new());
        };
        let alias = op.spec().alias();
        match builder.push_named(name, op.clone(), inputs) {
            Err(GraphError::Op { source, .. }) if is_about_gaps(&source) => {}
            other => {
                let outputs = other.map_err(refuse)?;
                self.note(member, op);
                return Ok(outputs);
            }
        }
        let mut gapless: SmallVec<[Value; 4]> = SmallVec::new();
        for (i, value) in inputs.iter().enumerate() {
            let written = alias == Alias::InPlace && i == 0;
            let has_gaps = self
                .desc(member, *value)
                .is_some_and(|d| !d.is_contiguous());
            gapless.push(if has_gaps && !written {
                let copy = self.name(name, "contiguous");
                self.push_one(member, &copy, &Contiguous.into(), &[*value])?
            } else {
                *value
            });
        }
        let builder = self.builders.get_mut(member);
        let outputs = builder.map(|b| b.push_named(name, op.clone(), &gapless));
        let outputs = outputs
            .unwrap_or_else(|| Ok(SmallVec::new()))
            .map_err(refuse)?;
        self.note(member, op);
        Ok(outputs)
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
        outputs.first().copied().ok_or(PartitionError::Member {
            member,
            node: name.to_owned(),
            source: Box::new(GraphError::NoOutputs),
        })
    }

    fn note(&mut self, member: usize, op: &Op) {
        let seen_outside = op.is_exchange() || op.spec().alias() == Alias::InPlace;
        if seen_outside && let Some(busy) = self.busy.get_mut(member) {
            *busy = true;
        }
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
        let Some(builder) = self.builders.get_mut(member) else {
            return Ok(());
        };
        builder
            .output(name, value)
            .map_err(|source| PartitionError::Member {
                member,
                node: name.to_owned(),
                source: Box::new(source),
            })?;
        if let Some(busy) = self.busy.get_mut(member) {
            *busy = true;
        }
        Ok(())
    }

    /// The graphs. A member with nothing to do gets an output without elements under the name `idle`.
    pub(super) fn seal(mut self, idle: &str) -> Result<Vec<Graph>, PartitionError> {
        for member in 0..self.len() {
            if !self.busy.get(member).copied().unwrap_or(false) {
                let nothing = self.empty(member, DType::F32, &Shape::from([0usize]))?;
                self.output(member, idle, nothing)?;
            }
        }
        let sealed = self.builders.into_iter().enumerate().map(|(member, b)| {
            b.seal().map_err(|source| PartitionError::Member {
                member,
                node: idle.to_owned(),
                source: Box::new(source),
            })
        });
        sealed.collect()
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
