//! The contract between kernels and the device: how one is chosen, what it needs, which launches it is.
//!
//! An op family has one function that looks at a [`Request`] and gives a [`Choice`] (or the reasons why not). Planning
//! takes the choice's name and working memory; the executable asks for its launches once the memory is known. So what
//! was planned can be built.

use std::borrow::Cow;

use bytemuck::Pod;
use ggrs_core::device::{Route, RouteRequest, WeightForm};
use ggrs_core::{DType, TensorDesc};
use smallvec::SmallVec;

use crate::driver::{DevicePtr, Facts, Geometry};
use crate::params::{FaultCell, View};
use crate::peers::Link;
use crate::planes::Planes;

/// One compilation of a kernel file: the file with its definitions. The set of all is closed: see [`crate::modules`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleKey {
    /// The file in `kernels/`, without its ending.
    pub file: &'static str,
    /// `-D name=value`.
    pub defines: Vec<(&'static str, Cow<'static, str>)>,
}

impl ModuleKey {
    /// A file without definitions.
    pub const fn plain(file: &'static str) -> Self {
        Self {
            file,
            defines: Vec::new(),
        }
    }

    /// The same with one more definition.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.defines.push((name, value.into()));
        self
    }
}

impl std::fmt::Display for ModuleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.file)?;
        for (name, value) in &self.defines {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// One launch, ready but for its stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) module: ModuleKey,
    /// The kernel in the module.
    pub(crate) kernel: &'static str,
    pub(crate) geometry: Geometry,
    /// The parameter block.
    pub(crate) params: Box<[u8]>,
}

impl Launch {
    /// A launch of `grid` blocks along x.
    pub(crate) fn new<P: Pod>(
        module: ModuleKey,
        kernel: &'static str,
        grid: u32,
        threads: u32,
        params: &P,
    ) -> Self {
        Self {
            module,
            kernel,
            geometry: Geometry {
                grid: [grid, 1, 1],
                threads,
                shared_bytes: 0,
                overlaps: true,
            },
            params: bytemuck::bytes_of(params).into(),
        }
    }

    /// The same with blocks along y and z.
    #[must_use]
    pub(crate) const fn deep(mut self, y: u32, z: u32) -> Self {
        self.geometry.grid[1] = y;
        self.geometry.grid[2] = z;
        self
    }

    /// The same with dynamic shared memory.
    #[must_use]
    pub(crate) const fn shared(mut self, bytes: u32) -> Self {
        self.geometry.shared_bytes = bytes;
        self
    }
}

/// A sum of floats over the members of the device's group, by the platform's library of collectives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sum {
    pub(crate) from: DevicePtr,
    pub(crate) to: DevicePtr,
    /// Elements.
    pub(crate) n: u64,
}

/// What a step puts into the stream.
pub(crate) enum Entry {
    Launch(Launch),
    Sum(Sum),
}

/// An op's operands and results, and the device it is to run on.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) operands: &'a RouteRequest<'a>,
    pub(crate) facts: &'a Facts,
    /// Its place in the group that it is in, if it reaches the other members' memory.
    pub(crate) link: Option<&'a Link>,
}

impl<'a> Request<'a> {
    /// Operand `i`; an empty one if there is none.
    pub(crate) fn input(&self, i: usize) -> Cow<'a, TensorDesc> {
        of(self.operands.inputs, i)
    }

    /// Result `i`, likewise.
    pub(crate) fn output(&self, i: usize) -> Cow<'a, TensorDesc> {
        of(self.operands.outputs, i)
    }

    /// Is operand `i` a weight that is kept in planes?
    pub(crate) fn is_packed(&self, i: usize) -> bool {
        matches!(self.operands.form(i), Some(WeightForm::Packed(_)))
    }

    /// Is the plan exact?
    pub(crate) fn is_exact(&self) -> bool {
        self.operands.precision == ggrs_core::device::Precision::Exact
    }
}

