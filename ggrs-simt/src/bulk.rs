//! Large uploads: threads fill pinned memory while earlier parts are on their way, also those of the upload before, so that
//! neither the host's memory nor the bus waits for the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use ggrs_core::DeviceError;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::context::Context;
use crate::driver::{DevicePtr, Driver, DriverError, DriverFailure, Event, Pinned, Stream};

/// Bytes that one thread moves at a time: so many that calls do not count, so few that the memory stays in a cache.
const MAX_PART: usize = 2 << 20;
const MIN_PART: usize = 256 << 10;

/// Parts for each thread of an upload, at least, so that all end at about the same time.
const PARTS_EACH: usize = 4;

/// Uploads below this go through the staging memory.
const SMALL: usize = 1 << 20;

/// More threads than this do not make a bus faster.
const MAX_LANES: usize = 16;

/// Parts that a thread has on their way.
const SLOTS: usize = 2;

/// Pinned memory for one part, and its way to the device.
struct Slot {
    pinned: Pinned,
    stream: Stream,
    /// What the stream has been given is done.
    done: Event,
}

/// What one thread fills in turns.
#[derive(Default)]
struct Lane(Vec<Slot>);

/// What large uploads keep between two of them.
pub(crate) struct Bulk {
    driver: Arc<dyn Driver>,
    lanes: Vec<Lane>,
    /// A thread for each lane.
    threads: ThreadPool,
    /// What the device's own stream had done when the upload began.
    before: Event,
}

// SAFETY: a slot's memory is used by one thread at a time: the one that `upload` gives its lane to.
unsafe impl Send for Slot {}
// SAFETY: as above; shared references do not reach the memory.
unsafe impl Sync for Slot {}

impl Slot {
    fn new(driver: &dyn Driver) -> Result<Self, DriverError> {
        let stream = driver.create_stream()?;
        let made = driver.create_event().and_then(|done| {
            let pinned = driver.alloc_pinned(MAX_PART);
            pinned
                .map(|pinned| Self {
                    pinned,
                    stream,
                    done,
                })
                .inspect_err(|_| driver.destroy_event(done))
        });
        made.inspect_err(|_| driver.destroy_stream(stream))
    }
}

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
        bulk.lanes.resize_with(n, Lane::default);
        for lane in &mut bulk.lanes {
            for _ in 0..SLOTS {
                lane.0.push(Slot::new(&**driver)?);
            }
        }
        Ok(bulk)
    }

    /// Copies in parts, each by the next free thread, after all that the device's stream has now and before all that it
    /// gets from now on. When it returns `data` has been read, and may still be on its way.
    fn upload(&self, main: Stream, to: DevicePtr, data: &[u8]) -> Result<(), DriverError> {
        let driver = &*self.driver;
        driver.record(self.before, main)?;
        let part_bytes = data.len() / (self.lanes.len().max(1) * PARTS_EACH);
        let part_bytes = part_bytes.next_multiple_of(4096).clamp(MIN_PART, MAX_PART);
        let next = AtomicUsize::new(0);
        // How many of its slots a lane used.
        let work = |lane: &Lane| -> Result<usize, DriverError> {
            let mut n_used = 0;
            for (turn, slot) in lane.0.iter().cycle().enumerate() {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = data.chunks(part_bytes).nth(i) else {
                    break;
                };
                driver.synchronize(slot.stream)?;
                let stage = slot.pinned.host;
                // SAFETY: the slot's memory holds a part, nothing in flight reads it after the wait, and no other
                // thread has the lane.
                unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), stage, part.len()) };
                // Only now: the memory is filled while the upload before is still at work.
                if turn < lane.0.len() {
                    n_used += 1;
                    driver.wait_event(slot.stream, self.before)?;
                }
                // SAFETY: as above; the caller checked that `to` has room.
                unsafe {
                    driver.upload(
                        slot.stream,
                        to.plus((i * part_bytes) as u64),
                        stage,
                        part.len(),
                    )?;
                }
            }
            for slot in lane.0.iter().take(n_used) {
                driver.record(slot.done, slot.stream)?;
            }
            Ok(n_used)
        };
        let read: Result<Vec<usize>, _> = self
            .threads
            .install(|| self.lanes.par_iter().map(work).collect());
        let ordered = read.and_then(|n_used| {
            let mut lanes = self.lanes.iter().zip(n_used);
            let wait = |slot: &Slot| driver.wait_event(main, slot.done);
            lanes.try_for_each(|(lane, n)| lane.0.iter().take(n).try_for_each(wait))
        });
        // Nothing stays on its way to memory that is given back.
        ordered.inspect_err(|_| {
            for slot in self.lanes.iter().flat_map(|lane| &lane.0) {
                drop(driver.synchronize(slot.stream));
            }
        })
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
        for slot in self.lanes.drain(..).flat_map(|lane| lane.0) {
            let _ = self.driver.synchronize(slot.stream);
            self.driver.free_pinned(slot.pinned);
            self.driver.destroy_event(slot.done);
            self.driver.destroy_stream(slot.stream);
        }
        self.driver.destroy_event(self.before);
    }
}

impl Context {
    /// Host to device, as fast as the bus, in the order of the stream; `data` can be reused when it returns.
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
