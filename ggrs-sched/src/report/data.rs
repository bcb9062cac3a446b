//! The report's data: names and numbers only, no device and no graph, so that it can be written as JSON and drawn
//! elsewhere. It must not know how it is filled or shown.

use serde::Serialize;

/// The format's version; it grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// A plan to read. Devices are named by their position in [`PlanReport::devices`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// [`VERSION`].
    pub version: u32,
    /// The model.
    pub model: ModelReport,
    /// `exact` or `fast`.
    pub precision: String,
    /// What a session remembers.
    pub context: ContextReport,
    /// How the model is spread over the devices, in words.
    pub split: String,
    /// The devices; one made of several is followed by its members.
    pub devices: Vec<DeviceReport>,
    /// What lies where, from the input to the output.
    pub layers: Vec<LayerReport>,
    /// Every weight.
    pub weights: Vec<WeightReport>,
    /// The steps that were planned: one decoded token, a batch of a prefill.
    pub steps: Vec<StepReport>,
    /// Decisions with their reasons.
    pub notes: Vec<NoteReport>,
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// What it calls itself.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// Its file.
    pub file: String,
}

/// What a session remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContextReport {
    /// Tokens that the context holds.
    pub n_ctx: usize,
    /// What keys and values are kept as.
    pub kv_dtype: String,
}

/// A device, or a member of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// As the user names it.
    pub name: String,
    /// What the hardware calls itself.
    pub hardware: String,
    /// What it can do.
    pub features: String,
    /// For a device made of several: its members. Such a device has no memory of its own.
    pub members: Vec<usize>,
    /// Bytes of memory there are; `None` if the device has none of its own.
    pub total_bytes: Option<u64>,
    /// Bytes that could be had when this was planned.
    pub free_bytes: Option<u64>,
    /// Other devices in this list that live in the same memory.
    pub shares_memory_with: Vec<usize>,
    /// What the plan takes.
    pub bytes: DeviceBytesReport,
    /// Bytes left when the plan has taken its part, together with the devices that share the memory; negative if
    /// they are missing.
    pub margin_bytes: Option<i64>,
}

/// What a plan takes of a device's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceBytesReport {
    /// Weights in the form the device keeps them.
    pub weights: u64,
    /// Keys, values and recurrent states.
    pub states: u64,
    /// Working memory of the planned steps, all of them together.
    pub compute: u64,
    /// Constants.
    pub constants: u64,
}

impl DeviceBytesReport {
    /// All of it.
    pub const fn total(&self) -> u64 {
        let sum = self.weights.saturating_add(self.states);
        sum.saturating_add(self.compute)
            .saturating_add(self.constants)
    }

    /// Adds another's bytes.
    pub(super) const fn add(&mut self, other: &Self) {
        self.weights = self.weights.saturating_add(other.weights);
        self.states = self.states.saturating_add(other.states);
        self.compute = self.compute.saturating_add(other.compute);
        self.constants = self.constants.saturating_add(other.constants);
    }
}

/// A layer, or what is before or after the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// `input`, the layer's number, `output`.
    pub name: String,
    /// What it holds, by role.
    pub cells: Vec<CellReport>,
}

/// All weights and states of one role in one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CellReport {
    /// `attention`, `kv`, `experts` and so on.
    pub role: String,
    /// How they lie.
    pub arrangement: Arrangement,
    /// On which devices, with how much of it.
    pub parts: Vec<PartReport>,
    /// How many weights and states.
    pub n_tensors: usize,
    /// The kernels that read them.
    pub kernels: Vec<String>,
}

/// How tensors lie over devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangement {
    /// On one device.
    Whole,
    /// Cut: each device has its part.
    Split,
    /// Each device has all of it.
    Replicated,
    /// Some one way, some another.
    Mixed,
}

/// A device's part of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// The device; never one made of several.
    pub device: usize,
    /// Bytes.
    pub bytes: u64,
}

/// A weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightReport {
    /// Its name in the model's file.
    pub name: String,
    /// Its type in the file.
    pub dtype: String,
    /// Its shape, outermost axis first.
    pub shape: Vec<usize>,
    /// Where it is kept; may be a device made of several.
    pub device: usize,
    /// How the device keeps it.
    pub form: String,
    /// How it lies over the members, in words; empty on a single device.
    pub split: String,
    /// Bytes in that form, on all members together.
    pub bytes: u64,
}

/// One planned step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// `decode of 1 token`.
    pub name: String,
    /// Tokens in it.
    pub n_tokens: usize,
    /// Sums over what follows.
    pub totals: StepTotals,
    /// What moves between devices, in the order in which it does.
    pub exchanges: Vec<Exchange>,
    /// What runs.
    pub ops: Vec<OpReport>,
}

/// Sums over a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTotals {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that the ops read and write.
    pub bytes: f64,
    /// Copies from device to device, and their bytes.
    pub n_copies: usize,
    /// Bytes of the copies.
    pub copy_bytes: u64,
    /// Collectives.
    pub n_collectives: usize,
    /// Bytes that the collectives move between members, all together.
    pub wire_bytes: u64,
}

