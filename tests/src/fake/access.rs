//! Which bytes each step of a plan reads and writes, and the watch over them during a run.

use std::ops::Range;

use ggrs_core::ops::Alias;
use ggrs_core::plan::{Place, Plan, Region};
use ggrs_core::{TensorDesc, ValueId};

use super::audit::Finding;
use super::written::{Writer, Written};

/// Bytes of one operand or result.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) region: Region,
    pub(super) range: Range<u64>,
    /// Index of the storage's value.
    pub(super) storage: usize,
}

/// What a step does to memory.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) node: String,
    pub(super) is_exchange: bool,
    /// With the operands' names.
    reads: Vec<(&'static str, Touched)>,
    pub(super) writes: Vec<Touched>,
    /// Working memory in the arena: what it holds afterwards is nobody's.
    pub(super) scratch: Range<u64>,
}

/// The bytes between the first and the last element of a value; `None` if it has none.
fn span(desc: &TensorDesc, place: Place) -> Option<Range<u64>> {
    if desc.shape.elems()? == 0 {
        return None;
    }
    let first = desc.elem_bytes(desc.layout.offset())? as u64;
    let end = desc.span_bytes()? as u64;
    Some(place.offset + first..place.offset + end)
}

fn touched(plan: &Plan, value: ValueId) -> Option<Touched> {
    let place = plan.place(value);
    let range = match place.region {
        // In a form of the device's own, elements lie elsewhere.
        Region::Weight(_) => place.offset..place.offset + place.bytes,
        Region::Arena(_) | Region::State(_) | Region::Constant(_) => {
            span(plan.graph.desc(value), place)?
        }
    };
    let storage = plan.graph.value(value).storage.index();
    Some(Touched {
        region: place.region,
        range,
        storage,
    })
}

/// The accesses of a plan's steps.
pub(super) fn accesses(plan: &Plan) -> Vec<Access> {
    let of_step = plan.steps.iter().map(|step| {
        let node = plan.graph.node(step.node);
        let roles = node.op.spec().roles();
        let role = |i: usize| roles.get(i).or(roles.last()).copied().unwrap_or("operand");
        let reads = node.inputs.iter().enumerate();
        let is_fresh = node.op.spec().alias() == Alias::Fresh;
        let writes = node.outputs.iter().filter(|_| is_fresh);
        Access {
            node: node.name.to_string(),
            is_exchange: step.is_exchange,
            reads: reads
                .filter_map(|(i, v)| Some((role(i), touched(plan, *v)?)))
                .collect(),
            writes: writes.filter_map(|v| touched(plan, *v)).collect(),
            scratch: step.scratch_offset..step.scratch_offset + step.route.scratch_bytes,
        }
    });
    of_step.collect()
}

impl Access {
    /// The first operand whose bytes are not what its own writer left there. `written` gives the record of a region.
    pub(super) fn poisoned<'a, W: std::ops::Deref<Target = Written> + 'a>(
        &self,
        plan: &Plan,
        device: &str,
        step: usize,
        written: impl Fn(Region) -> Option<W>,
    ) -> Option<Finding> {
        self.reads.iter().find_map(|(operand, touched)| {
            let record = written(touched.region)?;
            let is_own = |writer| match (writer, touched.region) {
                (Writer::Storage(other), Region::Arena(_)) => other == touched.storage,
                (Writer::Scratch, _) => false,
                _ => true,
            };
            let missing = record.missing(touched.range.clone(), is_own);
            let (range, writer) = missing.into_iter().next()?;
            let overwritten_by = match writer {
                Some(Writer::Storage(other)) => plan
                    .graph
                    .values()
                    .get(other)
                    .map(|value| plan.graph.node(value.producer).name.to_string()),
                Some(Writer::Scratch) => Some("the working memory of a kernel".to_owned()),
                Some(Writer::Host) | None => None,
            };
            Some(Finding::PoisonRead {
                device: device.to_owned(),
                step,
                node: self.node.clone(),
                operand,
                range,
                overwritten_by,
            })
        })
    }
}

impl Touched {
    /// Who writes here: a step for its storage in an arena, which others share over time.
    pub(super) const fn writer(&self) -> Writer {
        match self.region {
            Region::Arena(_) => Writer::Storage(self.storage),
            Region::Weight(_) | Region::State(_) | Region::Constant(_) => Writer::Host,
        }
    }
}