fn of<'a>(descs: &'a [&'a TensorDesc], i: usize) -> Cow<'a, TensorDesc> {
    match descs.get(i) {
        Some(desc) => Cow::Borrowed(*desc),
        None => Cow::Owned(TensorDesc::new(DType::F32, [0])),
    }
}

/// Makes what a step puts into the stream once its memory is known.
enum Build {
    Launches(Over<Vec<Launch>>),
    Sum(Over<Sum>),
}

/// What depends on a step's memory.
type Over<T> = Box<dyn Fn(&Args<'_>) -> T + Send + Sync>;

/// What a step's launches may find wrong with data: enough to say it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// An id that must be below the bound.
    IndexOutOfRange {
        /// Which operand.
        role: &'static str,
        /// The bound.
        bound: usize,
    },
    /// A NaN.
    NotANumber {
        /// Which operand.
        role: &'static str,
    },
    /// Another member of the group did not come in time.
    PeerLate,
}

/// A kernel chosen for an op.
pub(crate) struct Choice {
    name: Cow<'static, str>,
    reason: Cow<'static, str>,
    scratch_bytes: u64,
    faults: Vec<FaultKind>,
    n_counters: usize,
    build: Build,
}

impl Choice {
    /// A kernel by its name (`stem/variant`), why it, and its launches.
    pub(crate) fn new(
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        build: impl Fn(&Args<'_>) -> Vec<Launch> + Send + Sync + 'static,
    ) -> Self {
        Self::of(name.into(), reason.into(), Build::Launches(Box::new(build)))
    }

    /// A sum by the platform's library, likewise.
    pub(crate) fn sum(
        name: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
        build: impl Fn(&Args<'_>) -> Sum + Send + Sync + 'static,
    ) -> Self {
        Self::of(name.into(), reason.into(), Build::Sum(Box::new(build)))
    }

    fn of(name: Cow<'static, str>, reason: Cow<'static, str>, build: Build) -> Self {
        Self {
            name,
            reason,
            scratch_bytes: 0,
            faults: Vec::new(),
            n_counters: 0,
            build,
        }
    }

    /// The same with working memory.
    #[must_use]
    pub(crate) fn scratch(mut self, bytes: u64) -> Self {
        self.scratch_bytes = bytes;
        self
    }

    /// The same, able to report a fault; the first declared has cell 0, and so on.
    #[must_use]
    pub(crate) fn fault(mut self, kind: FaultKind) -> Self {
        self.faults.push(kind);
        self
    }

    /// The same with counters: 32 bits each, which every launch finds zero and leaves zero.
    #[must_use]
    pub(crate) fn counters(mut self, n: usize) -> Self {
        self.n_counters = n;
        self
    }

    /// How many counters it has.
    pub(crate) const fn n_counters(&self) -> usize {
        self.n_counters
    }

    /// What the plan records.
    pub(crate) fn route(&self) -> Route {
        Route {
            kernel: self.name.clone(),
            reason: self.reason.clone(),
            scratch_bytes: self.scratch_bytes,
        }
    }

    /// What its launches may find.
    pub(crate) fn faults(&self) -> &[FaultKind] {
        &self.faults
    }

    /// The launches over a step's memory; a sum by a library has none.
    pub(crate) fn build(&self, args: &Args<'_>) -> Vec<Launch> {
        match &self.build {
            Build::Launches(build) => build(args),
            Build::Sum(_) => Vec::new(),
        }
    }

    /// All that it puts into the stream over a step's memory.
    pub(crate) fn entries(&self, args: &Args<'_>) -> Vec<Entry> {
        match &self.build {
            Build::Launches(build) => build(args).into_iter().map(Entry::Launch).collect(),
            Build::Sum(build) => vec![Entry::Sum(build(args))],
        }
    }
}

/// One operand in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    pub(crate) desc: &'a TensorDesc,
    /// Where its storage starts.
    pub(crate) storage: DevicePtr,
    /// Elements of the whole weight, if it is in planes.
    pub(crate) storage_elems: usize,
    /// Is the storage in planes?
    pub(crate) is_packed: bool,
}

/// A step's memory. Operands and results are those of the request, in its order.
pub(crate) struct Args<'a> {
    pub(crate) inputs: &'a [Operand<'a>],
    pub(crate) outputs: &'a [Operand<'a>],
    pub(crate) scratch: DevicePtr,
    /// The kernel's own counters.
    pub(crate) counters: DevicePtr,
    /// One for each fault that the kernel declared.
    pub(crate) cells: &'a [FaultCell],
}

impl Args<'_> {
    /// Operand `i` as a view; of a packed weight, without its address: see [`Args::planes`].
    pub(crate) fn input(&self, i: usize) -> View {
        view(self.inputs, i)
    }

    /// Result `i` as a view. An op that writes in place has its first operand here.
    pub(crate) fn output(&self, i: usize) -> View {
        view(self.outputs, i)
    }

    /// Sizes of result `i`.
    pub(crate) fn output_sizes(&self, i: usize) -> SmallVec<[usize; 4]> {
        self.outputs
            .get(i)
            .map(|o| o.desc.shape.sizes())
            .unwrap_or_default()
    }

    /// The blocks of operand `i`, of a block format, as planes, whichever form it is kept in.
    pub(crate) fn planes(&self, i: usize) -> Planes {
        self.inputs.get(i).map_or_else(Planes::default, Planes::of)
    }

    /// Fault cell `i`.
    pub(crate) fn cell(&self, i: usize) -> FaultCell {
        self.cells.get(i).copied().unwrap_or_default()
    }
}

fn view(operands: &[Operand<'_>], i: usize) -> View {
    match operands.get(i) {
        Some(o) => View::new(o.storage, o.desc),
        None => View::new(DevicePtr(0), &TensorDesc::new(DType::F32, [0])),
    }
}
