//! What the audit may find: wrong uses of devices that a run would not notice by itself.

use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Findings that are kept; more are only counted.
const KEPT: usize = 64;

/// A transfer, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Host to device.
    Upload,
    /// Device to host.
    Download,
    /// Within the device, from this buffer.
    CopyFrom,
    /// Within the device, to this buffer.
    CopyTo,
    /// A fill with one byte.
    Fill,
    /// A weight read back.
    ReadWeight,
}

impl Transfer {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
            Self::CopyFrom => "copy from",
            Self::CopyTo => "copy to",
            Self::Fill => "fill",
            Self::ReadWeight => "read of a weight",
        }
    }
}

/// Memory that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it was made for.
    pub what: String,
    /// Bytes on the account.
    pub bytes: u64,
}

/// One wrong use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A step reads bytes that nobody wrote for it.
    PoisonRead {
        /// The device.
        device: String,
        /// Step of the plan.
        step: usize,
        /// The node's name.
        node: String,
        /// The operand's name in its op.
        operand: &'static str,
        /// Bytes of the operand's buffer.
        range: Range<u64>,
        /// The value whose step wrote there since, if any.
        overwritten_by: Option<String>,
    },
    /// An output holds poison after the run that computes it.
    PoisonOutput {
        /// The device.
        device: String,
        /// The output.
        output: String,
        /// Byte of the output at which the first poisoned element stands.
        offset: u64,
    },
    /// A download of bytes that nobody wrote.
    PoisonDownload {
        /// The device.
        device: String,
        /// Bytes of the buffer.
        range: Range<u64>,
    },
    /// A transfer with a buffer that was released.
    StaleTransfer {
        /// The device.
        device: String,
        /// Which transfer.
        transfer: Transfer,
        /// How often the buffer was released.
        releases: u64,
    },
    /// A run over a buffer that was released after it was bound.
    StaleRun {
        /// The device.
        device: String,
        /// The weight or state.
        name: String,
    },
    /// A place that the device's alignment does not allow.
    Misaligned {
        /// The device.
        device: String,
        /// The value, or the node whose working memory it is.
        what: String,
        /// Its offset in the arena.
        offset: u64,
        /// What it should be a multiple of.
        alignment: u64,
    },
    /// A device opened while it was open.
    DoubleOpen {
        /// The device.
        device: String,
    },
    /// A run of steps among which is one that only whoever drives the plan can do.
    ExchangeRun {
        /// The device.
        device: String,
        /// The steps asked for.
        steps: Range<usize>,
        /// The exchange's name.
        node: String,
    },
    /// Memory held when all should be free.
    Leak {
        /// The device.
        device: String,
        /// What is held.
        held: Vec<Held>,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoisonRead {
                device,
                step,
                node,
                operand,
                range,
                overwritten_by,
            } => {
                let (start, end) = (range.start, range.end);
                write!(
                    f,
                    "{device}: step {step} \"{node}\" reads {operand} from bytes {start}..{end}, "
                )?;
                match overwritten_by {
                    None => f.write_str("which nobody wrote"),
                    Some(other) => write!(f, "which \"{other}\" has overwritten"),
                }
            }
            Self::PoisonOutput {
                device,
                output,
                offset,
            } => write!(
                f,
                "{device}: output \"{output}\" holds poison at byte {offset}"
            ),
            Self::PoisonDownload { device, range } => write!(
                f,
                "{device}: bytes {}..{} were downloaded and nobody wrote them",
                range.start, range.end
            ),
            Self::StaleTransfer {
                device,
                transfer,
                releases,
            } => write!(
                f,
                "{device}: {} a buffer that was released ({releases} times)",
                transfer.name()
            ),
            Self::StaleRun { device, name } => {
                write!(f, "{device}: a run over \"{name}\", which was released")
            }
            Self::Misaligned {
                device,
                what,
                offset,
                alignment,
            } => write!(
                f,
                "{device}: \"{what}\" is at offset {offset}, not a multiple of {alignment}"
            ),
            Self::DoubleOpen { device } => write!(f, "{device}: opened while it was open"),
            Self::ExchangeRun {
                device,
                steps,
                node,
            } => write!(
                f,
                "{device}: steps {}..{} were run in one go over the exchange \"{node}\"",
                steps.start, steps.end
            ),
            Self::Leak { device, held } => {
                let bytes: u64 = held.iter().map(|h| h.bytes).sum();
                write!(f, "{device}: {bytes} bytes in {} buffers", held.len())?;
                for (i, h) in held.iter().take(8).enumerate() {
                    let sep = if i == 0 { ":" } else { "," };
                    write!(f, "{sep} {} {}", h.what, h.bytes)?;
                }
                f.write_str(" are still held")
            }
        }
    }
}

/// What the audit found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFailure {
    /// The first findings, in order.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub more: usize,
}

impl fmt::Display for AuditFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.findings.len() + self.more;
        write!(f, "the audit found {n} wrong uses of devices:")?;
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        if self.more > 0 {
            write!(f, "\n  and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for AuditFailure {}

/// The findings of a world.
#[derive(Debug, Default)]
pub(super) struct Audit {
    found: Mutex<(Vec<Finding>, usize)>,
}

impl Audit {
    pub(super) fn report(&self, finding: Finding) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, more) = &mut *found;
        if kept.len() < KEPT {
            kept.push(finding);
        } else {
            *more += 1;
        }
    }

    pub(super) fn verdict(&self) -> Result<(), AuditFailure> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        verdict(found.0.clone(), found.1)
    }

    pub(super) fn take(&self) -> Vec<Finding> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *found).0
    }
}

/// A failure if anything was found.
pub(super) fn verdict(findings: Vec<Finding>, more: usize) -> Result<(), AuditFailure> {
    if findings.is_empty() {
        Ok(())
    } else {
        Err(AuditFailure { findings, more })
    }
}
