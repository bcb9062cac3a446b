//! Machine code and kernels: loading, finding, starting.

use core::ffi::{c_int, c_void};
use std::borrow::Cow;
use std::ffi::CString;

use cudarc::driver::sys::{self, CUfunction_attribute as Attribute, CUresult};
use ggrs_simt::driver::{DriverError, Function, Geometry, Module, Stream};

use crate::api::{Api, handle, raw};
use crate::driver::CudaDriver;
use crate::error::refused;

/// Machine code is read in words.
const IMAGE_ALIGN: usize = 16;

impl CudaDriver {
    pub(crate) fn load_module(&self, image: &[u8]) -> Result<Module, DriverError> {
        if !is_whole(image) {
            return Err(refused(
                "cuModuleLoadData",
                CUresult::CUDA_ERROR_INVALID_IMAGE,
            ));
        }
        // A part of a larger file lies anywhere; memory of its own is aligned.
        let aligned = match image.as_ptr().addr() % IMAGE_ALIGN {
            0 => Cow::Borrowed(image),
            _ => Cow::Owned(image.to_vec()),
        };
        let mut module = std::ptr::null_mut();
        // SAFETY: the image is as long as its own header says.
        unsafe {
            self.enter()?
                .cuModuleLoadData(&raw mut module, aligned.as_ptr().cast())
        }?;
        Ok(Module(handle(module)))
    }

    pub(crate) fn end_module(&self, module: Module) {
        if let Ok(api) = self.enter() {
            // SAFETY: the module is of `load_module`.
            let _ = unsafe { api.cuModuleUnload(raw(module.0)) };
        }
    }

    pub(crate) fn find_function(
        &self,
        module: Module,
        name: &str,
        shared_bytes: u32,
    ) -> Result<Function, DriverError> {
        let call = "cuModuleGetFunction";
        let name = CString::new(name).map_err(|_| refused(call, CUresult::CUDA_ERROR_NOT_FOUND))?;
        let api = self.enter()?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is of `load_module`, the name ends with 0; both places outlive the call.
        unsafe { api.cuModuleGetFunction(&raw mut function, raw(module.0), name.as_ptr()) }?;
        grant_shared(api, function, shared_bytes)?;
        Ok(Function(handle(function)))
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::launch`].
    pub(crate) unsafe fn start(
        &self,
        stream: Stream,
        function: Function,
        geometry: &Geometry,
        params: &[u8],
    ) -> Result<(), DriverError> {
        use ggrs_simt::driver::Driver as _;
        let api = self.enter()?;
        let mut overlap = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { pad: [0; 64] },
        };
        overlap.value.programmaticStreamSerializationAllowed = 1;
        let [grid_x, grid_y, grid_z] = geometry.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: geometry.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: geometry.shared_bytes,
            hStream: raw(stream.0),
            attrs: &raw mut overlap,
            numAttrs: u32::from(geometry.overlaps && self.facts().has_overlap),
        };
        let mut bytes = params.len();
        // The parameters as one block, which the driver copies before it returns.
        let mut extra: [*mut c_void; 5] = [
            raw(sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT.into()),
            params.as_ptr().cast_mut().cast(),
            raw(sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT.into()),
            (&raw mut bytes).cast(),
            raw(sys::CU_LAUNCH_PARAM_END_AS_INT.into()),
        ];
        // SAFETY: all that the configuration names outlives the call; the rest is as the caller promises.
        unsafe {
            api.cuLaunchKernelEx(
                &raw const config,
                raw(function.0),
                std::ptr::null_mut(),
                extra.as_mut_ptr(),
            )
        }
    }
}

/// Lets a kernel have so much dynamic shared memory. Only ever raised: others may have found the kernel before.
fn grant_shared(
    api: &Api,
    function: sys::CUfunction,
    shared_bytes: u32,
) -> Result<(), DriverError> {
    let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let wanted = c_int::try_from(shared_bytes).unwrap_or(c_int::MAX);
    if wanted == 0 {
        return Ok(());
    }
    let mut granted = 0;
    // SAFETY: the function was just found; the place outlives the call.
    unsafe { api.cuFuncGetAttribute(&raw mut granted, attribute, function) }?;
    if granted >= wanted {
        return Ok(());
    }
    // SAFETY: the function was just found. The driver checks the size, also with the kernel's static part.
    unsafe { api.cuFuncSetAttribute(function, attribute, wanted) }
}

/// Is an image as long as its header says? The driver believes the header, and a file on a disk can be cut short.
fn is_whole(image: &[u8]) -> bool {
    let word = |at: usize, bytes: usize| -> Option<u64> {
        let field = image.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let table = |offset: usize, entry: usize, n: usize| -> Option<u64> {
        word(offset, 8)?.checked_add(word(entry, 2)? * word(n, 2)?)
    };
    let length = image.len() as u64;
    if !image.starts_with(b"\x7fELF\x02") {
        return false;
    }
    // The tables of segments and of sections; the latter ends a file.
    let ends = [table(0x20, 0x36, 0x38), table(0x28, 0x3a, 0x3c)];
    ends.iter().all(|end| end.is_some_and(|end| end <= length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_cut_short_is_seen() {
        // Any 64-bit object file will do: this test itself.
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_whole(&whole));
        assert!(!is_whole(&whole[..whole.len() / 2]));
        assert!(!is_whole(&whole[..20]));
        assert!(!is_whole(b"") && !is_whole(b".version 8.0"));
    }
}
