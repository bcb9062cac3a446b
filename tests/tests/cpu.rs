//! The conformance suite on the CPU device, at every instruction-set level of this machine.
//!
//! A level that is not there is told on the terminal; `GGRS_REQUIRE=amx` makes that a failure.

#![allow(clippy::expect_used, reason = "tests")]

use std::sync::OnceLock;

use ggrs_core::device::{Backend, DeviceName};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_tests::conformance;
use ggrs_tests::conformance::{Target, Unsupported, available};

/// Collectives of several members are for a meta device, which runs them between its members.
const UNSUPPORTED: &[Unsupported] = &[
    Unsupported {
        stem: "all_reduce",
        row: "Exchange { kind: AllReduce, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
    Unsupported {
        stem: "all_gather",
        row: "Exchange { kind: AllGather { axis: 1 }, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
    Unsupported {
        stem: "reduce_scatter",
        row: "Exchange { kind: ReduceScatter { axis: 1 }, members: 2, shape: [3, 4] }",
        reason: "several members are a meta device's business",
    },
];

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
    conformance!(|| cpu(Isa::Scalar), unsupported: UNSUPPORTED);
}

mod avx2 {
    use super::*;
    conformance!(|| cpu(Isa::Avx2), unsupported: UNSUPPORTED);
}

mod avx512 {
    use super::*;
    conformance!(|| cpu(Isa::Avx512), unsupported: UNSUPPORTED);
}

mod amx {
    use super::*;
    conformance!(|| cpu(Isa::Amx), unsupported: UNSUPPORTED);
}
