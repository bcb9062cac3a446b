//! Memory, streams, events: allocation, transfers, order.

use core::ffi::c_void;

use cudarc::driver::sys;
use ggrs_simt::driver::{DevicePtr, DriverError, Event, Pinned, Stream};

use crate::api::{Api, handle, raw};
use crate::driver::{CudaDriver, count};
use crate::error::is;

/// Host memory that every device of the process can use.
const HOST_FLAGS: u32 = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;

/// Free and total bytes of the current device.
pub(crate) fn free_and_total(api: &Api) -> Result<(u64, u64), DriverError> {
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: both places outlive the call.
    unsafe { api.cuMemGetInfo_v2(&raw mut free, &raw mut total) }?;
    Ok((free as u64, total as u64))
}

impl CudaDriver {
    pub(crate) fn free_and_total(&self) -> Result<(u64, u64), DriverError> {
        free_and_total(self.enter()?)
    }

    pub(crate) fn alloc_device(&self, bytes: u64) -> Result<DevicePtr, DriverError> {
        let bytes = count("cuMemAlloc", bytes)?;
        let mut ptr = 0;
        // SAFETY: the place outlives the call.
        unsafe { self.enter()?.cuMemAlloc_v2(&raw mut ptr, bytes) }?;
        Ok(DevicePtr(ptr))
    }

    pub(crate) fn free_device(&self, ptr: DevicePtr) {
        if let Ok(api) = self.enter() {
            // SAFETY: the address is of `alloc_device`; the driver waits for what uses it. A lost device frees nothing.
            let _ = unsafe { api.cuMemFree_v2(ptr.0) };
        }
    }

    pub(crate) fn alloc_host(&self, bytes: usize) -> Result<Pinned, DriverError> {
        let api = self.enter()?;
        let mut host: *mut c_void = std::ptr::null_mut();
        // SAFETY: the place outlives the call.
        unsafe { api.cuMemHostAlloc(&raw mut host, bytes, HOST_FLAGS) }?;
        let mut device = 0;
        // SAFETY: the memory was just allocated as mapped.
        let mapped = unsafe { api.cuMemHostGetDevicePointer_v2(&raw mut device, host, 0) };
        let pinned = Pinned {
            host: host.cast(),
            device: DevicePtr(device),
            bytes,
        };
        mapped.inspect_err(|_| self.free_host(pinned))?;
        Ok(pinned)
    }

    pub(crate) fn free_host(&self, pinned: Pinned) {
        if let Ok(api) = self.enter() {
            // SAFETY: the memory is of `alloc_host`.
            let _ = unsafe { api.cuMemFreeHost(pinned.host.cast()) };
        }
    }

    pub(crate) fn new_stream(&self) -> Result<Stream, DriverError> {
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        let mut stream = std::ptr::null_mut();
        // SAFETY: the place outlives the call.
        unsafe { self.enter()?.cuStreamCreate(&raw mut stream, flags) }?;
        Ok(Stream(handle(stream)))
    }

    pub(crate) fn end_stream(&self, stream: Stream) {
        if let Ok(api) = self.enter() {
            // SAFETY: the stream is of `new_stream`.
            let _ = unsafe { api.cuStreamDestroy_v2(raw(stream.0)) };
        }
    }

    pub(crate) fn wait_stream(&self, stream: Stream) -> Result<(), DriverError> {
        // SAFETY: the stream is of `new_stream`.
        unsafe { self.enter()?.cuStreamSynchronize(raw(stream.0)) }
    }

    pub(crate) fn is_stream_done(&self, stream: Stream) -> Result<bool, DriverError> {
        // SAFETY: the stream is of `new_stream`.
        match unsafe { self.enter()?.cuStreamQuery(raw(stream.0)) } {
            Err(error) if is(&error, sys::CUresult::CUDA_ERROR_NOT_READY) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::upload`].
    pub(crate) unsafe fn copy_in(
        &self,
        stream: Stream,
        to: DevicePtr,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let api = self.enter()?;
        // SAFETY: as the caller promises.
        unsafe { api.cuMemcpyHtoDAsync_v2(to.0, from.cast(), bytes, raw(stream.0)) }
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::download`].
    pub(crate) unsafe fn copy_out(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: *mut u8,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let api = self.enter()?;
        // SAFETY: as the caller promises.
        unsafe { api.cuMemcpyDtoHAsync_v2(to.cast(), from.0, bytes, raw(stream.0)) }
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::copy`].
    pub(crate) unsafe fn copy_within(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: DevicePtr,
        bytes: u64,
    ) -> Result<(), DriverError> {
        let bytes = count("cuMemcpyAsync", bytes)?;
        // The call that looks at the addresses: either may be a peer's.
        // SAFETY: as the caller promises.
        unsafe {
            self.enter()?
                .cuMemcpyAsync(to.0, from.0, bytes, raw(stream.0))
        }
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::fill`].
    pub(crate) unsafe fn set_bytes(
        &self,
        stream: Stream,
        to: DevicePtr,
        byte: u8,
        bytes: u64,
    ) -> Result<(), DriverError> {
        let bytes = count("cuMemsetD8Async", bytes)?;
        // SAFETY: as the caller promises.
        unsafe {
            self.enter()?
                .cuMemsetD8Async(to.0, byte, bytes, raw(stream.0))
        }
    }

    pub(crate) fn new_event(&self) -> Result<Event, DriverError> {
        let flags = sys::CUevent_flags_enum::CU_EVENT_DEFAULT as u32;
        let mut event = std::ptr::null_mut();
        // SAFETY: the place outlives the call.
        unsafe { self.enter()?.cuEventCreate(&raw mut event, flags) }?;
        Ok(Event(handle(event)))
    }

    pub(crate) fn end_event(&self, event: Event) {
        if let Ok(api) = self.enter() {
            // SAFETY: the event is of `new_event`.
            let _ = unsafe { api.cuEventDestroy_v2(raw(event.0)) };
        }
    }

    pub(crate) fn record_event(&self, event: Event, stream: Stream) -> Result<(), DriverError> {
        // SAFETY: both are of this device.
        unsafe { self.enter()?.cuEventRecord(raw(event.0), raw(stream.0)) }
    }

    pub(crate) fn wait_for(&self, stream: Stream, event: Event) -> Result<(), DriverError> {
        // SAFETY: the stream is of this device, the event of this driver.
        unsafe {
            self.enter()?
                .cuStreamWaitEvent(raw(stream.0), raw(event.0), 0)
        }
    }

    pub(crate) fn ms_between(&self, from: Event, to: Event) -> Result<f32, DriverError> {
        let mut ms = 0.0;
        // SAFETY: both are of this device; the place outlives the call.
        unsafe {
            self.enter()?
                .cuEventElapsedTime(&raw mut ms, raw(from.0), raw(to.0))
        }?;
        Ok(ms)
    }
}
