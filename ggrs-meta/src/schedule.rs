//! When which member does what: the members' steps between handovers to other devices, cut where the members meet in a
//! collective. It knows plans and moves nothing.
//!
//! Members lack what their parts have no need of: steps, and handovers whose part is empty. All have the same
//! collectives in the same order, which is how one member's steps are matched with another's.

use std::ops::Range;

use ggrs_core::PlanError;
use ggrs_core::ops::{Collective, Op};
use ggrs_core::plan::{Plan, PlanParts};
use smallvec::SmallVec;

/// What all members do between two handovers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Steps of the whole plan.
    pub(crate) steps: Range<usize>,
    pub(crate) phases: Vec<Phase>,
}

/// What members do side by side, and the collective in which they then meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Steps of each member's plan.
    pub(crate) steps: SmallVec<[Range<usize>; 4]>,
    /// The collective by its number.
    pub(crate) then: Option<usize>,
}

/// The order of a plan over members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) gaps: Vec<Gap>,
    /// For each collective its step in each member's plan.
    pub(crate) collectives: Vec<SmallVec<[usize; 4]>>,
}

/// A handover to another device: is it a receive, and its tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Handover {
    receives: bool,
    tag: u32,
}

impl Handover {
    fn of(op: &Op) -> Option<Self> {
        let (receives, tag) = match op {
            Op::Send(op) => (false, op.tag),
            Op::Receive(op) => (true, op.tag),
            _ => return None,
        };
        Some(Self { receives, tag })
    }
}

/// The exchanges of one member's plan.
struct Member<'a> {
    plan: &'a Plan,
    name: &'a str,
    /// Step of each handover of the whole plan, if the member has it.
    handovers: Vec<Option<usize>>,
    /// Step of each collective.
    collectives: Vec<usize>,
}

impl Schedule {
    /// The order of `whole`, whose members are called `names`.
    ///
    /// # Errors
    /// Members that do not meet in the same collectives, or hand over what the whole plan does not.
    pub(crate) fn new(whole: &PlanParts, names: &[String]) -> Result<Self, PlanError> {
        let (spans, handovers) = handovers_of(whole);
        let members = whole.members.iter().zip(names);
        let members = members
            .map(|(plan, name)| Member::new(plan, name, &handovers))
            .collect::<Result<Vec<_>, _>>()?;
        let n_collectives = check_alike(&members)?;
        let met = collectives_before(&members, handovers.len(), n_collectives)?;

        let mut begins: SmallVec<[usize; 4]> = SmallVec::from_elem(0, members.len());
        let mut gaps = Vec::with_capacity(spans.len());
        for (i, steps) in spans.into_iter().enumerate() {
            let first = i
                .checked_sub(1)
                .and_then(|i| met.get(i))
                .copied()
                .unwrap_or(0);
            let last = met.get(i).copied().unwrap_or(n_collectives);
            let mut phases = Vec::with_capacity(last.saturating_sub(first) + 1);
            for collective in first..last {
                let to = members.iter().filter_map(|m| m.collectives.get(collective));
                let to: SmallVec<[usize; 4]> = to.copied().collect();
                phases.push(Phase {
                    steps: begins.iter().zip(&to).map(|(b, e)| *b..*e).collect(),
                    then: Some(collective),
                });
                begins = to.iter().map(|step| step + 1).collect();
            }
            let ends: SmallVec<[(usize, usize); 4]> =
                members.iter().map(|m| m.end_of_gap(i, last)).collect();
            let rest: SmallVec<[Range<usize>; 4]> = begins
                .iter()
                .zip(&ends)
                .map(|(b, (e, _))| *b..(*e).max(*b))
                .collect();
            if rest.iter().any(|steps| !steps.is_empty()) {
                phases.push(Phase {
                    steps: rest,
                    then: None,
                });
            }
            begins = ends
                .iter()
                .zip(&begins)
                .map(|((_, next), b)| *next.max(b))
                .collect();
            gaps.push(Gap { steps, phases });
        }
        let step_of = |c: usize| {
            members
                .iter()
                .filter_map(|m| m.collectives.get(c).copied())
                .collect()
        };
        Ok(Self {
            gaps,
            collectives: (0..n_collectives).map(step_of).collect(),
        })
    }

