//! What a platform's library of collectives gives: NCCL of CUDA, RCCL of HIP. It is optional: a driver without one says
//! why, and sums run as kernels of our own.

use crate::driver::{DevicePtr, DriverError, Stream};

/// A device's place in a group that the library connects. Dropping it takes the group apart; recordings that it is part
/// of have to be gone by then.
///
/// # Safety
/// Implementations must do what the calls say; callers of the unsafe one must keep memory alive until the stream has
/// done the work.
pub trait Communicator: Send + Sync {
    /// Puts a sum over all members into the device's stream, or into what is recorded there. It starts once the stream
    /// has come to it and all members have come to theirs, and never takes anything from the others' host threads.
    ///
    /// # Safety
    /// `from` and `to` are `n` floats of the device each, the same or apart.
    unsafe fn all_reduce(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: DevicePtr,
        n: u64,
    ) -> Result<(), DriverError>;

    /// What went wrong in the stream since, if anything did.
    fn check(&self) -> Result<(), DriverError>;

    /// Gives the group up: sums in streams end soon, with any result, and no call works any more. It does not wait.
    fn abort(&self);
}

/// Why devices are not connected by a library of collectives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCommunicators {
    /// The driver uses no such library.
    #[error("the driver uses none")]
    Unused,
    /// The user did not ask for it.
    #[error("{setting} asks for it")]
    Off {
        /// What would.
        setting: &'static str,
    },
    /// There is no library.
    #[error("it was not found (tried {})", tried.join(", "))]
    Absent {
        /// File names tried.
        tried: Vec<String>,
    },
    /// There is a library, and the system refuses to load it.
    #[error("{file} cannot be loaded: {cause}")]
    Refused {
        /// The file.
        file: String,
        /// What the system said.
        cause: String,
    },
    /// The library lacks a function.
    #[error("the library has no function {function}")]
    Incomplete {
        /// The function.
        function: &'static str,
    },
    /// The library is too old.
    #[error("it is version {found}, {oldest} or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        oldest: String,
    },
    /// It does not connect these devices.
    #[error("it does not connect the members: {0}")]
    Failed(#[from] DriverError),
    /// It connected them and their first sum did not come to an end.
    #[error("the members' first sum did not come to an end")]
    Stuck,
    /// It connected them, and one did not come to a sum in time.
    #[error("a member was late before, and the group was given up")]
    GivenUp,
}
