//! Placements on devices made of several: every tensor split over members of the CPU or over fakes.

use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::{Device, Precision};
use ggrs_meta::{ExpertSplit, MetaDevice, MetaOptions};
use ggrs_model::arch::StepShape;
use ggrs_model::{Deployment, Model, SplitMode};
use ggrs_sched::{Placement, SchedPlan};
use ggrs_tests::placed::{cpu_members, load};

use crate::placed_graph::{exact, n_split};

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

/// The plan of a model's step of so many tokens.
pub(crate) fn plan_of(model: &Model, n_tokens: usize) -> SchedPlan {
    let shape = StepShape {
        max_tokens: 64,
        n_slots: 1,
        n_blocks: 1,
        block: 64,
        kv_dtype: DType::F32,
        decode: None,
    };
    let graph = model.graph(&shape).unwrap();
    let sizes: Vec<(&str, usize)> = graph.symbols().iter().map(|s| (s.name, n_tokens)).collect();
    SchedPlan::new(&graph.bind(&sizes).unwrap(), model.placement(), &exact()).unwrap()
}

/// A fixture model whose weights are really cut over members.
pub(crate) fn load_split(fixture: &str, placement: Placement, precision: Precision) -> Arc<Model> {
    let model = load(fixture, placement, precision);
    assert!(n_split(&plan_of(&model, 1)) > 8, "{fixture} is not split");
    model
}
