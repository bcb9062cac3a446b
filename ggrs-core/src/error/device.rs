//! What a device may say: a refusal of an op with every candidate kernel, or a failure of memory, driver or use.

use std::fmt;

use crate::{DType, ShardError};

/// Why one kernel refuses an op.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A dtype it cannot read or write.
    DType {
        /// Which operand.
        role: &'static str,
        /// Its dtype.
        dtype: DType,
    },
    /// Strides it cannot walk.
    Strided {
        /// Which operand.
        role: &'static str,
    },
    /// A size above its limit.
    Size {
        /// The size in words: "head width".
        what: &'static str,
        /// Its value.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A size that is not the multiple it needs.
    Multiple {
        /// The size in words.
        what: &'static str,
        /// Its value.
        got: usize,
        /// What it must be a multiple of.
        of: usize,
    },
    /// A size for which it was not made.
    OneOf {
        /// The size in words: "head width".
        what: &'static str,
        /// Its value.
        got: usize,
        /// The sizes it was made for.
        of: &'static [usize],
    },
    /// Nothing to work on.
    Empty {
        /// What there is none of: "query heads".
        what: &'static str,
    },
    /// Weights kept in another form than it reads.
    WeightForm {
        /// The form it needs.
        needs: &'static str,
    },
    /// The plan's precision rules it out.
    Precision {
        /// The precision asked for.
        asked: &'static str,
    },
    /// The hardware lacks something.
    Feature {
        /// What is lacking: "AVX-512 VNNI", "peer access".
        needs: &'static str,
    },
    /// A collective over more members than one device.
    Members {
        /// How many.
        n: usize,
    },
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DType { role, dtype } => write!(f, "does not take {role} as {dtype}"),
            Self::Strided { role } => write!(f, "needs {role} contiguous"),
            Self::Size { what, got, max } => write!(f, "{what} is {got}, at most {max}"),
            Self::Multiple { what, got, of } => {
                write!(f, "{what} is {got}, not a multiple of {of}")
            }
            Self::OneOf { what, got, of } => {
                write!(f, "{what} is {got}, it has only {of:?}")
            }
            Self::Empty { what } => write!(f, "needs {what}, there are none"),
            Self::WeightForm { needs } => write!(f, "needs the weights {needs}"),
            Self::Precision { asked } => write!(f, "not for {asked} precision"),
            Self::Feature { needs } => write!(f, "needs {needs}"),
            Self::Members { n } => write!(f, "spans {n} devices: compile it through a meta device"),
        }
    }
}

/// One kernel that was considered and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel.
    pub kernel: &'static str,
    /// Why not.
    pub reason: RefusalReason,
}

/// No kernel of a device takes an op: every candidate with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The candidates, in the order they were tried.
    pub candidates: Vec<Refusal>,
}

impl Unsupported {
    /// A refusal by the only candidate.
    pub fn one(kernel: &'static str, reason: RefusalReason) -> Self {
        Self {
            candidates: vec![Refusal { kernel, reason }],
        }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            return f.write_str("the device has no kernel for this op");
        }
        f.write_str("no kernel takes it:")?;
        for (i, c) in self.candidates.iter().enumerate() {
            let sep = if i == 0 { " " } else { "; " };
            write!(f, "{sep}{} {}", c.kernel, c.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Unsupported {}

/// A failure of a device outside the plan's control, or a wrong use of its memory.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No such device.
    #[error("no device \"{name}\"; available: {}", available.join(", "))]
    NotFound {
        /// As the user wrote it.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A device that this machine could have and that cannot be used now.
    #[error("{device} is not available: {reason}")]
    Unavailable {
        /// As the user wrote it.
        device: String,
        /// Why, and the way out.
        reason: String,
    },
    /// A device name that cannot be read.
    #[error(
        "\"{text}\" is not a device name: write backend, backend:index or backend:index/members (cpu, cuda:0, cpu:0/2)"
    )]
    BadName {
        /// As the user wrote it.
        text: String,
    },
    /// A device setting that cannot be met.
    #[error("{device}: {setting} = \"{value}\" is not possible; possible: {possible}")]
    Setting {
        /// The device.
        device: String,
        /// The setting or environment variable.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What would be.
        possible: String,
    },
    /// Memory that is not there now.
    #[error(
        "{device}: out of memory: {what} needs {requested} bytes, {free} are free; use a smaller context, a smaller model or another device"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What it was for.
        what: String,
        /// Bytes asked for.
        requested: u64,
        /// Bytes free.
        free: u64,
    },
    /// A buffer that can never fit.
    #[error("{device}: {what} needs a buffer of {requested} bytes, the largest possible is {max}")]
    BufferTooBig {
        /// The device.
        device: String,
        /// What it was for.
        what: String,
        /// Bytes asked for.
        requested: u64,
        /// Limit.
        max: u64,
    },
    /// A transfer outside a buffer.
    #[error("{device}: bytes {start}..{end} are outside a buffer of {size} bytes")]
    Range {
        /// The device.
        device: String,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// The buffer's size.
        size: u64,
    },
    /// A buffer of another device.
    #[error("{device}: the buffer belongs to {owner}; copy it over first")]
    ForeignBuffer {
        /// The device asked.
        device: String,
        /// The device that owns the buffer.
        owner: String,
    },
    /// A buffer that was released or replaced.
    #[error("{device}: the buffer was released (generation {found}, used as {expected})")]
    StaleBuffer {
        /// The device.
        device: String,
        /// Generation when it was bound.
        expected: u64,
        /// Generation now.
        found: u64,
    },
    /// Weight data of the wrong length.
    #[error("{device}: weight \"{weight}\" has {got} bytes, its shape needs {expected}")]
    WeightBytes {
        /// The device.
        device: String,
        /// The weight.
        weight: String,
        /// Bytes its description needs.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// A tensor that lies over several members cannot be moved so.
    #[error("{device}: \"{tensor}\": {source}")]
    Shard {
        /// The device made of the members.
        device: String,
        /// The weight, state or value.
        tensor: String,
        /// Why.
        source: ShardError,
    },
    /// The device is gone.
    #[error("{device} was lost: {cause}; open it again, and if that fails start the program again")]
    Lost {
        /// The device.
        device: String,
        /// What the driver said.
        cause: String,
    },
    /// The device did not answer in time.
    #[error(
        "{device}: {what} did not finish within {waited_ms} ms; the device hangs or is shared: try again, or open it again"
    )]
    Timeout {
        /// The device.
        device: String,
        /// What was waited for: "a fence", "all_reduce of layer 3".
        what: String,
        /// Milliseconds waited.
        waited_ms: u64,
    },
    /// A kernel that could not be compiled or loaded.
    #[error("{device}: kernel {kernel} cannot be made ready: {cause}")]
    Kernel {
        /// The device.
        device: String,
        /// The kernel's module, with its definitions.
        kernel: String,
        /// What the compiler or the driver said.
        cause: String,
    },
    /// The operating system refused something.
    #[error("{device}: {what} failed: {code}")]
    System {
        /// The device.
        device: String,
        /// The call.
        what: &'static str,
        /// The system's error.
        code: String,
    },
}
