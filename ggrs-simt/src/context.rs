//! What all parts of an open device share: the driver, its one stream, pinned memory for transfers, the account.
//!
//! There is one stream, so that transfers and runs of all queues happen in the order in which they were asked for.
//! Everything that touches the stream holds the gate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ggrs_core::DeviceError;
use ggrs_core::device::{MemoryReport, RouteRequest};

use crate::bulk::Bulk;
use crate::compile::Compiler;
use crate::driver::{DevicePtr, Driver, DriverError, DriverFailure, Facts, Pinned, Stream};
use crate::faults::FaultBoard;
use crate::kernel::{Launch, Request};
use crate::library::Library;
use crate::peers::{Link, Membership};
use crate::sums::Meeting;

/// Pinned memory for small transfers.
const STAGING_BYTES: usize = 4 << 20;

/// An open device.
pub(crate) struct Context {
    /// As the user names it.
    pub(crate) name: String,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) library: Library,
    held: AtomicU64,
    gate: Mutex<Gate>,
    /// What large uploads keep between two of them.
    pub(crate) bulk: Mutex<Option<Bulk>>,
    /// Memory through which weights pass on their way into planes, and its bytes.
    pub(crate) passage: Mutex<(DevicePtr, u64)>,
    /// The group that it is in.
    pub(crate) membership: Membership,
    /// Held by a queue while it submits, so that what was submitted is its own.
    pub(crate) submitting: Mutex<()>,
    /// How long other members are waited for at a sum by a library.
    pub(crate) patience: Duration,
    /// What the run just submitted may find.
    pub(crate) submitted: Mutex<Option<Arc<FaultBoard>>>,
}

/// Access to the stream.
pub(crate) struct Gate {
    pub(crate) stream: Stream,
    staging: Pinned,
    /// Bytes of the staging memory that transfers in flight may still read.
    used: usize,
    /// Sums by a library that may be in the stream.
    pub(crate) meeting: Option<Meeting>,
    /// A member that was late while nobody could be told.
    late: Option<DeviceError>,
}

// SAFETY: the staging memory is reached only through the gate, which one thread holds at a time.
unsafe impl Send for Gate {}

impl Context {
    pub(crate) fn new(
        name: String,
        driver: Arc<dyn Driver>,
        compiler: Arc<dyn Compiler>,
        patience: Duration,
    ) -> Result<Arc<Self>, DeviceError> {
        let failed = |error| device_error(&name, error);
        let stream = driver.create_stream().map_err(failed)?;
        let staging = driver.alloc_pinned(STAGING_BYTES).map_err(|error| {
            driver.destroy_stream(stream);
            failed(error)
        })?;
        let library = Library::new(name.clone(), Arc::clone(&driver), compiler);
        Ok(Arc::new(Self {
            name,
            driver,
            library,
            held: AtomicU64::new(0),
            gate: Mutex::new(Gate {
                stream,
                staging,
                used: 0,
                meeting: None,
                late: None,
            }),
            bulk: Mutex::default(),
            passage: Mutex::default(),
            membership: Membership::default(),
            patience,
            submitting: Mutex::default(),
            submitted: Mutex::default(),
        }))
    }

    pub(crate) fn facts(&self) -> &Facts {
        self.driver.facts()
    }

