//! Machines without CUDA: no library, a library that is no driver, drivers that see nothing or are too old. The drivers
//! are stubs of a few lines; without a C compiler that is told.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use ggrs_core::DeviceError;
use ggrs_core::device::{Backend as _, DeviceName};
use ggrs_cuda::{CudaBackend, NoCuda};

/// What a driver that drives nothing answers.
struct Stub {
    version: u32,
    init: u32,
    count: u32,
}

/// A backend over a folder with such a driver; `None` if it cannot be built.
fn backend(folder: &Path, stub: &Stub) -> Option<CudaBackend> {
    let Stub {
        version,
        init,
        count,
    } = stub;
    let source = folder.join("stub.c");
    let text = format!(
        "int cuInit(unsigned flags) {{ return {init}; }}\n\
         int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}\n\
         int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}\n"
    );
    std::fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .arg(&source);
    match cc.status() {
        Ok(status) => assert!(status.success(), "the stub does not compile"),
        Err(error) => {
            // Not a print macro: the harness hides those of tests that pass.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: no C compiler for a stub: {error}"
            );
            return None;
        }
    }
    Some(CudaBackend::in_folder(folder))
}

/// Every way to ask a backend without devices gives the reason, or none.
fn check(backend: &CudaBackend, expected: &NoCuda) {
    assert_eq!(backend.probe().unwrap_err(), *expected);
    assert!(backend.enumerate().unwrap().is_empty());
    let name: DeviceName = "cuda:0".parse().unwrap();
    let error = backend.open(&name).err().unwrap();
    let reason = expected.to_string();
    let device = "cuda:0".to_owned();
    assert_eq!(error, DeviceError::Unavailable { device, reason });
}

#[test]
fn no_library() {
    let folder = tempfile::tempdir().unwrap();
    let tried = folder.path().join("libcuda.so").display().to_string();
    let expected = NoCuda::Absent {
        tried: vec![tried.clone()],
    };
    check(&CudaBackend::in_folder(folder.path()), &expected);
    assert_eq!(
        expected.to_string(),
        format!(
            "the NVIDIA driver's library was not found (tried {tried}); install the driver, or name its folder in GGRS_CUDA_DIR"
        )
    );
}

#[test]
fn a_file_that_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libcuda.so");
    std::fs::write(&file, "nothing").unwrap();
    let backend = CudaBackend::in_folder(folder.path());
    let error = backend.probe().unwrap_err();
    assert!(
        matches!(&error, NoCuda::Refused { file: f, .. } if Path::new(f) == file),
        "{error}"
    );
    check(&backend, &error);
}

#[test]
fn drivers_that_drive_nothing() {
    let failed = |code: i64, name: &str| {
        let call = "cuInit";
        let failure = ggrs_cuda::simt::driver::DriverFailure::Other;
        let name = name.to_owned();
        NoCuda::Failed(ggrs_cuda::simt::driver::DriverError {
            call,
            code,
            name,
            failure,
        })
    };
    for (version, init, count, expected, shown) in [
        (13000, 100, 0, NoCuda::NoDevice, "sees no device"),
        (13000, 0, 0, NoCuda::NoDevice, "sees no device"),
        (
            12020,
            34,
            0,
            NoCuda::Stub,
            "take its folder (lib64/stubs) out of LD_LIBRARY_PATH",
        ),
        (
            13000,
            803,
            0,
            failed(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
            "does not start: cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)",
        ),
        // One device and none of the functions to use it.
        (
            13000,
            0,
            1,
            NoCuda::Incomplete {
                function: "cuDeviceGet",
            },
            "has no function cuDeviceGet",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let stub = Stub {
            version,
            init,
            count,
        };
        let Some(backend) = backend(folder.path(), &stub) else {
            return;
        };
        check(&backend, &expected);
        assert!(expected.to_string().contains(shown), "{expected}");
    }
}

#[test]
fn a_driver_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub {
        version: 11080,
        init: 0,
        count: 1,
    };
    let Some(backend) = backend(folder.path(), &stub) else {
        return;
    };
    let error = backend.probe().unwrap_err();
    assert!(matches!(error, NoCuda::TooOld { .. }));
    assert_eq!(
        error.to_string(),
        "the NVIDIA driver is too old: it runs CUDA 11.8, 12.0 or newer is needed; update the driver"
    );
    check(&backend, &error);
}

#[test]
fn members_of_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let name: DeviceName = "cuda:1/2".parse().unwrap();
    let error = CudaBackend::in_folder(folder.path())
        .open(&name)
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "cuda:1/2 is not available: a GPU is not cut into members; name whole ones, joined by + to work as one (cuda:0+cuda:1)"
    );
}

/// Whatever this machine has, asking is safe.
#[test]
fn this_machine() {
    match ggrs_cuda::probe() {
        Ok(present) => assert!(present.n_devices > 0),
        Err(none) => assert!(!none.to_string().is_empty()),
    }
}
