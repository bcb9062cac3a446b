//! The largest of an axis that is cut: every member finds its own candidates, only those travel, and the largest of
//! them are the answer. Equal values are found by the lowest position, as on one device: members hold the axis in
//! order, so candidates of lower positions come first.

use std::sync::Arc;

use ggrs_core::ops::{CollectiveKind, ConstData, GetRows, Leaf, LeafKind, Op, Reshape, TopK};
use ggrs_core::{
    DType, Dim, MAX_RANK, Node, PartitionError, Role, Shape, Sharding, Split, TensorDesc, Value,
};
use smallvec::SmallVec;

use super::convert::{Locals, Writer};
use super::member::Local;

/// How many of a row an op is after.
const fn wanted(op: &Op) -> Option<usize> {
    match op {
        Op::TopK(TopK { k }) => Some(*k),
        Op::Argmax(_) => Some(1),
        _ => None,
    }
}

/// Candidates per member.
fn candidates(split: &Split, k: usize) -> Vec<usize> {
    (0..split.members()).map(|m| split.len(m).min(k)).collect()
}

/// The cut of the rows whose largest an op looks for, if they are cut.
pub(super) fn cut_rows<'s>(
    op: &Op,
    ins: &[&TensorDesc],
    lies: Option<&'s Sharding>,
) -> Option<&'s Split> {
    let (_, x) = (wanted(op)?, ins.first()?);
    match lies? {
        Sharding::Split(split) if split.axis() + 1 == x.rank() => Some(split),
        _ => None,
    }
}

/// Can the candidates of a cut be compared, and are they fewer to move than the rows?
pub(super) fn is_cheaper(op: &Op, ins: &[&TensorDesc], split: &Split) -> bool {
    let (Some(k), Some(x)) = (wanted(op), ins.first()) else {
        return false;
    };
    let n: usize = candidates(split, k).iter().sum();
    let fewer = n.saturating_mul(2) <= x.shape.last().bound();
    x.rank() < MAX_RANK && split.is_plain() && fewer
}

/// The names of a lowering's nodes, the same on every member.
struct Names {
    own: Arc<str>,
    own_flat: Arc<str>,
    own_table: Arc<str>,
    own_positions: Arc<str>,
    own_ids: Arc<str>,
    all_ids: Arc<str>,
    picked: Arc<str>,
    ids: Arc<str>,
}