impl StepReport {
    /// A step with its sums.
    pub fn new(
        name: String,
        n_tokens: usize,
        exchanges: Vec<Exchange>,
        ops: Vec<OpReport>,
    ) -> Self {
        let mut totals = StepTotals::default();
        for exchange in &exchanges {
            match exchange {
                Exchange::Copy(copy) => {
                    totals.n_copies += 1;
                    totals.copy_bytes = totals.copy_bytes.saturating_add(copy.bytes);
                }
                Exchange::Collective(collective) => {
                    totals.n_collectives += 1;
                    totals.wire_bytes = totals.wire_bytes.saturating_add(collective.wire_bytes);
                }
            }
        }
        for op in &ops {
            totals.flops += op.flops;
            totals.bytes += op.bytes;
        }
        Self {
            name,
            n_tokens,
            totals,
            exchanges,
            ops,
        }
    }

    /// The copies.
    pub fn copies(&self) -> impl Iterator<Item = &CopyReport> {
        self.exchanges.iter().filter_map(|e| match e {
            Exchange::Copy(copy) => Some(copy),
            Exchange::Collective(_) => None,
        })
    }

    /// The collectives.
    pub fn collectives(&self) -> impl Iterator<Item = &CollectiveReport> {
        self.exchanges.iter().filter_map(|e| match e {
            Exchange::Collective(collective) => Some(collective),
            Exchange::Copy(_) => None,
        })
    }
}

/// Something that moves between devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "exchange", rename_all = "snake_case")]
pub enum Exchange {
    /// From one device to another.
    Copy(CopyReport),
    /// Between the members of a device.
    Collective(CollectiveReport),
}

impl Exchange {
    /// The layer it belongs to, as [`LayerReport::name`] has it.
    pub fn layer(&self) -> &str {
        match self {
            Self::Copy(copy) => &copy.layer,
            Self::Collective(collective) => &collective.layer,
        }
    }
}

/// A value copied from one device to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// The layer for which it is copied.
    pub layer: String,
    /// The value.
    pub value: String,
    /// Where it comes from; `None` for the model's file.
    pub from: Option<usize>,
    /// Where it goes.
    pub to: usize,
    /// Its type.
    pub dtype: String,
    /// Its shape, outermost axis first.
    pub shape: Vec<usize>,
    /// Bytes.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

/// An exchange between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CollectiveReport {
    /// The layer after whose ops it runs.
    pub layer: String,
    /// The node.
    pub node: String,
    /// `all_reduce`, `all_gather`, `reduce_scatter`.
    pub kind: String,
    /// The members that take part.
    pub members: Vec<usize>,
    /// The value's type.
    pub dtype: String,
    /// Shape of the largest tensor that a member gives or gets.
    pub shape: Vec<usize>,
    /// Bytes of that tensor.
    pub bytes: u64,
    /// Type of what is sent.
    pub wire_dtype: String,
    /// Bytes sent between members, all of them together, as a ring sends them.
    pub wire_bytes: u64,
    /// What carries it.
    pub transport: String,
    /// Why it is there.
    pub why: String,
}

/// An op on a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpReport {
    /// Position in its device's program.
    pub index: usize,
    /// The layer it belongs to.
    pub layer: String,
    /// The node.
    pub node: String,
    /// What it does.
    pub op: String,
    /// Where it runs; never a device made of several.
    pub device: usize,
    /// With which kernel.
    pub kernel: String,
    /// Why with this one, and, of several devices, why here.
    pub reason: String,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoteReport {
    /// What kind of decision.
    pub kind: NoteKind,
    /// What it is about: a pin in the user's words, a node.
    pub subject: String,
    /// What was decided, and why.
    pub text: String,
}

/// Kinds of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// The user put something somewhere.
    Pin,
    /// Where layers went by shares.
    Spread,
    /// Something runs elsewhere than the rules said.
    Fallback,
    /// The graph was rewritten.
    Pass,
    /// Something that may go wrong.
    Warning,
}

impl NoteKind {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Spread => "spread",
            Self::Fallback => "fallback",
            Self::Pass => "pass",
            Self::Warning => "warning",
        }
    }
}

impl PlanReport {
    /// A device's name; empty for one that is not in the list.
    pub fn device_name(&self, device: usize) -> &str {
        self.devices.get(device).map_or("", |d| &d.name)
    }

    /// The devices that are not made of others, in the list's order, with their positions.
    pub fn single_devices(&self) -> impl Iterator<Item = (usize, &DeviceReport)> {
        let all = self.devices.iter().enumerate();
        all.filter(|(_, d)| d.members.is_empty())
    }

    /// The device itself, or its members.
    pub fn members_of(&self, device: usize) -> Vec<usize> {
        match self.devices.get(device) {
            Some(d) if !d.members.is_empty() => d.members.clone(),
            _ => vec![device],
        }
    }

    /// The report for programs.
    pub fn to_json(&self) -> serde_json::Value {
        // Plain structs of strings and numbers always serialise.
        serde_json::to_value(self).unwrap_or_default()
    }
}
