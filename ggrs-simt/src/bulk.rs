//! Large uploads: threads fill pinned memory while earlier parts are on their way, so that neither the host's memory
//! nor the bus waits for the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use ggrs_core::DeviceError;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::context::Context;
use crate::driver::{DevicePtr, Driver, DriverError, DriverFailure, Event, Pinned, Stream};

/// Bytes that one thread moves at a time.
const PART: usize = 4 << 20;

/// Uploads below this go through the staging memory.
const SMALL: usize = 1 << 20;

/// More threads than this do not make a bus faster.
const MAX_LANES: usize = 16;

/// Pinned memory and a stream of one thread.
struct Lane {
    pinned: Pinned,
    stream: Stream,
}

/// What large uploads keep between two of them.
pub(crate) struct Bulk {
    driver: Arc<dyn Driver>,
    lanes: Vec<Lane>,
    /// A thread for each lane.
    threads: ThreadPool,
    /// What the device's own stream had done when the upload began.
    before: Event,
}

// SAFETY: a lane's memory is used by one thread at a time: the one that `upload` gives it to.
unsafe impl Send for Lane {}
// SAFETY: as above; shared references do not reach the memory.
unsafe impl Sync for Lane {}

impl Bulk {
    fn new(driver: &Arc<dyn Driver>) -> Result<Self, DriverError> {
        let n = std::thread::available_parallelism().map_or(1, usize::from);
        let n = n.clamp(1, MAX_LANES);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(n);
        let threads = threads.thread_name(|i| format!("upload {i}"));
        let mut bulk = Self {
            driver: Arc::clone(driver),
            lanes: Vec::new(),
            threads: threads.build().map_err(|e| no_threads(&e))?,
            before: driver.create_event()?,
        };
        for _ in 0..n {
            let stream = driver.create_stream()?;
            match driver.alloc_pinned(PART) {
                Ok(pinned) => bulk.lanes.push(Lane { pinned, stream }),
                Err(error) => {
                    driver.destroy_stream(stream);
                    return Err(error);
                }
            }
        }
        Ok(bulk)
    }

    /// Copies in parts, each by the next free thread, after all that the device's stream has now; done when it returns.
    fn upload(&self, main: Stream, to: DevicePtr, data: &[u8]) -> Result<(), DriverError> {
        let driver = &*self.driver;
        driver.record(self.before, main)?;
        let next = AtomicUsize::new(0);
        let work = |lane: &Lane| -> Result<(), DriverError> {
            driver.wait_event(lane.stream, self.before)?;
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = data.chunks(PART).nth(i) else {
                    return driver.synchronize(lane.stream);
                };
                driver.synchronize(lane.stream)?;
                // SAFETY: the lane's memory holds a part, nothing in flight reads it after the wait, and no other
                // thread has the lane.
                unsafe {
                    let stage = lane.pinned.host;
                    std::ptr::copy_nonoverlapping(part.as_ptr(), stage, part.len());
                    driver.upload(lane.stream, to.plus((i * PART) as u64), stage, part.len())?;
                }
            }
        };
        self.threads
            .install(|| self.lanes.par_iter().try_for_each(work))
    }
}

/// What an upload says if the system gives it no threads.
fn no_threads(cause: &rayon::ThreadPoolBuildError) -> DriverError {
    DriverError {
        call: "upload",
        code: 0,
        name: format!("no threads: {cause}"),
        failure: DriverFailure::Other,
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        for lane in self.lanes.drain(..) {
            let _ = self.driver.synchronize(lane.stream);
            self.driver.free_pinned(lane.pinned);
            self.driver.destroy_stream(lane.stream);
        }
        self.driver.destroy_event(self.before);
    }
}

impl Context {
    /// Host to device, as fast as the bus; `data` can be reused when it returns.
    pub(crate) fn upload_bulk(&self, to: DevicePtr, data: &[u8]) -> Result<(), DeviceError> {
        let mut gate = self.gate();
        if data.len() < SMALL {
            return self.upload(&mut gate, to, data);
        }
        // The threads wait for what is in the stream without looking after it.
        if gate.meeting.is_some() {
            self.synchronize(&mut gate)?;
        }
        let mut bulk = self.bulk.lock().unwrap_or_else(PoisonError::into_inner);
        if bulk.is_none() {
            *bulk = Some(Bulk::new(&self.driver).map_err(|e| self.error(e))?);
        }
        match &*bulk {
            Some(bulk) => bulk
                .upload(gate.stream, to, data)
                .map_err(|e| self.error(e)),
            None => Ok(()),
        }
    }

    /// Memory of at least `bytes` bytes for the work that `pass` puts into the stream; it is kept for the next one.
    pub(crate) fn with_passage(
        &self,
        bytes: u64,
        pass: impl FnOnce(DevicePtr) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let mut passage = self.passage.lock().unwrap_or_else(PoisonError::into_inner);
        if passage.1 < bytes {
            self.free(passage.0, passage.1);
            *passage = (DevicePtr(0), 0);
            *passage = (self.alloc(bytes, "loading weights")?, bytes);
        }
        pass(passage.0)
    }

    /// Gives back what loading kept.
    pub(crate) fn end_loading(&self) {
        let mut passage = self.passage.lock().unwrap_or_else(PoisonError::into_inner);
        self.free(passage.0, passage.1);
        *passage = (DevicePtr(0), 0);
        *self.bulk.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
