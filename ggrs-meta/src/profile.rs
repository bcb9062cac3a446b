//! Timing kernels on all members at once. A kernel that runs collectives comes to its end only if all members run it:
//! here is said which do, and that they meet in the same ones.

use ggrs_core::ExecError;
use ggrs_core::device::KernelTime;
use ggrs_core::ops::{CollectiveKind, Op};
use ggrs_core::plan::Plan;

/// A collective that a kernel runs: its kind and the elements that a member gives.
type Meeting = (CollectiveKind, Option<usize>);

/// The collectives that the kernel of this name runs in a member's plan, in order.
fn meetings(plan: &Plan, kernel: &str) -> Vec<Meeting> {
    let mut runs = false;
    let mut found = Vec::new();
    for step in &plan.steps {
        // A step that is part of another runs with the last that is not.
        if step.is_exchange || !step.route.is_fused() {
            runs = !step.is_exchange && step.route.kernel == kernel;
        }
        let node = plan.graph.node(step.node);
        if let (true, Op::Collective(op)) = (runs, &node.op) {
            let given = node.inputs.first().map(|v| plan.graph.desc(*v));
            found.push((op.kind, given.and_then(|desc| desc.shape.elems())));
        }
    }
    found
}

/// All members must run the same collectives in the kernel of this name, or none of them would come to its end.
pub(crate) fn check_meetings<'a>(
    kernel: &str,
    members: impl IntoIterator<Item = (&'a str, &'a Plan)>,
) -> Result<(), ExecError> {
    let mut members = members.into_iter();
    let Some((first, plan)) = members.next() else {
        return Ok(());
    };
    let expected = meetings(plan, kernel);
    for (second, plan) in members {
        let found = meetings(plan, kernel);
        let n = expected.len().max(found.len());
        if let Some(at) = (0..n).find(|i| expected.get(*i) != found.get(*i)) {
            return Err(ExecError::Unmatched {
                kernel: kernel.to_owned(),
                at,
                first: first.to_owned(),
                first_op: describe(expected.get(at)),
                second: second.to_owned(),
                second_op: describe(found.get(at)),
            });
        }
    }
    Ok(())
}

fn describe(meeting: Option<&Meeting>) -> String {
    match meeting {
        Some((kind, Some(n))) => format!("{kind:?} of {n}"),
        Some((kind, None)) => format!("{kind:?}"),
        None => "nothing".to_owned(),
    }
}

/// The kernels of all members, each once, in the order in which all time them.
pub(crate) fn union(members: Vec<Vec<String>>) -> Vec<String> {
    let mut all: Vec<String> = members.into_iter().flatten().collect();
    all.sort();
    all.dedup();
    all
}

/// A kernel takes as long as on the slowest member.
pub(crate) fn slowest(times: impl IntoIterator<Item = KernelTime>) -> Option<KernelTime> {
    let times = times.into_iter();
    times.max_by(|a, b| a.seconds.total_cmp(&b.seconds))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ggrs_core::device::Backend as _;
    use ggrs_core::device::null::NullBackend;
    use ggrs_core::ops::CollectiveKind::AllReduce;
    use ggrs_core::plan::{PlanOptions, plan};
    use ggrs_core::{DType, GraphBuilder};

    use super::*;

    /// A plan whose device runs these collectives itself, over so many elements.
    fn planned(collectives: &[CollectiveKind], n: usize) -> Arc<Plan> {
        let mut g = GraphBuilder::new();
        let mut x = g.input("x", DType::F32, [n]).unwrap();
        for kind in collectives {
            x = g.collective(*kind, 2, x).unwrap();
        }
        let y = g.scale(x, 2.0, 0.0).unwrap();
        g.output("y", y).unwrap();
        let backend = NullBackend {
            memory_bytes: 1 << 20,
        };
        let device = backend.open(&"null".parse().unwrap()).unwrap();
        let planned = plan(&g.seal().unwrap(), &*device, &PlanOptions::default());
        Arc::new(planned.unwrap())
    }

    #[test]
    fn members_time_a_kernel_together_only_if_they_meet_in_it() {
        let one = planned(&[AllReduce, AllReduce], 8);
        let kernel = one
            .steps
            .first()
            .map(|s| s.route.kernel.to_string())
            .unwrap();
        let check = |other: &Plan| check_meetings(&kernel, [("a", &*one), ("b", other)]);
        assert_eq!(check(&planned(&[AllReduce, AllReduce], 8)), Ok(()));
        let said = |other: &Plan| check(other).unwrap_err().to_string();
        let start = format!("{kernel} cannot be timed by itself: ");
        for (other, at) in [
            (
                planned(&[AllReduce], 8),
                "collective 1 in it is AllReduce of 8 on a and nothing on b",
            ),
            (
                planned(&[AllReduce, AllReduce], 6),
                "collective 0 in it is AllReduce of 8 on a and AllReduce of 6 on b",
            ),
        ] {
            assert_eq!(said(&other), format!("{start}{at}"));
        }
    }

    #[test]
    fn the_slowest_member_counts() {
        let time = |kernel: &str, seconds| KernelTime {
            kernel: kernel.to_owned(),
            n_times: 1,
            n_launches: 1,
            seconds,
        };
        let slow = slowest([time("a", 1.0), time("a", 3.0), time("a", 2.0)]);
        assert_eq!(slow, Some(time("a", 3.0)));
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        assert_eq!(
            union(vec![names(&["a", "c"]), names(&["b", "c"])]),
            ["a", "b", "c"]
        );
    }
}
