//! The conformance suite on the CPU device, at every instruction-set level of this machine.
//!
//! A level that is not there is told on the terminal; `GGRS_REQUIRE=amx` makes that a failure.

#![allow(clippy::expect_used, reason = "tests")]

use std::sync::OnceLock;

use ggrs_core::device::{Backend, DeviceName};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_tests::conformance;
use ggrs_tests::conformance::{ONE_DEVICE, Target, available};

/// The CPU at a level, with one, two and three threads.
fn cpu(isa: Isa) -> Option<Target> {
    static TOLD: [OnceLock<bool>; 4] = [const { OnceLock::new() }; 4];
    let is_there = TOLD[isa as usize].get_or_init(|| available(isa.name(), isa.is_available()));
    let name = DeviceName {
        backend: "cpu".to_owned(),
        index: 0,
        members: 1,
    };
    let open = |threads| {
        let options = CpuOptions {
            threads: Some(threads),
            isa,
        };
        CpuBackend::new(options).open(&name).expect("the CPU opens")
    };
    is_there.then(|| Target {
        name: format!("cpu at {isa}"),
        devices: [1, 2, 3].map(open).into(),
    })
}

mod scalar {
    use super::*;
    conformance!(|| cpu(Isa::Scalar), unsupported: ONE_DEVICE);
}

mod avx2 {
    use super::*;
    conformance!(|| cpu(Isa::Avx2), unsupported: ONE_DEVICE);
}

mod avx512 {
    use super::*;
    conformance!(|| cpu(Isa::Avx512), unsupported: ONE_DEVICE);
}

mod amx {
    use super::*;
    conformance!(|| cpu(Isa::Amx), unsupported: ONE_DEVICE);
}
