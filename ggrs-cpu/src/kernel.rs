//! The contract between kernels and the device: how one is chosen, how it is built, how it runs.
//!
//! An op family has one function that looks at a [`Request`] and gives a [`Choice`] (or the reasons why not). Planning
//! takes the choice's name and working memory; the executable calls its `build`. So what was planned can be built.

use std::borrow::Cow;

use ggrs_core::device::{Route, RouteRequest, WeightForm};
use ggrs_core::error::{Fault, Refusal, RefusalReason};
use ggrs_core::{TensorDesc, Unsupported};

use crate::isa::Isa;
use crate::part::Part;
use crate::view::{In, Out, Scratch, ScratchLayout, Slot, Table};

/// A step ready to run.
pub(crate) trait Kernel: Send + Sync {
    /// How many phases a run has. A phase begins when the one before is done.
    fn phases(&self) -> usize {
        1
    }

    /// Is a phase too small to be shared? Then one thread runs it, as if it were the only one.
    fn is_serial(&self, phase: usize) -> bool {
        let _ = phase;
        false
    }

    /// One thread's part of a phase; called until all its units are given out, so a thread may get it more than once. A
    /// fault of any thread ends the run after the phase.
    fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault>;
}

/// What a kernel may ask about the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// The instruction-set level.
    pub(crate) isa: Isa,
    /// Threads that run a phase.
    pub(crate) n_threads: usize,
}

/// An op's operands and results, and the machine it is to run on.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) operands: &'a RouteRequest<'a>,
    pub(crate) machine: Machine,
}

impl<'a> Request<'a> {
    /// Operand `i`; a scalar that stands for nothing if there is none.
    pub(crate) fn input(&self, i: usize) -> Cow<'a, TensorDesc> {
        match self.operands.inputs.get(i) {
            Some(desc) => Cow::Borrowed(*desc),
            None => Cow::Owned(TensorDesc::new(ggrs_core::DType::F32, [0])),
        }
    }

    /// Result `i`, likewise.
    pub(crate) fn output(&self, i: usize) -> Cow<'a, TensorDesc> {
        match self.operands.outputs.get(i) {
            Some(desc) => Cow::Borrowed(*desc),
            None => Cow::Owned(TensorDesc::new(ggrs_core::DType::F32, [0])),
        }
    }

    /// Is operand `i` a weight that is kept packed?
    pub(crate) fn is_packed(&self, i: usize) -> bool {
        matches!(self.operands.form(i), Some(WeightForm::Packed(_)))
    }

    /// Threads that run a phase.
    pub(crate) const fn n_threads(&self) -> usize {
        self.machine.n_threads
    }

    /// The instruction-set level.
    pub(crate) const fn isa(&self) -> Isa {
        self.machine.isa
    }
}

/// Makes the kernel of a step once its memory is known.
type Build = Box<dyn Fn(&Args<'_>) -> Box<dyn Kernel> + Send + Sync>;

/// A kernel chosen for an op.
pub(crate) struct Choice {
    name: Cow<'static, str>,
    reason: Cow<'static, str>,
    scratch: ScratchLayout,
    build: Build,
}

impl Choice {
    /// A kernel by its name (`family/variant`), why it, its working memory, and how it is made.
    pub(crate) fn new<K: Kernel + 'static>(
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        scratch: ScratchLayout,
        build: impl Fn(&Args<'_>) -> K + Send + Sync + 'static,
    ) -> Self {
        let build: Build = Box::new(move |args| Box::new(build(args)));
        Self {
            name: name.into(),
            reason: reason.into(),
            scratch,
            build,
        }
    }

    /// What the plan records.
    pub(crate) fn route(&self) -> Route {
        Route {
            kernel: self.name.clone(),
            reason: self.reason.clone(),
            scratch_bytes: self.scratch.bytes() as u64,
        }
    }

    /// The kernel over a step's memory.
    pub(crate) fn build(&self, args: &Args<'_>) -> Box<dyn Kernel> {
        (self.build)(args)
    }
}

/// The refusal of an op's only kernel.
pub(crate) fn refuse(kernel: &'static str, reason: RefusalReason) -> Unsupported {
    Unsupported {
        candidates: vec![Refusal { kernel, reason }],
    }
}

/// A step's memory. Operands and results are those of the request, in its order.
pub(crate) struct Args<'a> {
    pub(crate) inputs: &'a [In],
    pub(crate) outputs: &'a [Out],
    pub(crate) scratch: Scratch,
}

impl Args<'_> {
    /// Operand `i`; an empty one if there is none.
    pub(crate) fn input(&self, i: usize) -> In {
        self.inputs.get(i).copied().unwrap_or_default()
    }

    /// Result `i`; an empty one if there is none. An op that writes in place has its first operand here.
    pub(crate) fn output(&self, i: usize) -> Out {
        self.outputs.get(i).copied().unwrap_or_default()
    }

    /// A table of the working memory.
    pub(crate) fn table<T: bytemuck::Pod>(&self, slot: Slot<T>) -> Table<T> {
        self.scratch.table(slot)
    }
}
