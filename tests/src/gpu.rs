//! GPUs as targets of tests: the real ones of this machine, and the simulator.

use std::sync::{Arc, OnceLock};

use ggrs_core::device::{Backend, Device};
use ggrs_cuda::CudaBackend;

use crate::conformance::{Target, Unsupported, available};

/// Collectives of several members are for a meta device, which runs them between its members.
pub const UNSUPPORTED: &[Unsupported] = &[
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

/// The first CUDA device, once per process; `None`, told on the terminal, where there is none.
pub fn cuda() -> Option<Target> {
    static DEVICE: OnceLock<Option<Arc<dyn Device>>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let name = "cuda:0".parse().ok()?;
        let opened = CudaBackend::from_env().open(&name);
        available("cuda", opened.is_ok()).then_some(opened.ok()?)
    });
    device.as_ref().map(|device| Target {
        name: device.info().hardware,
        devices: vec![Arc::clone(device)],
    })
}
