//! From one layout to another: slices of whole values, gathers of parts, sums of partial ones. Each conversion of a
//! value is made once and shared by its readers.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::ops::{Cast, Collective, CollectiveKind, Concat, Op, Share, Slice};
use ggrs_core::{
    DType, Dim, Graph, Node, PartitionError, Sharding, Split, TensorDesc, Value, ValueId,
};
use smallvec::SmallVec;

use super::member::{Local, Members, local_shape, stem};
use super::result::CollectiveNote;

/// A value as the members have it, in one layout.
pub(super) type Locals = Arc<[Local]>;

/// The members' graphs and what they hold of the whole graph's values.
pub(super) struct Writer<'a> {
    pub(super) graph: &'a Graph,
    pub(super) members: Members,
    /// For each value its layouts; the first is how it lies.
    held: Vec<SmallVec<[(Sharding, Locals); 1]>>,
    pub(super) notes: Vec<CollectiveNote>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(graph: &'a Graph, members: usize) -> Self {
        Self {
            graph,
            members: Members::new(graph, members),
            held: vec![SmallVec::new(); graph.values().len()],
            notes: Vec::new(),
        }
    }

    /// Notes what the members have of a value.
    pub(super) fn hold(&mut self, value: ValueId, sharding: Sharding, locals: Locals) {
        if let Some(held) = self.held.get_mut(value.index()) {
            held.push((sharding, locals));
        }
    }

    fn held_as(&self, value: ValueId, sharding: &Sharding) -> Option<Locals> {
        let held = self.held.get(value.index())?;
        let found = held.iter().find(|(s, _)| s == sharding)?;
        Some(Arc::clone(&found.1))
    }

    /// A value in the layout that `reader` asks for.
    pub(super) fn bring(
        &mut self,
        value: ValueId,
        to: &Sharding,
        reader: &Node,
    ) -> Result<Locals, PartitionError> {
        if let Some(locals) = self.held_as(value, to) {
            return Ok(locals);
        }
        let first = self
            .held
            .get(value.index())
            .and_then(|h| h.first())
            .cloned();
        let (from, locals) = first.ok_or_else(|| PartitionError::Rule {
            op: reader.op.spec().stem(),
            node: reader.name.to_string(),
            member: 0,
            what: "it reads a value that does not exist yet",
        })?;
        let name = self.graph.value_name(value);
        let desc = self.graph.desc(value);
        let why = || {
            format!(
                "{} \"{}\" needs it {}",
                reader.op.spec().stem(),
                reader.name,
                brief(to)
            )
        };
        let locals = match (&from, to) {
            (Sharding::Replicated, Sharding::Split(split)) => {
                self.slice(&name, desc, None, split, &locals)?
            }
            (Sharding::Split(held), Sharding::Split(split)) if covers(held, split) => {
                self.slice(&name, desc, Some(held), split, &locals)?
            }
            (Sharding::Split(split), Sharding::Replicated) => {
                self.gather(&name, desc, split, &locals, &why(), reader)?
            }
            (Sharding::Partial, Sharding::Replicated) => {
                self.reduce(&name, desc, None, &locals, why())?
            }
            (Sharding::Partial, Sharding::Split(split)) => {
                self.reduce(&name, desc, Some(split), &locals, why())?
            }
            (Sharding::Replicated, Sharding::Partial) => {
                // The first member gives the value, the others nothing.
                let given = locals.iter().enumerate();
                given
                    .map(|(m, l)| if m == 0 { *l } else { Local::Zero })
                    .collect()
            }
            _ => {
                self.bring(value, &Sharding::Replicated, reader)?;
                let whole = self.held_as(value, &Sharding::Replicated).unwrap_or(locals);
                match to {
                    Sharding::Split(split) => self.slice(&name, desc, None, split, &whole)?,
                    _ => {
                        let given = whole.iter().enumerate();
                        given
                            .map(|(m, l)| if m == 0 { *l } else { Local::Zero })
                            .collect()
                    }
                }
            }
        };
        self.hold(value, to.clone(), Arc::clone(&locals));
        Ok(locals)
    }

    /// The tensor of a local value; zeros are made now.
    pub(super) fn tensor(
        &mut self,
        member: usize,
        local: Local,
        desc: &TensorDesc,
        sharding: &Sharding,
    ) -> Result<Option<Value>, PartitionError> {
        match local {
            Local::Here(value) => Ok(Some(value)),
            Local::Absent => Ok(None),
            Local::Zero => {
                let shape = local_shape(&desc.shape, sharding, member);
                self.members.zeros(member, &shape).map(Some)
            }
        }
    }

    /// Each member's ranges of what it has: all of it, or what `held` says.
    fn slice(
        &mut self,
        name: &str,
        desc: &TensorDesc,
        held: Option<&Split>,
        split: &Split,
        locals: &[Local],
    ) -> Result<Locals, PartitionError> {
        let axis = split.axis();
        let size = desc.shape.dim(axis).map_or(0, Dim::bound);
        let whole = 0..size;
        let mut out = Vec::with_capacity(locals.len());
        let (mut slice_name, mut join_name) = (None, None);
        for (member, local) in locals.iter().enumerate() {
            let (have, want) = (
                held.map_or(std::slice::from_ref(&whole), |h| h.part(member)),
                split.part(member),
            );
            let Local::Here(value) = *local else {
                out.push(if want.is_empty() {
                    Local::Absent
                } else {
                    *local
                });
                continue;
            };
            if want.is_empty() || want == have {
                out.push(if want.is_empty() {
                    Local::Absent
                } else {
                    *local
                });
                continue;
            }
            let mut pieces = SmallVec::<[Value; 2]>::new();
            for (i, range) in want.iter().enumerate() {
                let op = Slice {
                    axis,
                    start: local_start(have, range).unwrap_or(size),
                    len: range.len(),
                };
                let name = if i == 0 {
                    Arc::clone(slice_name.get_or_insert_with(|| self.members.name(name, "slice")))
                } else {
                    self.members.name(name, "slice")
                };
                pieces.push(self.members.push_one(member, &name, &op.into(), &[value])?);
            }
            let piece = match pieces.as_slice() {
                [one] => *one,
                many => {
                    let join = join_name.get_or_insert_with(|| self.members.name(name, "join"));
                    let join = Arc::clone(join);
                    self.members
                        .push_one(member, &join, &Concat { axis }.into(), many)?
                }
            };
            out.push(Local::Here(piece));
        }
        Ok(out.into())
    }

    /// The whole of a value of which every member has a part.
    fn gather(
        &mut self,
        name: &str,
        desc: &TensorDesc,
        split: &Split,
        locals: &[Local],
        why: &str,
        reader: &Node,
    ) -> Result<Locals, PartitionError> {
        // Halves travel as F32, which holds them exactly.
        let travels = match desc.dtype {
            DType::F32 | DType::I32 => desc.dtype,
            DType::F16 | DType::BF16 => DType::F32,
            dtype => {
                return Err(PartitionError::Gather {
                    op: reader.op.spec().stem(),
                    node: reader.name.to_string(),
                    value: name.to_owned(),
                    dtype,
                    lies: Sharding::Split(split.clone()).to_string(),
                });
            }
        };
        let casts = travels != desc.dtype;
        let cast_name = casts.then(|| self.members.name(name, "widen"));
        let mut parts = Vec::with_capacity(locals.len());
        for (member, local) in locals.iter().enumerate() {
            parts.push(match (&cast_name, *local) {
                (Some(cast), Local::Here(value)) => {
                    let op = Cast { dtype: travels }.into();
                    Local::Here(self.members.push_one(member, cast, &op, &[value])?)
                }
                (_, local) => local,
            });
        }
        let whole = TensorDesc::new(travels, desc.shape.clone());
        let axis = split.axis();
        let kind = CollectiveKind::AllGather { axis };
        let gathered = self.exchange(name, &whole, kind, Some(split), &parts, why.to_owned())?;
        if !casts {
            return Ok(gathered);
        }
        let cast = self.members.name(name, "narrow");
        let mut out = Vec::with_capacity(gathered.len());
        for (member, local) in gathered.iter().enumerate() {
            out.push(match *local {
                Local::Here(value) => {
                    let op = Cast { dtype: desc.dtype }.into();
                    Local::Here(self.members.push_one(member, &cast, &op, &[value])?)
                }
                other => other,
            });
        }
        Ok(out.into())
    }

    /// The sum of the members' tensors: whole, or each member's part of it.
    pub(super) fn reduce(
        &mut self,
        name: &str,
        desc: &TensorDesc,
        split: Option<&Split>,
        locals: &[Local],
        why: String,
    ) -> Result<Locals, PartitionError> {
        let kind = split.map_or(CollectiveKind::AllReduce, |s| {
            CollectiveKind::ReduceScatter { axis: s.axis() }
        });
        let summed = self.exchange(name, desc, kind, split, locals, why)?;
        let Some(split) = split else {
            return Ok(summed);
        };
        let kept = summed.iter().enumerate();
        let kept = kept.map(|(m, l)| if split.is_empty(m) { Local::Absent } else { *l });
        Ok(kept.collect())
    }

    /// A collective on every member. Members without a part give a tensor without elements, or zeros to a sum.
    pub(super) fn exchange(
        &mut self,
        name: &str,
        whole: &TensorDesc,
        kind: CollectiveKind,
        split: Option<&Split>,
        locals: &[Local],
        why: String,
    ) -> Result<Locals, PartitionError> {
        let node = self.members.name(name, stem(kind));
        let gives = match (kind, split) {
            (CollectiveKind::AllGather { .. }, Some(split)) => Sharding::Split(split.clone()),
            _ => Sharding::Partial,
        };
        let n = self.members.len();
        let uneven = split.filter(|s| !(s.is_plain() && (1..n).all(|m| s.len(m) == s.len(0))));
        let mut out = Vec::with_capacity(n);
        for (member, local) in locals.iter().enumerate() {
            let value = match self.tensor(member, *local, whole, &gives)? {
                Some(value) => self.members.gapless(member, name, value)?,
                None => {
                    let shape = local_shape(&whole.shape, &gives, member);
                    self.members.empty(member, whole.dtype, &shape)?
                }
            };
            let op = Op::Collective(Collective {
                kind,
                members: n,
                share: uneven.map(|split| Share {
                    member,
                    split: split.clone(),
                }),
            });
            out.push(Local::Here(self.members.push_one(
                member,
                &node,
                &op,
                &[value],
            )?));
        }
        self.notes.push(CollectiveNote {
            kind,
            bytes: whole
                .bytes()
                .and_then(|b| u64::try_from(b).ok())
                .unwrap_or(u64::MAX),
            node: node.to_string(),
            why,
        });
        Ok(out.into())
    }
}

/// A layout in a word.
fn brief(sharding: &Sharding) -> &'static str {
    match sharding {
        Sharding::Replicated => "whole",
        Sharding::Split(_) => "cut another way",
        Sharding::Partial => "as partial sums",
    }
}

/// Where a range begins in a member's tensor, if it holds all of it in one piece.
fn local_start(have: &[Range<usize>], range: &Range<usize>) -> Option<usize> {
    let mut at = 0;
    for held in have {
        if held.start <= range.start && range.end <= held.end {
            return Some(at + range.start - held.start);
        }
        at += held.len();
    }
    None
}

/// Does every member hold what it needs?
fn covers(held: &Split, needed: &Split) -> bool {
    held.axis() == needed.axis()
        && (0..held.members()).all(|m| {
            let (have, want) = (held.part(m), needed.part(m));
            want.iter().all(|range| local_start(have, range).is_some())
        })
}
