//! Errors of a run: bad data that only the run can see, and devices that fail.

use crate::{DeviceError, NodeId};

/// What a kernel may find wrong with data.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// An id outside its table.
    IndexOutOfRange {
        /// Which operand.
        role: &'static str,
        /// Row of the operand in which it stands: its axes but the last, flattened; for a vector the position.
        row: usize,
        /// The id.
        index: i64,
        /// Ids must be below this.
        bound: usize,
    },
    /// A NaN where an order or a choice is wanted.
    NotANumber {
        /// Which operand.
        role: &'static str,
        /// Row of the operand in which it stands: its axes but the last, flattened.
        row: usize,
    },
    /// A kernel thread panicked: a bug in GGRS, contained.
    Panicked,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IndexOutOfRange {
                role,
                row,
                index,
                bound,
            } => {
                write!(
                    f,
                    "{role} has {index} in row {row}, it must be below {bound}"
                )
            }
            Self::NotANumber { role, row } => write!(
                f,
                "{role} has a NaN in row {row}: the model's weights or its input are damaged, or a value overflowed"
            ),
            Self::Panicked => {
                f.write_str("the kernel panicked; this is a bug in the device, please report it")
            }
        }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// A kernel found bad data.
    #[error("step {step}, {op} \"{node}\": {fault}")]
    Fault {
        /// Step of the plan.
        step: usize,
        /// The node's id in the plan's graph.
        node_id: NodeId,
        /// The node's name.
        node: String,
        /// The op's stem.
        op: &'static str,
        /// What was found.
        fault: Fault,
    },
    /// A bound buffer was released or replaced since.
    #[error("\"{name}\" was bound to a buffer that has been released since; bind it again")]
    StaleBinding {
        /// The weight or state.
        name: String,
    },
    /// Data of the wrong length for an input or output.
    #[error("\"{name}\" takes {expected} bytes, got {got}")]
    DataBytes {
        /// The input or output.
        name: String,
        /// Its size.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// No such input or output.
    #[error("the graph has no {kind} \"{name}\"; it has: {}", available.join(", "))]
    NoSuch {
        /// "input" or "output".
        kind: &'static str,
        /// The name.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Steps that cannot run in one go.
    #[error("{device}: steps {}..{} of {n_steps} cannot run in one go: run them through the scheduler, which moves data between devices", steps.start, steps.end)]
    Steps {
        /// The device.
        device: String,
        /// The steps asked for.
        steps: std::ops::Range<usize>,
        /// Steps of the plan.
        n_steps: usize,
    },
    /// A capture step out of turn.
    #[error("cannot {asked} while the capture is {state}")]
    Capture {
        /// What was asked.
        asked: &'static str,
        /// The state it was in.
        state: &'static str,
    },
    /// One member of a device made of several failed.
    #[error("{member}: {source}")]
    Member {
        /// The member, by its number and name.
        member: String,
        /// What it said.
        source: Box<Self>,
    },
    /// An exchange between members failed.
    #[error("{op} \"{node}\" between {} ({transport}): {source}", members.join(", "))]
    Collective {
        /// The op's stem.
        op: &'static str,
        /// The node.
        node: String,
        /// How the members' data moves.
        transport: &'static str,
        /// Who takes part.
        members: Vec<String>,
        /// What went wrong.
        source: Box<Self>,
    },
    /// An earlier failure left members at different points of the plan, or one of them still running.
    #[error(
        "{device} stopped in the middle of an earlier run and cannot go on, compile the plan again: {source}"
    )]
    Broken {
        /// The device.
        device: String,
        /// The earlier failure.
        source: Box<Self>,
    },
    /// Members that do not meet in the same collectives of a kernel.
    #[error(
        "{kernel} cannot be timed by itself: collective {at} in it is {first_op} on {first} and {second_op} on {second}"
    )]
    Unmatched {
        /// The kernel.
        kernel: String,
        /// Which of its collectives, in order.
        at: usize,
        /// A member.
        first: String,
        /// What it does there.
        first_op: String,
        /// Another member.
        second: String,
        /// What that one does.
        second_op: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
