//! Cutting: one graph per device out of an assigned graph, with a send and a receive for every value that crosses.

use std::collections::HashMap;

use ggrs_core::ops::{Contiguous, Op, Receive, Send};
use ggrs_core::{Graph, GraphBuilder, GraphError, NodeId, TensorDesc, Value, ValueId};
use smallvec::SmallVec;

use crate::SchedError;
use crate::assign::{Assignment, Why};
use crate::placement::Home;

/// The graphs of the devices that run something, and what crosses between them, in program order.
pub(crate) struct CutGraph {
    /// Device index and its graph.
    pub(crate) parts: Vec<(usize, Graph)>,
    /// What crosses.
    pub(crate) crossings: Vec<Crossing>,
}

/// A value that crosses.
pub(crate) struct Crossing {
    /// The tag of its send and receive.
    pub(crate) tag: u32,
    /// Device index; `None` for a weight that is read from the model's file.
    pub(crate) from: Option<usize>,
    /// Device index.
    pub(crate) to: usize,
    /// The value's name in the whole graph.
    pub(crate) name: String,
    /// What crosses, without gaps.
    pub(crate) desc: TensorDesc,
    /// The node that wants it there.
    pub(crate) reader: NodeId,
}

struct Part {
    builder: GraphBuilder,
    values: HashMap<ValueId, Value>,
    /// Does anything run here?
    runs: bool,
}

struct Cutter<'a> {
    graph: &'a Graph,
    assignment: &'a Assignment,
    homes: HashMap<ValueId, &'a Home>,
    names: &'a [String],
    parts: Vec<Part>,
    crossings: Vec<Crossing>,
}

/// Cuts the graph.
pub(crate) fn cut(
    graph: &Graph,
    assignment: &Assignment,
    homes: &[Home],
    names: &[String],
) -> Result<CutGraph, SchedError> {
    let part = |_| Part {
        builder: GraphBuilder::new(),
        values: HashMap::new(),
        runs: false,
    };
    let mut cutter = Cutter {
        graph,
        assignment,
        homes: homes.iter().map(|h| (h.value, h)).collect(),
        names,
        parts: (0..names.len()).map(part).collect(),
        crossings: Vec::new(),
    };
    for (id, node) in graph.iter() {
        let device = assignment.device.get(id.index()).copied().flatten();
        if let (Some(device), false) = (device, matches!(node.op, Op::Leaf(_))) {
            cutter.node(id, device)?;
        }
    }
    for (name, value) in graph.outputs() {
        let producer = graph.value(value).producer;
        let device = assignment.device.get(producer.index()).copied().flatten();
        let device = device.unwrap_or(0);
        let local = cutter.value_on(value, device, producer)?;
        let part = cutter.part(device)?;
        part.runs = true;
        let marked = part.builder.output(name, local);
        marked.map_err(|source| cutter.error(device, source))?;
    }
    let names = cutter.names;
    let running = cutter.parts.into_iter().enumerate().filter(|(_, p)| p.runs);
    let parts = running.map(|(device, part)| {
        let graph = part.builder.seal().map_err(|source| SchedError::Graph {
            device: names.get(device).cloned().unwrap_or_default(),
            source,
        })?;
        Ok((device, graph))
    });
    Ok(CutGraph {
        parts: parts.collect::<Result<_, SchedError>>()?,
        crossings: cutter.crossings,
    })
}