    /// The gap that stands for these steps of the whole plan.
    pub(crate) fn gap(&self, steps: &Range<usize>) -> Option<&Gap> {
        let at = self
            .gaps
            .partition_point(|gap| gap.steps.start < steps.start);
        self.gaps.get(at).filter(|gap| gap.steps == *steps)
    }
}

/// The steps of a plan between its handovers, and the handovers.
fn handovers_of(whole: &PlanParts) -> (Vec<Range<usize>>, Vec<Handover>) {
    let (mut spans, mut handovers, mut start) = (Vec::new(), Vec::new(), 0);
    for (i, step) in whole.steps.iter().enumerate() {
        if let Some(handover) = Handover::of(&whole.graph.node(step.node).op)
            && step.is_exchange
        {
            spans.push(start..i);
            handovers.push(handover);
            start = i + 1;
        }
    }
    spans.push(start..whole.steps.len());
    (spans, handovers)
}

impl<'a> Member<'a> {
    fn new(plan: &'a Plan, name: &'a str, whole: &[Handover]) -> Result<Self, PlanError> {
        let mut member = Self {
            plan,
            name,
            handovers: vec![None; whole.len()],
            collectives: Vec::new(),
        };
        let mut behind = 0;
        for (i, step) in plan.steps.iter().enumerate().filter(|(_, s)| s.is_exchange) {
            let op = &plan.graph.node(step.node).op;
            let Some(handover) = Handover::of(op) else {
                member.collectives.push(i);
                continue;
            };
            // The whole plan's order is every member's.
            let ahead = whole.iter().skip(behind).position(|h| *h == handover);
            let Some(at) = ahead.map(|ahead| behind + ahead) else {
                return Err(PlanError::Disagree {
                    at: i,
                    first: "the whole".to_owned(),
                    first_op: "something else".to_owned(),
                    second: name.to_owned(),
                    second_op: format!("{} {}", op.spec().stem(), handover.tag),
                });
            };
            if let Some(slot) = member.handovers.get_mut(at) {
                *slot = Some(i);
            }
            behind = at + 1;
        }
        Ok(member)
    }

    /// Where the member's steps before handover `i` of the whole end and those after it begin, if `met` collectives
    /// come before it.
    fn end_of_gap(&self, i: usize, met: usize) -> (usize, usize) {
        if let Some(Some(step)) = self.handovers.get(i) {
            return (*step, step + 1);
        }
        // It has no part in that one: up to whatever comes next.
        let later = self.handovers.iter().skip(i).flatten().next();
        let next = [later, self.collectives.get(met)];
        let end = next.into_iter().flatten().min();
        let end = end.copied().unwrap_or(self.plan.steps.len());
        (end, end)
    }

    fn collective(&self, i: usize) -> Option<(&Collective, &str)> {
        let step = self.plan.steps.get(*self.collectives.get(i)?)?;
        let node = self.plan.graph.node(step.node);
        match &node.op {
            Op::Collective(op) => Some((op, &node.name)),
            _ => None,
        }
    }

    fn describe(&self, i: usize) -> String {
        self.collective(i).map_or_else(
            || "nothing".to_owned(),
            |(op, node)| format!("{:?} \"{node}\"", op.kind),
        )
    }
}

