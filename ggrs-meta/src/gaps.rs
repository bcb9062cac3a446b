//! Steps that stand for what members do where the whole plan has none. It moves nothing.

use ggrs_core::device::Route;
use ggrs_core::plan::{PlanParts, Step};

use crate::schedule::Schedule;

/// Gives every gap of a plan in which members have something to do, and the whole has no step, a step of its own:
/// whoever drives the plan runs the steps between handovers, and must come by.
pub(crate) fn fill_gaps(whole: &mut PlanParts, schedule: &Schedule) {
    for gap in schedule.gaps.iter().rev() {
        let at = gap.steps.start;
        if !gap.steps.is_empty() || gap.phases.is_empty() {
            continue;
        }
        // Steps that hand over are found by their nodes, so this one stands at another.
        let node = whole.graph.iter().find(|(_, node)| !node.op.is_exchange());
        let device = whole.steps.first().map(|s| s.device);
        let device = device.or_else(|| whole.weights.first().map(|w| w.device));
        let device = device.or_else(|| whole.states.first().map(|s| s.device));
        let (Some((node, _)), Some(device)) = (node, device) else {
            continue;
        };
        let route = Route::outside("members", "what members do between two handovers");
        whole.steps.insert(
            at,
            Step {
                node,
                device,
                route,
                is_exchange: false,
                scratch_offset: 0,
            },
        );
    }
}
