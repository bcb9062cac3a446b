//! What a GPU's driver gives: memory, streams, modules, launches, graphs. CUDA, HIP and the simulator stand behind it.
//!
//! Handles are the driver's own values and mean nothing elsewhere. A driver object is one open device.

use std::fmt;

use crate::communicator::{Communicator, NoCommunicators};

/// An address in a device's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// The address so many bytes on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)] pub struct $name(pub u64);)*
    };
}

handles! {
    /// A queue of work, in order.
    Stream,
    /// A point in a stream.
    Event,
    /// Loaded machine code.
    Module,
    /// A kernel of a module.
    Function,
    /// A recorded sequence of launches, ready to be launched as one.
    Recording,
}

/// Host memory that the device copies from and to at full speed, and that kernels can write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// For the host.
    pub host: *mut u8,
    /// For kernels.
    pub device: DevicePtr,
    /// Bytes.
    pub bytes: usize,
}

/// Which family of machine code a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// NVIDIA.
    Cuda,
    /// AMD.
    Hip,
}

impl Platform {
    /// What its library of collectives is called.
    pub const fn collectives(self) -> &'static str {
        match self {
            Self::Cuda => "NCCL",
            Self::Hip => "RCCL",
        }
    }
}

/// What routes and geometry depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What the hardware calls itself.
    pub hardware: String,
    /// Target of the compiler: `sm_90a`, `gfx1201`.
    pub arch: String,
    /// Whose machine code.
    pub platform: Platform,
    /// Lanes of a warp.
    pub warp: u32,
    /// Multiprocessors.
    pub n_multiprocessors: u32,
    /// Shared memory that one block can have.
    pub shared_bytes: u32,
    /// Bytes of the second-level cache.
    pub l2_bytes: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes per second that the memory gives at best, if the driver knows.
    pub bandwidth: Option<f64>,
    /// Matrix units that multiply BF16, F16 and 8-bit integers (`mma.sync` of sm_80).
    pub has_matrix_units: bool,
    /// Can a kernel start while the one before it ends (programmatic dependent launch)?
    pub has_overlap: bool,
    /// Code for tests: kernels run on the host's processor.
    pub is_simulated: bool,
}

/// Blocks of a launch and what each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// May start before the launch before it has ended; the kernel waits itself.
    pub overlaps: bool,
}

/// What kind of failure it was, for those that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverFailure {
    /// No memory.
    OutOfMemory,
    /// The context is damaged: a kernel faulted, the device fell off. Nothing on it works until it is opened again.
    Lost,
    /// The driver is too old for the call.
    Missing,
    /// Anything else.
    Other,
}

/// A call that the driver refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverError {
    /// The call, by the driver's name for it.
    pub call: &'static str,
    /// The driver's code.
    pub code: i64,
    /// The driver's name for the code.
    pub name: String,
    /// Its kind.
    pub failure: DriverFailure,
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {} ({})", self.call, self.name, self.code)
    }
}

impl std::error::Error for DriverError {}

/// An open device of a driver.
///
/// # Safety
/// Implementations must do what the calls say; callers of the unsafe ones must keep memory alive until the stream has
/// done the work, and pass parameters of the kernel's own type.
pub trait Driver: Send + Sync {
    /// What the device is.
    fn facts(&self) -> &Facts;

    /// Free and total bytes now.
    fn memory(&self) -> Result<(u64, u64), DriverError>;

    /// Memory; contents are undefined. Never of 0 bytes.
    fn alloc(&self, bytes: u64) -> Result<DevicePtr, DriverError>;

    /// Gives memory back.
    fn free(&self, ptr: DevicePtr);

    /// Pinned host memory.
    fn alloc_pinned(&self, bytes: usize) -> Result<Pinned, DriverError>;

    /// Gives pinned memory back.
    fn free_pinned(&self, pinned: Pinned);

    /// A stream.
    fn create_stream(&self) -> Result<Stream, DriverError>;

    /// Ends a stream.
    fn destroy_stream(&self, stream: Stream);

    /// Waits until everything in the stream is done.
    fn synchronize(&self, stream: Stream) -> Result<(), DriverError>;

    /// Is everything in the stream done?
    fn is_done(&self, stream: Stream) -> Result<bool, DriverError>;

    /// Host to device.
    ///
    /// # Safety
    /// `from` is readable for `bytes` until the stream has done it (pageable memory: until the call returns).
    unsafe fn upload(
        &self,
        stream: Stream,
        to: DevicePtr,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), DriverError>;

    /// Device to host.
    ///
    /// # Safety
    /// `to` is writable for `bytes` until the stream has done it.
    unsafe fn download(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: *mut u8,
        bytes: usize,
    ) -> Result<(), DriverError>;

    /// Device to device, or to a peer whose memory this device can reach.
    ///
    /// # Safety
    /// Both ranges are inside live allocations.
    unsafe fn copy(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: DevicePtr,
        bytes: u64,
    ) -> Result<(), DriverError>;

    /// Sets bytes.
    ///
    /// # Safety
    /// The range is inside a live allocation.
    unsafe fn fill(
        &self,
        stream: Stream,
        to: DevicePtr,
        byte: u8,
        bytes: u64,
    ) -> Result<(), DriverError>;

    /// An event that can be timed.
    fn create_event(&self) -> Result<Event, DriverError>;

    /// Ends an event.
    fn destroy_event(&self, event: Event);

    /// Marks the point that the stream has reached.
    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError>;

    /// Makes the stream wait for an event, also one of another device of the same driver.
    fn wait_event(&self, stream: Stream, event: Event) -> Result<(), DriverError>;

    /// Milliseconds between two events that have passed.
    fn elapsed_ms(&self, from: Event, to: Event) -> Result<f32, DriverError>;

    /// Loads machine code for this device.
    fn load(&self, image: &[u8]) -> Result<Module, DriverError>;

    /// Unloads it.
    fn unload(&self, module: Module);

    /// A kernel by its name, able to use so much dynamic shared memory.
    fn function(
        &self,
        module: Module,
        name: &str,
        shared_bytes: u32,
    ) -> Result<Function, DriverError>;

    /// Starts a kernel.
    ///
    /// # Safety
    /// `params` is the kernel's own parameter block, and every address in it is alive until the stream has done it.
    unsafe fn launch(
        &self,
        stream: Stream,
        function: Function,
        geometry: &Geometry,
        params: &[u8],
    ) -> Result<(), DriverError>;

    /// From here on, what is put into the stream is recorded and not run.
    fn begin_recording(&self, stream: Stream) -> Result<(), DriverError>;

    /// Ends the recording and makes it ready to run. On an error the stream is usable again.
    fn end_recording(&self, stream: Stream) -> Result<Recording, DriverError>;

    /// Runs a recording.
    ///
    /// # Safety
    /// All memory that its launches name is alive until the stream has done it.
    unsafe fn replay(&self, stream: Stream, recording: Recording) -> Result<(), DriverError>;

    /// Drops a recording.
    fn destroy_recording(&self, recording: Recording);

    /// Which of the driver's devices this is.
    fn ordinal(&self) -> usize;

    /// Lets kernels and copies of this device reach the memory of another; `false` if the hardware cannot.
    fn reach_peer(&self, ordinal: usize) -> Result<bool, DriverError>;

    /// Connects the driver's devices of these ordinals, all open, by its library of collectives: a communicator for
    /// each, in their order.
    fn communicators(
        &self,
        ordinals: &[usize],
    ) -> Result<Vec<Box<dyn Communicator>>, NoCommunicators> {
        let _ = ordinals;
        Err(NoCommunicators::Unused)
    }
}