    /// A request for a kernel on this device as it is now.
    pub(crate) fn request<'a>(
        &'a self,
        operands: &'a RouteRequest<'a>,
        link: Option<&'a Link>,
    ) -> Request<'a> {
        Request {
            operands,
            facts: self.facts(),
            link,
        }
    }

    /// Waits until nobody else works with the stream.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver's error as one of this device.
    pub(crate) fn error(&self, error: DriverError) -> DeviceError {
        device_error(&self.name, error)
    }

    pub(crate) fn memory(&self) -> MemoryReport {
        let (free, total) = self.driver.memory().unwrap_or((0, 0));
        MemoryReport {
            total,
            free,
            held: self.held.load(Ordering::Relaxed),
        }
    }

    /// Device memory; `what` is for the message if there is none.
    pub(crate) fn alloc(&self, bytes: u64, what: &str) -> Result<DevicePtr, DeviceError> {
        if bytes == 0 {
            return Ok(DevicePtr(0));
        }
        let ptr = self
            .driver
            .alloc(bytes)
            .map_err(|error| match error.failure {
                DriverFailure::OutOfMemory => DeviceError::OutOfMemory {
                    device: self.name.clone(),
                    what: what.to_owned(),
                    requested: bytes,
                    free: self.memory().free,
                },
                _ => self.error(error),
            })?;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(ptr)
    }

    /// Gives device memory back once nothing in the stream can use it any more.
    pub(crate) fn free(&self, ptr: DevicePtr, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut gate = self.gate();
        self.drain(&mut gate);
        self.driver.free(ptr);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Waits until the stream is empty.
    pub(crate) fn synchronize(&self, gate: &mut Gate) -> Result<(), DeviceError> {
        let done = match gate.meeting.take() {
            None => self
                .driver
                .synchronize(gate.stream)
                .map_err(|e| self.error(e)),
            Some(meeting) => meeting.wait(self, gate.stream),
        };
        gate.used = 0;
        gate.late.take().map_or(done, Err)
    }

    /// The same where nobody can be told what went wrong: whoever waits next is. A lost device has nothing in flight.
    pub(crate) fn drain(&self, gate: &mut Gate) {
        if let Err(late @ DeviceError::Timeout { .. }) = self.synchronize(gate) {
            gate.late = Some(late);
        }
    }

    /// Host to device, in the order of the stream; `data` can be reused at once.
    pub(crate) fn upload(
        &self,
        gate: &mut Gate,
        to: DevicePtr,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let mut at = 0u64;
        for part in data.chunks(STAGING_BYTES) {
            if STAGING_BYTES - gate.used < part.len() {
                self.synchronize(gate)?;
            }
            // SAFETY: `used..used + part.len()` is inside the staging memory, and nothing in flight reads it: it
            // is given out once between two synchronisations. The caller checked that `to` has room.
            unsafe {
                let stage = gate.staging.host.add(gate.used);
                std::ptr::copy_nonoverlapping(part.as_ptr(), stage, part.len());
                self.driver
                    .upload(gate.stream, to.plus(at), stage, part.len())
                    .map_err(|e| self.error(e))?;
            }
            gate.used += part
                .len()
                .next_multiple_of(64)
                .min(STAGING_BYTES - gate.used);
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Device to host; waits for everything before.
    pub(crate) fn download(
        &self,
        gate: &mut Gate,
        from: DevicePtr,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let mut at = 0u64;
        for part in data.chunks_mut(STAGING_BYTES) {
            if STAGING_BYTES - gate.used < part.len() {
                self.synchronize(gate)?;
            }
            let start = gate.used;
            // SAFETY: as for uploads; the stage is read only after the copy is done.
            unsafe {
                let stage = gate.staging.host.add(start);
                self.driver
                    .download(gate.stream, from.plus(at), stage, part.len())
                    .map_err(|e| self.error(e))?;
                self.synchronize(gate)?;
                std::ptr::copy_nonoverlapping(stage, part.as_mut_ptr(), part.len());
            }
            at += part.len() as u64;
        }
        if data.is_empty() {
            self.synchronize(gate)?;
        }
        Ok(())
    }

    /// Starts a launch of the device's own, over memory that outlives what is in the stream now.
    pub(crate) fn launch(&self, gate: &Gate, launch: &Launch) -> Result<(), DeviceError> {
        let function = self.library.function(launch)?;
        // SAFETY: the parameter block is the kernel's own, over memory of this device.
        let launched = unsafe {
            self.driver
                .launch(gate.stream, function, &launch.geometry, &launch.params)
        };
        launched.map_err(|e| self.error(e))
    }

    /// Between places of this device.
    pub(crate) fn copy(
        &self,
        gate: &mut Gate,
        from: DevicePtr,
        to: DevicePtr,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller checked both ranges.
        let copied = unsafe { self.driver.copy(gate.stream, from, to, bytes) };
        copied.map_err(|e| self.error(e))
    }

    /// Sets bytes.
    pub(crate) fn fill(
        &self,
        gate: &mut Gate,
        to: DevicePtr,
        byte: u8,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller checked the range.
        let filled = unsafe { self.driver.fill(gate.stream, to, byte, bytes) };
        filled.map_err(|e| self.error(e))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.end_loading();
        self.drain(&mut self.gate());
        let gate = self.gate.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.driver.free_pinned(gate.staging);
        self.driver.destroy_stream(gate.stream);
    }
}

fn device_error(device: &str, error: DriverError) -> DeviceError {
    let device = device.to_owned();
    match error.failure {
        DriverFailure::Lost => DeviceError::Lost {
            device,
            cause: error.to_string(),
        },
        _ => DeviceError::System {
            device,
            what: error.call,
            code: format!("{} ({})", error.name, error.code),
        },
    }
}
