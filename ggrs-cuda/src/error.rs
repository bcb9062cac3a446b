//! The driver's codes: their names, and which of them mean what to callers.
//!
//! The names are a table here because asking the driver for one takes a driver.

use cudarc::driver::sys::CUresult;
use ggrs_simt::driver::{DriverError, DriverFailure};

macro_rules! codes {
    ($($name:ident),* $(,)?) => {
        /// Every code that this version knows, with its name.
        const NAMES: &[(u32, &str)] = &[$((CUresult::$name as u32, stringify!($name))),*];
    };
}

codes! {
    CUDA_SUCCESS,
    CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_OUT_OF_MEMORY,
    CUDA_ERROR_NOT_INITIALIZED,
    CUDA_ERROR_DEINITIALIZED,
    CUDA_ERROR_STUB_LIBRARY,
    CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER,
    CUDA_ERROR_DEVICE_UNAVAILABLE,
    CUDA_ERROR_NO_DEVICE,
    CUDA_ERROR_INVALID_DEVICE,
    CUDA_ERROR_DEVICE_NOT_LICENSED,
    CUDA_ERROR_INVALID_IMAGE,
    CUDA_ERROR_INVALID_CONTEXT,
    CUDA_ERROR_MAP_FAILED,
    CUDA_ERROR_UNMAP_FAILED,
    CUDA_ERROR_NO_BINARY_FOR_GPU,
    CUDA_ERROR_ECC_UNCORRECTABLE,
    CUDA_ERROR_UNSUPPORTED_LIMIT,
    CUDA_ERROR_CONTEXT_ALREADY_IN_USE,
    CUDA_ERROR_PEER_ACCESS_UNSUPPORTED,
    CUDA_ERROR_INVALID_PTX,
    CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
    CUDA_ERROR_JIT_COMPILATION_DISABLED,
    CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY,
    CUDA_ERROR_CONTAINED,
    CUDA_ERROR_INVALID_SOURCE,
    CUDA_ERROR_FILE_NOT_FOUND,
    CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND,
    CUDA_ERROR_SHARED_OBJECT_INIT_FAILED,
    CUDA_ERROR_OPERATING_SYSTEM,
    CUDA_ERROR_INVALID_HANDLE,
    CUDA_ERROR_ILLEGAL_STATE,
    CUDA_ERROR_LOSSY_QUERY,
    CUDA_ERROR_NOT_FOUND,
    CUDA_ERROR_NOT_READY,
    CUDA_ERROR_ILLEGAL_ADDRESS,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
    CUDA_ERROR_LAUNCH_TIMEOUT,
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED,
    CUDA_ERROR_PEER_ACCESS_NOT_ENABLED,
    CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE,
    CUDA_ERROR_CONTEXT_IS_DESTROYED,
    CUDA_ERROR_ASSERT,
    CUDA_ERROR_TOO_MANY_PEERS,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
    CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUDA_ERROR_MISALIGNED_ADDRESS,
    CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUDA_ERROR_INVALID_PC,
    CUDA_ERROR_LAUNCH_FAILED,
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
    CUDA_ERROR_TENSOR_MEMORY_LEAK,
    CUDA_ERROR_NOT_PERMITTED,
    CUDA_ERROR_NOT_SUPPORTED,
    CUDA_ERROR_SYSTEM_NOT_READY,
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
    CUDA_ERROR_MPS_CONNECTION_FAILED,
    CUDA_ERROR_MPS_RPC_FAILURE,
    CUDA_ERROR_MPS_SERVER_NOT_READY,
    CUDA_ERROR_MPS_MAX_CLIENTS_REACHED,
    CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED,
    CUDA_ERROR_MPS_CLIENT_TERMINATED,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
    CUDA_ERROR_STREAM_CAPTURE_MERGE,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
    CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
    CUDA_ERROR_CAPTURED_EVENT,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
    CUDA_ERROR_TIMEOUT,
    CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
    CUDA_ERROR_EXTERNAL_DEVICE,
    CUDA_ERROR_INVALID_CLUSTER_SIZE,
    CUDA_ERROR_FUNCTION_NOT_LOADED,
    CUDA_ERROR_INVALID_RESOURCE_TYPE,
    CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
    CUDA_ERROR_KEY_ROTATION,
    CUDA_ERROR_UNKNOWN,
}

/// After these the context gives nothing but the same code again.
const LOST: &[CUresult] = &[
    CUresult::CUDA_ERROR_DEINITIALIZED,
    CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
    CUresult::CUDA_ERROR_NO_DEVICE,
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_CONTAINED,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
    CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK,
    CUresult::CUDA_ERROR_MPS_RPC_FAILURE,
    CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED,
    CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
];

/// The driver's name for a code.
fn name(code: u32) -> &'static str {
    let known = NAMES.iter().find(|(known, _)| *known == code);
    known.map_or("a code newer than this program", |(_, name)| name)
}

/// What a code means to callers.
fn failure(code: u32) -> DriverFailure {
    if code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32 {
        DriverFailure::OutOfMemory
    } else if code == CUresult::CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER as u32 {
        DriverFailure::Missing
    } else if LOST.iter().any(|lost| *lost as u32 == code) {
        DriverFailure::Lost
    } else {
        DriverFailure::Other
    }
}

/// The error of a call that gave this code.
pub(crate) fn error(call: &'static str, code: u32) -> DriverError {
    DriverError {
        call,
        code: i64::from(code),
        name: name(code).to_owned(),
        failure: failure(code),
    }
}

/// The same for a code that is known by its name.
pub(crate) fn refused(call: &'static str, code: CUresult) -> DriverError {
    error(call, code as u32)
}

/// Did the call give this code?
pub(crate) fn is(error: &DriverError, code: CUresult) -> bool {
    error.code == i64::from(code as u32)
}

/// A call's code as a result.
pub(crate) fn check(call: &'static str, code: u32) -> Result<(), DriverError> {
    if code == CUresult::CUDA_SUCCESS as u32 {
        return Ok(());
    }
    Err(error(call, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names_and_kinds() {
        check("cuInit", 0).unwrap();
        for (code, shown, kind) in [
            (
                1,
                "cuX failed: CUDA_ERROR_INVALID_VALUE (1)",
                DriverFailure::Other,
            ),
            (
                2,
                "cuX failed: CUDA_ERROR_OUT_OF_MEMORY (2)",
                DriverFailure::OutOfMemory,
            ),
            (
                36,
                "cuX failed: CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER (36)",
                DriverFailure::Missing,
            ),
            (
                46,
                "cuX failed: CUDA_ERROR_DEVICE_UNAVAILABLE (46)",
                DriverFailure::Lost,
            ),
            (
                100,
                "cuX failed: CUDA_ERROR_NO_DEVICE (100)",
                DriverFailure::Lost,
            ),
            (
                700,
                "cuX failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)",
                DriverFailure::Lost,
            ),
            (
                719,
                "cuX failed: CUDA_ERROR_LAUNCH_FAILED (719)",
                DriverFailure::Lost,
            ),
            (
                901,
                "cuX failed: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)",
                DriverFailure::Other,
            ),
            (
                4242,
                "cuX failed: a code newer than this program (4242)",
                DriverFailure::Other,
            ),
        ] {
            let error = check("cuX", code).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.failure), (shown, kind));
        }
    }

    #[test]
    fn the_table_has_each_code_once() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
