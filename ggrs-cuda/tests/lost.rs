//! A device whose kernel wrote where nothing is: errors say that it is lost, and what to do. A process of its own, as all
//! that the process has of the device goes with it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;

use ggrs_core::device::{Backend as _, DeviceName};
use ggrs_cuda::simt::compile::Compiler as _;
use ggrs_cuda::simt::driver::{Driver, DriverError, DriverFailure, Geometry};
use ggrs_cuda::{CudaBackend, Nvrtc};

const SOURCE: &str = "extern \"C\" __global__ void put(int *to) { *to = 7; }";

/// Lets a kernel write a number to an address and waits for it.
fn put(driver: &dyn Driver, image: &[u8], address: u64) -> Result<(), DriverError> {
    let module = driver.load(image)?;
    let function = driver.function(module, "put", 0)?;
    let stream = driver.create_stream()?;
    let geometry = Geometry {
        grid: [1, 1, 1],
        threads: 1,
        shared_bytes: 0,
        overlaps: false,
    };
    // SAFETY: the parameter is the kernel's; where it points is what is tested, and the device checks it.
    unsafe { driver.launch(stream, function, &geometry, &address.to_le_bytes()) }?;
    driver.synchronize(stream)
}

#[test]
fn a_lost_device_is_told() {
    let backend = CudaBackend::from_env();
    let compiler = Nvrtc::from_env();
    let there = backend.probe().map_err(|e| e.to_string());
    if let Err(reason) = there.and_then(|_| compiler.probe().map_err(|e| e.to_string())) {
        // Not a print macro: the harness hides those of tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: {reason}");
        return;
    }
    let name: DeviceName = "cuda:0".parse().unwrap();
    let driver = backend.driver(&name).unwrap();
    if driver.facts().is_simulated {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: a simulated device shares its memory with the test"
        );
        return;
    }
    let image = compiler
        .compile("put", SOURCE, &[], &driver.facts().arch)
        .unwrap()
        .image;
    let place = driver.alloc(256).unwrap();
    put(&*driver, &image, place.0).unwrap();
    let error = put(&*driver, &image, 4096).unwrap_err();
    assert_eq!(error.failure, DriverFailure::Lost, "{error}");
    let again = driver.alloc(256).unwrap_err();
    assert_eq!(again.failure, DriverFailure::Lost, "{again}");
    driver.free(place);
    drop(driver);

    // The driver gives the process nothing of the device any more; that is told too.
    let error = backend.open(&name).err().unwrap().to_string();
    assert!(error.contains("this process has lost it (cu"), "{error}");
    assert!(error.ends_with("start the program again"), "{error}");
}
