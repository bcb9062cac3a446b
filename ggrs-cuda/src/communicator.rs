//! Communicators of NCCL behind the trait.

use core::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::CUresult;
use cudarc::nccl::sys::{ncclDataType_t, ncclRedOp_t, ncclResult_t};
use ggrs_simt::communicator::{Communicator, NoCommunicators};
use ggrs_simt::driver::{DevicePtr, Driver as _, DriverError, Stream};

use crate::api::{handle, raw};
use crate::driver::{CudaDriver, Held, count};
use crate::error::refused;
use crate::nccl::{self, Api};

/// A communicator of the library.
struct NcclCommunicator {
    api: &'static Api,
    held: Held,
    /// The library's handle; `None` once the group is taken apart. Held during calls, which are not to meet that.
    raw: Arc<Mutex<Option<u64>>>,
    is_aborted: AtomicBool,
}

impl NcclCommunicator {
    /// Calls the library with the handle; `None` if it is gone.
    fn with<R>(&self, call: impl FnOnce(u64) -> R) -> Option<R> {
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        raw.map(call)
    }
}

impl Communicator for NcclCommunicator {
    unsafe fn all_reduce(
        &self,
        stream: Stream,
        from: DevicePtr,
        to: DevicePtr,
        n: u64,
    ) -> Result<(), DriverError> {
        const CALL: &str = "ncclAllReduce";
        self.held.enter()?;
        let n = count(CALL, n)?;
        let (dtype, op) = (ncclDataType_t::ncclFloat32, ncclRedOp_t::ncclSum);
        let called = self.with(|communicator| {
            let (communicator, stream) = (raw(communicator), raw(stream.0));
            // SAFETY: the communicator is whole, the stream is of its device; the memory is as the caller promises.
            unsafe {
                self.api
                    .ncclAllReduce(raw(from.0), raw(to.0), n, dtype, op, communicator, stream)
            }
        });
        called.unwrap_or_else(|| Err(refused(CALL, CUresult::CUDA_ERROR_INVALID_HANDLE)))
    }

    fn check(&self) -> Result<(), DriverError> {
        let mut code = ncclResult_t::ncclSuccess as u32;
        let asked = self.with(|communicator| {
            // A number, not the enum: the library may be newer than this program.
            let place = (&raw mut code).cast::<ncclResult_t>();
            // SAFETY: the communicator is whole; the place is as large as the code and outlives the call.
            unsafe { self.api.ncclCommGetAsyncError(raw(communicator), place) }
        });
        asked.unwrap_or(Ok(()))?;
        nccl::check("ncclAllReduce", code)
    }

    fn abort(&self) {
        if self.is_aborted.swap(true, Ordering::AcqRel) {
            return;
        }
        let (api, communicator) = (self.api, Arc::clone(&self.raw));
        // The call tells kernels to end and then waits until no recording has the group, which may take as long as an
        // executable lives: nobody else is to wait for it.
        let abort = move || {
            let mut communicator = communicator.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(communicator) = communicator.take() {
                // SAFETY: the communicator is whole and used no more.
                let aborted = unsafe { api.ncclCommAbort(raw(communicator)) };
                tracing::debug!(?aborted, "a group was given up");
            }
        };
        let thread = std::thread::Builder::new().name("ggrs-abort".to_owned());
        if let Err(error) = thread.spawn(abort) {
            tracing::error!(%error, "no thread to give a group up");
        }
    }
}

impl Drop for NcclCommunicator {
    fn drop(&mut self) {
        if self.is_aborted.load(Ordering::Acquire) {
            return;
        }
        let _ = self.held.enter();
        let mut communicator = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(communicator) = communicator.take() {
            // SAFETY: the communicator is whole and used no more; recordings of it are gone.
            let _ = unsafe { self.api.ncclCommDestroy(raw(communicator)) };
        }
    }
}

impl CudaDriver {
    pub(crate) fn make_communicators(
        &self,
        ordinals: &[usize],
    ) -> Result<Vec<Box<dyn Communicator>>, NoCommunicators> {
        let api = self.nccl().api(self.facts().is_simulated)?;
        self.enter()?;
        let hold = |ordinal: &usize| self.hold(*ordinal);
        let held = ordinals.iter().map(hold).collect::<Result<Vec<_>, _>>()?;
        let number = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
        let devices: Vec<c_int> = ordinals.iter().map(|o| number(*o)).collect();
        let mut made = vec![std::ptr::null_mut(); devices.len()];
        // SAFETY: there are as many places and devices as is said, and they outlive the call.
        unsafe { api.ncclCommInitAll(made.as_mut_ptr(), number(devices.len()), devices.as_ptr()) }?;
        let communicator = |(communicator, held)| -> Box<dyn Communicator> {
            Box::new(NcclCommunicator {
                api,
                held,
                raw: Arc::new(Mutex::new(Some(handle(communicator)))),
                is_aborted: AtomicBool::new(false),
            })
        };
        Ok(made.into_iter().zip(held).map(communicator).collect())
    }
}
