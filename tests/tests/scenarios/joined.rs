//! Placements on devices made of several: every tensor split over members of the CPU or over fakes.

use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_meta::{ExpertSplit, MetaDevice, MetaOptions};
use ggrs_model::{Deployment, SplitMode};
use ggrs_sched::Placement;
use ggrs_tests::placed::cpu_members;

/// Members as one device, with shares; none for even ones.
pub(crate) fn joined(members: Vec<Arc<dyn Device>>, ratios: &[f64]) -> Arc<MetaDevice> {
    let options = MetaOptions {
        ratios: ratios.to_vec(),
        ..MetaOptions::default()
    };
    MetaDevice::new(members, options).expect("members become one")
}

/// Everything on such a device.
pub(crate) fn split_over(members: Vec<Arc<dyn Device>>, ratios: &[f64]) -> Placement {
    Placement::on(joined(members, ratios))
}

/// Everything split over `n` members of the CPU.
pub(crate) fn cpu_split(n: usize, ratios: &[f64]) -> Placement {
    split_over(cpu_members(n), ratios)
}

/// `--split tensor` over `n` members of the CPU, with the whole CPU as the host.
pub(crate) fn tensor_deployment(n: usize, shares: &[f64]) -> Deployment {
    Deployment {
        devices: cpu_members(n).into_iter().map(|d| vec![d]).collect(),
        host: Some(cpu_members(1).remove(0)),
        split: SplitMode::Tensor,
        shares: shares.to_vec(),
        experts: ExpertSplit::default(),
        ..Deployment::default()
    }
}
