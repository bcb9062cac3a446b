//! What a device may do wrong besides computing badly.

use std::error::Error;
use std::fmt;

use ggrs_core::device::CaptureState;
use ggrs_core::error::Fault;

use super::judge::Complaint;
use crate::problem::Place;

/// Something a device did that no number tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub(super) enum Misdeed {
    /// The plan has no step of the op that the problem is about.
    NotAboutItsOp,
    /// A wrong answer.
    Answer {
        place: Place,
        run: &'static str,
        complaint: Complaint,
    },
    /// Two runs on the same data differ.
    Unsteady {
        run: &'static str,
        place: Place,
        byte: usize,
    },
    /// Bytes of the arena that belong to no value were written.
    ArenaHit { offset: usize },
    /// Bytes behind a state were written.
    GuardHit { state: String, offset: usize },
    /// An input was written.
    InputWritten { name: String, byte: usize },
    /// A weight reads back differently.
    WeightChanged { name: String, when: &'static str },
    /// Bad data was taken.
    NotRefused { leaf: String, expected: Fault },
    /// Bad data was refused in other words.
    OtherFault {
        leaf: String,
        expected: Fault,
        got: String,
    },
    /// The capture is in another state than it must be.
    CaptureState {
        expected: CaptureState,
        got: CaptureState,
    },
}

impl fmt::Display for Misdeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAboutItsOp => f.write_str("the graph has no node of the problem's stem"),
            Self::Answer {
                place,
                run,
                complaint,
            } => write!(f, "{place:?}, {run} run: {complaint}"),
            Self::Unsteady { run, place, byte } => write!(
                f,
                "{run} run: byte {byte} of {place:?} differs from the first run"
            ),
            Self::ArenaHit { offset } => write!(
                f,
                "byte {offset} of the arena, which no value owns, was written"
            ),
            Self::GuardHit { state, offset } => {
                write!(f, "byte {offset} behind {state} was written")
            }
            Self::InputWritten { name, byte } => write!(f, "byte {byte} of {name} was written"),
            Self::WeightChanged { name, when } => write!(f, "{name} reads back differently {when}"),
            Self::NotRefused { leaf, expected } => {
                write!(f, "bad {leaf} was taken instead of: {expected}")
            }
            Self::OtherFault {
                leaf,
                expected,
                got,
            } => write!(f, "bad {leaf}: \"{got}\" instead of: {expected}"),
            Self::CaptureState { expected, got } => write!(
                f,
                "the capture is {} instead of {}",
                got.name(),
                expected.name()
            ),
        }
    }
}

impl Error for Misdeed {}

/// The same fault, but for the row where it was met: of an id that several rows use, any may be told.
pub(super) fn same_fault(got: &Fault, expected: &Fault) -> bool {
    match (got, expected) {
        (
            Fault::IndexOutOfRange {
                role, index, bound, ..
            },
            Fault::IndexOutOfRange {
                role: role_e,
                index: index_e,
                bound: bound_e,
                ..
            },
        ) => (role, index, bound) == (role_e, index_e, bound_e),
        _ => got == expected,
    }
}
