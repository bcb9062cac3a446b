//! An open device: its primary context, and the driver trait, handed to the files that know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{self, CUresult};
use ggrs_simt::communicator::{Communicator, NoCommunicators};
use ggrs_simt::driver::{
    DevicePtr, Driver, DriverError, Event, Facts, Function, Geometry, Module, Pinned, Recording,
    Stream,
};

use crate::api::{Api, handle, raw};
use crate::error::{is, refused};
use crate::facts;
use crate::nccl::Nccl;
use crate::probe::Found;

/// A device's primary context, held.
pub(crate) struct Held {
    api: Arc<Api>,
    device: sys::CUdevice,
    context: u64,
}

impl Held {
    fn new(api: &Arc<Api>, device: sys::CUdevice) -> Result<Self, DriverError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: the device is the driver's; the place outlives the call.
        unsafe { api.cuDevicePrimaryCtxRetain(&raw mut context, device) }?;
        Ok(Self {
            api: Arc::clone(api),
            device,
            context: handle(context),
        })
    }

    /// Makes the context the calling thread's. Others in the process may change that at any time, so it is not kept.
    pub(crate) fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is held.
        unsafe { self.api.cuCtxSetCurrent(raw(self.context)) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it was retained once by `new`.
        let _ = unsafe { self.api.cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// An open device of the driver.
pub(crate) struct CudaDriver {
    held: Held,
    ordinal: usize,
    facts: Facts,
    nccl: Arc<Nccl>,
    /// Contexts of the devices that this one can reach.
    peers: Mutex<HashMap<usize, Option<Held>>>,
}

impl CudaDriver {
    /// Opens the device of this ordinal.
    pub(crate) fn open(
        found: &Found,
        nccl: &Arc<Nccl>,
        ordinal: usize,
    ) -> Result<Self, DriverError> {
        let api = &found.api;
        let device = facts::device(api, ordinal)?;
        Ok(Self {
            facts: facts::facts(api, device, found.present.driver)?,
            nccl: Arc::clone(nccl),
            held: Held::new(api, device)?,
            ordinal,
            peers: Mutex::default(),
        })
    }

    /// The driver's functions, with this device current for the calling thread.
    pub(crate) fn enter(&self) -> Result<&Api, DriverError> {
        self.held.enter()?;
        Ok(&self.held.api)
    }

    pub(crate) fn nccl(&self) -> &Nccl {
        &self.nccl
    }

    /// The context of any device of the driver.
    pub(crate) fn hold(&self, ordinal: usize) -> Result<Held, DriverError> {
        let api = &self.held.api;
        Held::new(api, facts::device(api, ordinal)?)
    }

    fn connect(&self, ordinal: usize) -> Result<Option<Held>, DriverError> {
        let api = self.enter()?;
        let peer = facts::device(api, ordinal)?;
        let mut can = 0;
        // SAFETY: both devices are the driver's; the place outlives the call.
        unsafe { api.cuDeviceCanAccessPeer(&raw mut can, self.held.device, peer) }?;
        if can == 0 {
            return Ok(None);
        }
        let peer = Held::new(&self.held.api, peer)?;
        // SAFETY: both contexts are held, this device's is current.
        match unsafe { api.cuCtxEnablePeerAccess(raw(peer.context), 0) } {
            Err(error) if !is(&error, CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED) => {
                Err(error)
            }
            _ => Ok(Some(peer)),
        }
    }
}

impl Driver for CudaDriver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn memory(&self) -> Result<(u64, u64), DriverError> {
        self.free_and_total()
    }

    fn alloc(&self, bytes: u64) -> Result<DevicePtr, DriverError> {
        self.alloc_device(bytes)
    }

    fn free(&self, ptr: DevicePtr) {
        self.free_device(ptr);
    }

    fn alloc_pinned(&self, bytes: usize) -> Result<Pinned, DriverError> {
        self.alloc_host(bytes)
    }

    fn free_pinned(&self, pinned: Pinned) {
        self.free_host(pinned);
    }

    fn create_stream(&self) -> Result<Stream, DriverError> {
        self.new_stream()
    }

    fn destroy_stream(&self, stream: Stream) {
        self.end_stream(stream);
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DriverError> {
        self.wait_stream(stream)
    }

    fn is_done(&self, stream: Stream) -> Result<bool, DriverError> {
        self.is_stream_done(stream)
    }

    unsafe fn upload(
        &self,
        stream: Stream,
        to: DevicePtr,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.copy_in(stream, to, from, bytes) }
    }

    unsafe fn download(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: *mut u8,
        bytes: usize,
    ) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.copy_out(stream, from, to, bytes) }
    }

    unsafe fn copy(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: DevicePtr,
        bytes: u64,
    ) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.copy_within(stream, from, to, bytes) }
    }

    unsafe fn fill(
        &self,
        stream: Stream,
        to: DevicePtr,
        byte: u8,
        bytes: u64,
    ) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.set_bytes(stream, to, byte, bytes) }
    }

    fn create_event(&self) -> Result<Event, DriverError> {
        self.new_event()
    }

    fn destroy_event(&self, event: Event) {
        self.end_event(event);
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError> {
        self.record_event(event, stream)
    }

    fn wait_event(&self, stream: Stream, event: Event) -> Result<(), DriverError> {
        self.wait_for(stream, event)
    }

    fn elapsed_ms(&self, from: Event, to: Event) -> Result<f32, DriverError> {
        self.ms_between(from, to)
    }

    fn load(&self, image: &[u8]) -> Result<Module, DriverError> {
        self.load_module(image)
    }

    fn unload(&self, module: Module) {
        self.end_module(module);
    }

    fn function(
        &self,
        module: Module,
        name: &str,
        shared_bytes: u32,
    ) -> Result<Function, DriverError> {
        self.find_function(module, name, shared_bytes)
    }

    unsafe fn launch(
        &self,
        stream: Stream,
        function: Function,
        geometry: &Geometry,
        params: &[u8],
    ) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.start(stream, function, geometry, params) }
    }

    fn begin_recording(&self, stream: Stream) -> Result<(), DriverError> {
        self.begin_capture(stream)
    }

    fn end_recording(&self, stream: Stream) -> Result<Recording, DriverError> {
        self.end_capture(stream)
    }

    unsafe fn replay(&self, stream: Stream, recording: Recording) -> Result<(), DriverError> {
        // SAFETY: as the caller promises.
        unsafe { self.start_graph(stream, recording) }
    }

    fn destroy_recording(&self, recording: Recording) {
        self.end_graph(recording);
    }

    fn ordinal(&self) -> usize {
        self.ordinal
    }

    fn reach_peer(&self, ordinal: usize) -> Result<bool, DriverError> {
        if ordinal == self.ordinal {
            return Ok(true);
        }
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&ordinal) {
            return Ok(known.is_some());
        }
        let peer = self.connect(ordinal)?;
        let reaches = peer.is_some();
        peers.insert(ordinal, peer);
        Ok(reaches)
    }

    fn communicators(
        &self,
        ordinals: &[usize],
    ) -> Result<Vec<Box<dyn Communicator>>, NoCommunicators> {
        self.make_communicators(ordinals)
    }
}

/// Free and total bytes of a device that need not be open; nothing is left behind.
pub(crate) fn memory_now(api: &Arc<Api>, device: sys::CUdevice) -> Result<(u64, u64), DriverError> {
    let mut before = std::ptr::null_mut();
    // SAFETY: the place outlives the call.
    unsafe { api.cuCtxGetCurrent(&raw mut before) }?;
    let held = Held::new(api, device)?;
    held.enter()?;
    let memory = crate::memory::free_and_total(api);
    // SAFETY: it was the thread's context, or it had none.
    unsafe { api.cuCtxSetCurrent(before) }?;
    memory
}

/// Bytes as the driver counts them.
pub(crate) fn count(call: &'static str, bytes: u64) -> Result<usize, DriverError> {
    usize::try_from(bytes).map_err(|_| refused(call, CUresult::CUDA_ERROR_INVALID_VALUE))
}