impl Writer<'_> {
    /// Writes a top-k or argmax of a value whose last axis is cut.
    pub(super) fn largest(&mut self, node: &Node, split: &Split) -> Result<(), PartitionError> {
        let (Some(k), Some(x)) = (wanted(&node.op), node.inputs.first()) else {
            return Ok(());
        };
        let shape = self.graph.desc(*x).shape.clone();
        let axis = split.axis();
        let mut name = |what| self.members.name(&node.name, what);
        let names = Names {
            own: name("own"),
            own_flat: name("own_flat"),
            own_table: name("own_table"),
            own_positions: name("own_positions"),
            own_ids: name("own_ids"),
            all_ids: name("all_ids"),
            picked: name("picked"),
            ids: name("ids"),
        };
        let locals = self.parts(*x, split, node)?;
        let (mut values, mut ids) = (Vec::new(), Vec::new());
        for (member, local) in locals.iter().enumerate() {
            let (v, i) = match *local {
                Local::Here(x) => {
                    let (v, i) = self.own_candidates(member, &names, x, &shape, split, k)?;
                    (Local::Here(v), Local::Here(i))
                }
                other => (other, other),
            };
            values.push(v);
            ids.push(i);
        }
        let counts = candidates(split, k);
        let cut = Split::by_sizes(axis, &counts);
        let n: usize = counts.iter().sum();
        let kind = CollectiveKind::AllGather { axis };
        let all = |dtype| TensorDesc::new(dtype, shape.clone().with(axis, n));
        let why = format!(
            "{} \"{}\" compares candidates",
            node.op.spec().stem(),
            node.name
        );
        let values = self.exchange(
            &node.name,
            &all(DType::F32),
            kind,
            Some(&cut),
            &values,
            why.clone(),
        )?;
        let ids = self.exchange(&node.name, &all(DType::I32), kind, Some(&cut), &ids, why)?;
        self.best(node, &names, &all(DType::I32).shape, k, &values, &ids)
    }

    /// A member's k largest and where they lie in the whole axis.
    fn own_candidates(
        &mut self,
        member: usize,
        names: &Names,
        x: Value,
        shape: &Shape,
        split: &Split,
        k: usize,
    ) -> Result<(Value, Value), PartitionError> {
        let len = split.len(member);
        let k = len.min(k);
        let found = self
            .members
            .push(member, &names.own, &TopK { k }.into(), &[x])?;
        let (Some(values), Some(at)) = (found.first(), found.get(1)) else {
            return Err(nothing(member, &names.own));
        };
        let start = split.part(member).first().map_or(0, |r| r.start);
        if start == 0 {
            return Ok((*values, *at));
        }
        // Positions of the whole axis, looked up by the member's own.
        let positions = (start..start + len).map(|p| i32::try_from(p).unwrap_or(i32::MAX));
        let bytes: Vec<u8> = positions.flat_map(i32::to_le_bytes).collect();
        let table = Leaf {
            kind: LeafKind::Constant(ConstData(bytes.into())),
            desc: TensorDesc::new(DType::I32, [len, 1]),
            role: Arc::new(Role::default()),
        };
        let table = self
            .members
            .push_one(member, &names.own_table, &table.into(), &[])?;
        let own = shape.clone().with(split.axis(), k);
        let flat = Shape::from([own.elems().unwrap_or(0)]);
        let at = self.reshape(member, &names.own_flat, flat, *at)?;
        let look_up = GetRows::default().into();
        let ids = self
            .members
            .push_one(member, &names.own_positions, &look_up, &[table, at])?;
        let ids = self.reshape(member, &names.own_ids, own, ids)?;
        Ok((*values, ids))
    }

    /// The k largest of all candidates, on every member.
    fn best(
        &mut self,
        node: &Node,
        names: &Names,
        all: &Shape,
        k: usize,
        values: &[Local],
        ids: &[Local],
    ) -> Result<(), PartitionError> {
        let table: SmallVec<[Dim; 5]> = all.dims().iter().copied().chain([Dim::Fixed(1)]).collect();
        let mut results: SmallVec<[Vec<Local>; 2]> =
            node.outputs.iter().map(|_| Vec::new()).collect();
        for (member, (values, ids)) in values.iter().zip(ids).enumerate() {
            let (Local::Here(values), Local::Here(ids)) = (*values, *ids) else {
                return Err(nothing(member, &node.name));
            };
            let found = self
                .members
                .push(member, &node.name, &TopK { k }.into(), &[values])?;
            let (Some(best), Some(at)) = (found.first(), found.get(1)) else {
                return Err(nothing(member, &node.name));
            };
            let table = Shape::new(table.iter().copied());
            let table = self.reshape(member, &names.all_ids, table, ids)?;
            let pick = GetRows::default().into();
            let picked = self
                .members
                .push_one(member, &names.picked, &pick, &[table, *at])?;
            let whole = node
                .outputs
                .last()
                .map(|v| self.graph.desc(*v).shape.clone());
            let ids = self.reshape(member, &names.ids, whole.unwrap_or_default(), picked)?;
            // The ids are the last result; a top-k gives the values before them.
            let given = [*best, ids];
            let skip = given.len().saturating_sub(results.len());
            for (result, value) in results.iter_mut().zip(given.into_iter().skip(skip)) {
                result.push(Local::Here(value));
            }
        }
        for (value, locals) in node.outputs.iter().zip(results) {
            let locals: Locals = locals.into();
            self.hold(*value, Sharding::Replicated, locals);
        }
        Ok(())
    }

    fn reshape(
        &mut self,
        member: usize,
        name: &str,
        shape: Shape,
        x: Value,
    ) -> Result<Value, PartitionError> {
        self.members
            .push_one(member, name, &Reshape { shape }.into(), &[x])
    }
}

fn nothing(member: usize, node: &str) -> PartitionError {
    PartitionError::Rule {
        op: "top_k",
        node: node.to_owned(),
        member,
        what: "it has no candidates",
    }
}
