//! Looking at a plan's steps: which op a step is, what it reads, and who else reads that.

use std::collections::HashMap;
use std::ops::Range;

use ggrs_core::device::{FusionRequest, RouteRequest, WeightForm};
use ggrs_core::ops::Op;
use ggrs_core::{DType, TensorDesc, ValueId};

use crate::driver::Facts;
use crate::kernel::{Choice, Request};
use crate::routes;

/// The steps of a plan, with who reads what.
pub(crate) struct Walk<'a> {
    request: &'a FusionRequest<'a>,
    pub(crate) facts: &'a Facts,
    /// For each storage, the steps that read it, through whatever view.
    readers: HashMap<ValueId, Vec<usize>>,
    /// Storages that are outputs of the graph.
    outputs: Vec<ValueId>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(request: &'a FusionRequest<'a>, facts: &'a Facts) -> Self {
        let graph = request.graph;
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (step, id) in request.nodes.iter().enumerate() {
            for v in &graph.node(*id).inputs {
                readers
                    .entry(graph.value(*v).storage)
                    .or_default()
                    .push(step);
            }
        }
        Self {
            request,
            facts,
            readers,
            outputs: graph
                .outputs()
                .map(|(_, v)| graph.value(v).storage)
                .collect(),
        }
    }

    /// The op of a step.
    pub(crate) fn op(&self, step: usize) -> Option<&'a Op> {
        let id = self.request.nodes.get(step)?;
        Some(&self.request.graph.node(*id).op)
    }

    /// Operand `i` of a step.
    pub(crate) fn input(&self, step: usize, i: usize) -> Option<ValueId> {
        let id = self.request.nodes.get(step)?;
        self.request.graph.node(*id).inputs.get(i).copied()
    }

    /// Result `i` of a step.
    pub(crate) fn output(&self, step: usize, i: usize) -> Option<ValueId> {
        let id = self.request.nodes.get(step)?;
        self.request.graph.node(*id).outputs.get(i).copied()
    }

    /// What a value is.
    pub(crate) fn desc(&self, value: ValueId) -> &'a TensorDesc {
        self.request.graph.desc(value)
    }

    /// Operand `i` of a step: what it is.
    pub(crate) fn input_desc(&self, step: usize, i: usize) -> Option<&'a TensorDesc> {
        self.input(step, i).map(|v| self.desc(v))
    }

    /// Result `i` of a step: what it is.
    pub(crate) fn output_desc(&self, step: usize, i: usize) -> Option<&'a TensorDesc> {
        self.output(step, i).map(|v| self.desc(v))
    }

    /// Is operand `i` of a step the whole of `value`, in the same order, under whatever shape? Both lie without gaps.
    pub(crate) fn reads(&self, step: usize, i: usize, value: ValueId) -> bool {
        let graph = self.request.graph;
        self.input(step, i).is_some_and(|v| {
            let (a, b) = (self.desc(v), self.desc(value));
            graph.value(v).storage == graph.value(value).storage
                && a.is_contiguous()
                && b.is_contiguous()
                && a.shape.elems() == b.shape.elems()
                && a.layout.offset() == b.layout.offset()
        })
    }

    /// Does nobody but steps of `inside` read a value's storage, and is it no output of the graph?
    pub(crate) fn is_inner(&self, value: ValueId, inside: &Range<usize>) -> bool {
        let storage = self.request.graph.value(value).storage;
        let readers = self.readers.get(&storage).map_or(&[][..], Vec::as_slice);
        !self.outputs.contains(&storage) && readers.iter().all(|step| inside.contains(step))
    }

    /// Is operand `i` of a step F32 without gaps?
    pub(crate) fn is_plain_f32(&self, step: usize, i: usize) -> bool {
        self.input_desc(step, i)
            .is_some_and(|d| d.dtype == DType::F32 && d.is_contiguous())
    }

    /// What a step asks of this device.
    pub(crate) fn with_request<T>(
        &self,
        step: usize,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> Option<T> {
        let graph = self.request.graph;
        let node = graph.node(*self.request.nodes.get(step)?);
        let (inputs, outputs) = graph.io(node);
        let forms: Vec<_> = node.inputs.iter().map(|v| self.request.form(*v)).collect();
        let operands = RouteRequest {
            op: &node.op,
            inputs: &inputs,
            forms: &forms,
            outputs: &outputs,
            precision: self.request.precision,
        };
        Some(then(&Request {
            operands: &operands,
            facts: self.facts,
            link: None,
        }))
    }

    /// The kernel that runs a step on its own, if it needs no counters.
    pub(crate) fn choice(&self, step: usize) -> Option<Choice> {
        self.with_request(step, routes::choose)?
            .ok()
            .filter(|choice| choice.n_counters() == 0)
    }

    /// The dtype of operand `i` of a step if it is a weight in planes.
    pub(crate) fn packed(&self, step: usize, i: usize) -> Option<DType> {
        let value = self.input(step, i)?;
        match self.request.form(value)? {
            WeightForm::Packed(_) => Some(self.desc(value).dtype),
            WeightForm::Native => None,
        }
    }

    /// The sizes of operand `i` of a step.
    pub(crate) fn sizes(&self, step: usize, i: usize) -> Vec<usize> {
        self.input_desc(step, i)
            .map_or_else(Vec::new, |d| d.shape.sizes().to_vec())
    }
}