impl Cutter<'_> {
    fn error(&self, device: usize, source: GraphError) -> SchedError {
        SchedError::Graph {
            device: self.names.get(device).cloned().unwrap_or_default(),
            source,
        }
    }

    fn part(&mut self, device: usize) -> Result<&mut Part, SchedError> {
        let n = self.parts.len();
        self.parts.get_mut(device).ok_or(SchedError::NoSuchDevice {
            origin: "the assignment".to_owned(),
            device,
            devices: (0..n).map(|i| i.to_string()).collect(),
        })
    }

    /// Adds an op to a device's graph under the name of a node of the whole graph, or a name made from it.
    fn push(
        &mut self,
        device: usize,
        name: &str,
        op: Op,
        inputs: &[Value],
    ) -> Result<SmallVec<[Value; 2]>, SchedError> {
        let part = self.part(device)?;
        let pushed = part.builder.push_named(name, op, inputs);
        pushed.map_err(|source| self.error(device, source))
    }

    /// Builds a node again on its device.
    fn node(&mut self, id: NodeId, device: usize) -> Result<(), SchedError> {
        let node = self.graph.node(id);
        let mut inputs: SmallVec<[Value; 4]> = SmallVec::new();
        for v in &node.inputs {
            inputs.push(self.value_on(*v, device, id)?);
        }
        let outs = self.push(device, &node.name, node.op.clone(), &inputs)?;
        let part = self.part(device)?;
        part.runs = true;
        part.values.extend(node.outputs.iter().copied().zip(outs));
        Ok(())
    }

    /// A value on a device: made there, declared there, or copied there.
    fn value_on(&mut self, v: ValueId, device: usize, reader: NodeId) -> Result<Value, SchedError> {
        if let Some(value) = self.part(device)?.values.get(&v) {
            return Ok(*value);
        }
        let producer = self.graph.value(v).producer;
        let node = self.graph.node(producer);
        let made_on = self
            .assignment
            .device
            .get(producer.index())
            .copied()
            .flatten();
        let value = match (&node.op, made_on) {
            (Op::Leaf(_), _) if self.is_streamed(v, device, reader) => {
                self.cross(v, None, device, reader)?
            }
            (Op::Leaf(_), _) => {
                let outs = self.push(device, &node.name, node.op.clone(), &[])?;
                return self.keep(device, v, outs.first().copied());
            }
            // A view of a leaf.
            (op, None) => {
                let mut inputs: SmallVec<[Value; 4]> = SmallVec::new();
                for input in &node.inputs {
                    inputs.push(self.value_on(*input, device, reader)?);
                }
                let outs = self.push(device, &node.name, op.clone(), &inputs)?;
                return self.keep(device, v, outs.first().copied());
            }
            (_, Some(from)) => self.cross(v, Some(from), device, reader)?,
        };
        self.keep(device, v, Some(value))
    }

    fn keep(
        &mut self,
        device: usize,
        v: ValueId,
        value: Option<Value>,
    ) -> Result<Value, SchedError> {
        match value {
            Some(value) => {
                self.part(device)?.values.insert(v, value);
                Ok(value)
            }
            None => Err(self.error(device, GraphError::NoOutputs)),
        }
    }

    /// Is this a weight that the reader wants copied from where it lives?
    fn is_streamed(&self, v: ValueId, device: usize, reader: NodeId) -> bool {
        let streams = matches!(
            self.assignment.why.get(reader.index()),
            Some(Why::Streams(_))
        );
        streams && self.homes.get(&v).is_some_and(|h| h.device != device)
    }

    /// Sends a value from one device to another; a weight comes from the file.
    fn cross(
        &mut self,
        v: ValueId,
        from: Option<usize>,
        to: usize,
        reader: NodeId,
    ) -> Result<Value, SchedError> {
        let desc = self.graph.desc(v).clone();
        let name = self.graph.value_name(v);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "fewer than a graph's u32 values cross"
        )]
        let tag = self.crossings.len() as u32;
        if let Some(from) = from {
            let mut sent = self.value_on(v, from, reader)?;
            if !desc.is_contiguous() {
                // A strided view is packed where it is: only what is read crosses.
                let packed = format!("{name}.packed_{tag}");
                let outs = self.push(from, &packed, Contiguous.into(), &[sent])?;
                sent = outs.first().copied().unwrap_or(sent);
            }
            self.push(
                from,
                &format!("{name}.send_{tag}"),
                Send { tag }.into(),
                &[sent],
            )?;
        }
        let desc = TensorDesc::new(desc.dtype, desc.shape);
        let receive = Receive {
            tag,
            desc: desc.clone(),
        };
        let outs = self.push(to, &format!("{name}.receive_{tag}"), receive.into(), &[])?;
        self.crossings.push(Crossing {
            tag,
            from,
            to,
            name,
            desc,
            reader,
        });
        let first = outs.first().copied();
        first.ok_or_else(|| self.error(to, GraphError::NoOutputs))
    }
}
