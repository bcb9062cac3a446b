//! What a GPU measures of itself, on the simulator: only that it runs and gives a rate.

#![allow(clippy::unwrap_used, reason = "tests")]

use ggrs_core::device::Backend as _;
use ggrs_cuda::simt::SimtDevice;
use ggrs_tests::gpu::simulator;

#[test]
fn the_bus_and_the_matrix_units_have_a_rate() {
    let Some(backend) = simulator(32) else {
        return;
    };
    let device = backend.open(&"cuda:0".parse().unwrap()).unwrap();
    let held = device.memory().held;
    for bytes in [1, 3 << 20] {
        let seconds = device.time_upload(bytes).unwrap().unwrap();
        assert!(seconds.is_finite() && seconds > 0.0, "{seconds}");
    }
    let gpu = device.as_any().unwrap().downcast_ref::<SimtDevice>();
    let roof = gpu.unwrap().matrix_roof().unwrap().unwrap();
    assert!(roof.per_second.is_finite() && roof.per_second > 0.0);
    assert_eq!(roof.instruction, "mma.sync");
    assert_eq!(device.memory().held, held);
}
