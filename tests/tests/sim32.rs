//! The conformance suite on the simulator with warps of 32: the host code and the kernels of CUDA devices, without one.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure.

use ggrs_tests::conformance;
use ggrs_tests::conformance::ONE_DEVICE;
use ggrs_tests::gpu::simulated;

conformance!(|| simulated(32), unsupported: ONE_DEVICE);