/// The number of collectives, if all members have the same.
fn check_alike(members: &[Member<'_>]) -> Result<usize, PlanError> {
    let Some((first, others)) = members.split_first() else {
        return Ok(0);
    };
    for other in others {
        let n = first.collectives.len().max(other.collectives.len());
        let kind = |m: &Member<'_>, i| m.collective(i).map(|(op, _)| op.kind);
        if let Some(at) = (0..n).find(|i| kind(first, *i) != kind(other, *i)) {
            return Err(disagreement(
                at,
                (first, first.describe(at)),
                (other, other.describe(at)),
            ));
        }
    }
    Ok(first.collectives.len())
}

fn disagreement(
    at: usize,
    (first, first_op): (&Member<'_>, String),
    (second, second_op): (&Member<'_>, String),
) -> PlanError {
    PlanError::Disagree {
        at,
        first: first.name.to_owned(),
        first_op,
        second: second.name.to_owned(),
        second_op,
    }
}

/// For each handover, how many collectives come before it, as all members say that have it.
fn collectives_before(
    members: &[Member<'_>],
    n_handovers: usize,
    n_collectives: usize,
) -> Result<Vec<usize>, PlanError> {
    let mut met = Vec::with_capacity(n_handovers);
    let mut before = 0;
    for i in 0..n_handovers {
        let says = members.iter().filter_map(|m| {
            let step = (*m.handovers.get(i)?)?;
            Some((m, m.collectives.partition_point(|c| *c < step)))
        });
        let mut says = says.peekable();
        if let Some((first, count)) = says.peek().copied() {
            if let Some((other, _)) = says.find(|(_, other)| *other != count) {
                let op = |m: &Member<'_>| m.describe(count.min(n_collectives));
                return Err(disagreement(i, (first, op(first)), (other, op(other))));
            }
            before = count;
        }
        met.push(before);
    }
    Ok(met)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ggrs_core::device::{Backend, Precision, Route};
    use ggrs_core::ops::{CollectiveKind, Receive, Send, UnaryKind};
    use ggrs_core::passes::PassSet;
    use ggrs_core::plan::{PlanOptions, plan};
    use ggrs_core::{DType, GraphBuilder, TensorDesc};
    use ggrs_cpu::CpuBackend;

    use super::*;
    use crate::gaps::fill_gaps;

    /// What a graph does, one after the other.
    #[derive(Clone, Copy)]
    enum Do {
        Compute,
        Reduce,
        Gather,
        Send(u32),
        Receive(u32),
    }
    use Do::{Compute, Gather, Reduce};

    fn planned(what: &[Do]) -> Arc<Plan> {
        let mut g = GraphBuilder::new();
        let mut x = g.input("x", DType::F32, [4]).unwrap();
        for step in what {
            match *step {
                Compute => x = g.unary(UnaryKind::Silu, x).unwrap(),
                Reduce => x = g.collective(CollectiveKind::AllReduce, 2, x).unwrap(),
                Gather => {
                    let kind = CollectiveKind::AllGather { axis: 0 };
                    x = g.collective(kind, 2, x).unwrap();
                }
                Do::Send(tag) => {
                    g.push(Send { tag }, &[x]).unwrap();
                }
                Do::Receive(tag) => {
                    let desc = TensorDesc::new(DType::F32, [4]);
                    x = g.push(Receive { tag, desc }, &[]).unwrap()[0];
                }
            }
        }
        g.output("x", x).unwrap();
        let options = PlanOptions {
            passes: PassSet::none(),
            collectives: Some(Route::outside("host", "test")),
            ..PlanOptions::default()
        };
        let device = CpuBackend::default().open(&"cpu".parse().unwrap()).unwrap();
        Arc::new(plan(&g.seal().unwrap(), &*device, &options).unwrap())
    }

    fn whole(steps: &[Do], members: [&[Do]; 2]) -> PlanParts {
        let graph = Arc::clone(&planned(steps).graph);
        let members = members.into_iter().map(planned).collect();
        PlanParts::of_members(&graph, Precision::Exact, members, Vec::new())
    }

    fn scheduled(whole: &PlanParts) -> Result<Schedule, PlanError> {
        Schedule::new(whole, &["a".to_owned(), "b".to_owned()])
    }

    /// For each gap its steps, and for each of its phases the members' steps.
    fn shown(schedule: &Schedule) -> Vec<String> {
        let phase = |p: &Phase| match p.then {
            Some(c) => format!("{:?} then {c}", p.steps),
            None => format!("{:?}", p.steps),
        };
        let gaps = schedule.gaps.iter();
        let shown = gaps.map(|g| {
            let phases: Vec<String> = g.phases.iter().map(phase).collect();
            format!("{:?}: {}", g.steps, phases.join(", "))
        });
        shown.collect()
    }

    #[test]
    fn members_meet_in_collectives_between_handovers() {
        let steps = [Compute, Do::Send(0), Compute, Do::Receive(0), Compute];
        let first = [
            Compute,
            Reduce,
            Do::Send(0),
            Compute,
            Do::Receive(0),
            Compute,
            Reduce,
            Compute,
        ];
        let second = [
            Reduce,
            Do::Send(0),
            Do::Receive(0),
            Compute,
            Compute,
            Reduce,
        ];
        let schedule = scheduled(&whole(&steps, [&first, &second])).unwrap();
        assert_eq!(
            shown(&schedule),
            [
                "0..1: [0..1, 0..0] then 0",
                "2..3: [3..4, 2..2]",
                "4..5: [5..6, 3..5] then 1, [7..8, 6..6]",
            ]
        );
        assert_eq!(schedule.collectives.len(), 2);
        assert_eq!(schedule.collectives[1].as_slice(), [6, 5]);
        assert_eq!(schedule.gap(&(2..3)), schedule.gaps.get(1));
        assert_eq!(schedule.gap(&(2..4)), None);
    }

    #[test]
    fn a_member_without_a_handover_keeps_step_with_the_others() {
        let steps = [Compute, Do::Receive(7), Compute];
        let first = [
            Compute,
            Reduce,
            Compute,
            Do::Receive(7),
            Compute,
            Reduce,
            Compute,
        ];
        let second = [Reduce, Compute, Reduce, Compute];
        for (members, expected) in [
            (
                [&first[..], &second[..]],
                [
                    "0..1: [0..1, 0..0] then 0, [2..3, 1..2]",
                    "2..3: [4..5, 2..2] then 1, [6..7, 3..4]",
                ],
            ),
            (
                [&second[..], &first[..]],
                [
                    "0..1: [0..0, 0..1] then 0, [1..2, 2..3]",
                    "2..3: [2..2, 4..5] then 1, [3..4, 6..7]",
                ],
            ),
        ] {
            assert_eq!(
                shown(&scheduled(&whole(&steps, members)).unwrap()),
                expected
            );
        }
        // A later handover ends what may come before an earlier one, too.
        let steps = [Compute, Do::Receive(7), Compute, Do::Send(8)];
        let members: [&[Do]; 2] = [
            &[Do::Receive(7), Compute, Do::Send(8)],
            &[Compute, Do::Send(8), Compute],
        ];
        let schedule = scheduled(&whole(&steps, members)).unwrap();
        assert_eq!(
            shown(&schedule),
            [
                "0..1: [0..0, 0..1]",
                "2..3: [1..2, 1..1]",
                "4..4: [3..3, 2..3]"
            ]
        );
    }

    #[test]
    fn a_gap_without_a_step_gets_one_if_members_need_it() {
        let steps = [Compute, Do::Send(0), Do::Send(1), Do::Receive(2)];
        let member = [
            Compute,
            Reduce,
            Do::Send(0),
            Reduce,
            Do::Send(1),
            Do::Receive(2),
            Compute,
        ];
        let mut whole = whole(&steps, [&member, &member]);
        let before = scheduled(&whole).unwrap();
        fill_gaps(&mut whole, &before);
        let expected = [
            "0..1: [0..1, 0..1] then 0",
            "2..3: [3..3, 3..3] then 1",
            "4..4: ",
            "5..6: [6..7, 6..7]",
        ];
        let after = scheduled(&whole).unwrap();
        assert_eq!(shown(&after), expected);
        assert_eq!(after.collectives, before.collectives);
        let exchanges: Vec<bool> = whole.steps.iter().map(|s| s.is_exchange).collect();
        assert_eq!(exchanges, [false, true, false, true, true, false]);
    }

    #[test]
    fn members_that_do_not_meet_are_refused() {
        let steps = [Compute, Do::Send(0)];
        for (first, second, at) in [
            (&[Reduce, Do::Send(0)][..], &[Gather, Do::Send(0)][..], 0),
            (&[Reduce, Do::Send(0)], &[Reduce, Reduce, Do::Send(0)], 1),
            (&[Reduce, Do::Send(0)], &[Do::Send(0), Reduce], 0),
            (&[Do::Send(0)], &[Do::Send(0), Do::Send(1)], 1),
        ] {
            let error = scheduled(&whole(&steps, [first, second])).unwrap_err();
            let PlanError::Disagree {
                at: found, second, ..
            } = &error
            else {
                panic!("{error}");
            };
            assert_eq!((*found, &**second), (at, "b"), "{error}");
        }
    }
}
