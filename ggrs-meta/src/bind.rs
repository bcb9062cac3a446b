//! Binding memory to a plan over members: the checks of a plan's weights and states, each member's share of them, and
//! the members' memory of values that are seen outside. It must not run anything.

use std::collections::HashMap;
use std::sync::Arc;

use ggrs_core::device::{Bindings, Buffer, BufferSlice, BufferUse, Executable};
use ggrs_core::ops::Op;
use ggrs_core::plan::{Plan, Shards};
use ggrs_core::{BindError, DeviceError, Sharding, TensorDesc, ValueId};

use crate::buffer::{Identity, MetaBuffer};

/// A weight or state that is bound to a plan.
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) value: ValueId,
    pub(crate) buffer: Arc<dyn Buffer>,
    /// The buffer's generation then.
    pub(crate) generation: u64,
}

/// A weight or state as a plan asks for it.
struct Wanted<'a> {
    kind: &'static str,
    name: &'a str,
    value: ValueId,
    desc: &'a TensorDesc,
    sharding: Option<&'a Sharding>,
}

/// The buffers of a plan's weights and states, checked, and each member's own.
pub(crate) fn bind(
    owner: &Arc<Identity>,
    plan: &Plan,
    bindings: &Bindings,
) -> Result<(Vec<Bound>, Vec<Bindings>), BindError> {
    fn lies<S>(shards: &Option<Shards<S>>) -> Option<&Sharding> {
        shards.as_ref().map(|s| &s.sharding)
    }
    let weights = plan.weights.iter().map(|w| Wanted {
        kind: "weight",
        name: &w.name,
        value: w.value,
        desc: &w.desc,
        sharding: lies(&w.shards),
    });
    let states = plan.states.iter().map(|s| Wanted {
        kind: "state",
        name: &s.name,
        value: s.value,
        desc: &s.desc,
        sharding: lies(&s.shards),
    });
    let mut members = vec![Bindings::new(); plan.members.len()];
    let mut bound: Vec<Bound> = Vec::with_capacity(plan.weights.len() + plan.states.len());
    let mut owners: HashMap<*const u8, &str> = HashMap::new();
    for wanted in weights.chain(states) {
        let name = wanted.name.to_owned();
        let Some(buffer) = bindings.get(wanted.name) else {
            return Err(BindError::Missing {
                kind: wanted.kind,
                name,
                desc: wanted.desc.clone(),
            });
        };
        let mine = MetaBuffer::of(owner, &**buffer)?;
        check(&wanted, mine)?;
        if wanted.kind == "state"
            && let Some(first) = owners.insert(Arc::as_ptr(buffer).cast(), wanted.name)
        {
            return Err(BindError::Shared {
                first: first.to_owned(),
                second: name,
            });
        }
        for (member, own) in members.iter_mut().enumerate() {
            if let Some(part) = mine.part(member) {
                own.insert(name.clone(), Arc::clone(&part.buffer));
            }
        }
        bound.push(Bound {
            name,
            value: wanted.value,
            generation: buffer.generation().now(),
            buffer: Arc::clone(buffer),
        });
    }
    Ok((bound, members))
}

/// The buffer must be as long as the tensor and lie over the members as the plan has it.
fn check(wanted: &Wanted<'_>, buffer: &MetaBuffer) -> Result<(), BindError> {
    let (kind, name) = (wanted.kind, wanted.name.to_owned());
    let whole = Sharding::Replicated;
    let sharding = wanted.sharding.unwrap_or(&whole);
    if buffer.sharding != *sharding {
        return Err(BindError::Sharding {
            kind,
            name,
            found: buffer.sharding.clone(),
            wanted: sharding.clone(),
        });
    }
    let (expected, got) = (wanted.desc.bytes().unwrap_or(0) as u64, buffer.bytes());
    if got < expected {
        return Err(BindError::Size {
            kind,
            name,
            desc: wanted.desc.clone(),
            expected,
            got,
        });
    }
    Ok(())
}

/// Where values lie that are read and written from outside: inputs, outputs, handovers, weights and states.
pub(crate) fn values(
    owner: &Arc<Identity>,
    plan: &Plan,
    members: &[Box<dyn Executable>],
    bound: &[Bound],
) -> Result<HashMap<ValueId, BufferSlice>, DeviceError> {
    let mut values: HashMap<ValueId, BufferSlice> = bound
        .iter()
        .map(|b| (b.value, BufferSlice::whole(Arc::clone(&b.buffer))))
        .collect();
    for (value, end) in ends(plan) {
        let parts = members.iter().map(|member| {
            let own = end.find(member.plan())?;
            member.value(own)
        });
        let parts: Vec<Option<BufferSlice>> = parts.collect();
        let desc = plan.graph.desc(value);
        let sharding = match plan.shardings.get(value.index()) {
            // Partial sums are added up before they leave the members.
            None | Some(Sharding::Partial) => &Sharding::Replicated,
            Some(sharding) => sharding,
        };
        let name = plan.graph.value_name(value);
        let lies = (desc, sharding);
        let buffer = MetaBuffer::new(owner, &name, lies, parts, BufferUse::Arena)?;
        values
            .entry(value)
            .or_insert_with(|| BufferSlice::whole(Arc::new(buffer)));
    }
    Ok(values)
}

/// How a value that is seen outside is found again in a member's graph.
enum End<'a> {
    Input(&'a str),
    Output(&'a str),
    Send(u32),
    Receive(u32),
}

/// The values of a plan that are seen outside.
fn ends(plan: &Plan) -> Vec<(ValueId, End<'_>)> {
    let inputs = plan.inputs.iter().map(|i| (i.value, End::Input(&i.name)));
    let outputs = plan.outputs.iter().map(|o| (o.value, End::Output(&o.name)));
    let handovers = plan.graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Send(op) => Some((*node.inputs.first()?, End::Send(op.tag))),
        Op::Receive(op) => Some((*node.outputs.first()?, End::Receive(op.tag))),
        _ => None,
    });
    inputs.chain(outputs).chain(handovers).collect()
}

impl End<'_> {
    fn find(&self, member: &Plan) -> Option<ValueId> {
        let handover = |wanted: fn(&Op) -> Option<u32>, tag: u32| {
            let nodes = member.graph.nodes().iter();
            nodes.into_iter().find(|n| wanted(&n.op) == Some(tag))
        };
        match *self {
            Self::Input(name) => member
                .inputs
                .iter()
                .find(|i| i.name == name)
                .map(|i| i.value),
            Self::Output(name) => member
                .outputs
                .iter()
                .find(|o| o.name == name)
                .map(|o| o.value),
            Self::Send(tag) => {
                let send = |op: &Op| match op {
                    Op::Send(op) => Some(op.tag),
                    _ => None,
                };
                handover(send, tag)?.inputs.first().copied()
            }
            Self::Receive(tag) => {
                let receive = |op: &Op| match op {
                    Op::Receive(op) => Some(op.tag),
                    _ => None,
                };
                handover(receive, tag)?.outputs.first().copied()
            }
        }
    }
}
