//! The conformance suite on the first CUDA device of this machine.
//!
//! Without one it is told on the terminal; `GGRS_REQUIRE=cuda` makes that a failure.

#![allow(clippy::expect_used, reason = "tests")]

use ggrs_tests::conformance;
use ggrs_tests::conformance::ONE_DEVICE;
use ggrs_tests::gpu::cuda;

conformance!(cuda, unsupported: ONE_DEVICE);
