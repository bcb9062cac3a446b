//! A rule as text: how operands lie, what the rule asks for, how results lie; and that every member can run it.

use ggrs_core::ops::{Op, Operands, SplitOperand, SplitRule};
use ggrs_core::shard::Part;
use ggrs_core::{DType, Shape, Sharding, Split, TensorDesc};

/// `R`, `P`, or the axis and every member's ranges: `1: 0-2,4-6 | - | 2-4,6-8`.
fn sharding(text: &str) -> Sharding {
    match text {
        "R" => Sharding::Replicated,
        "P" => Sharding::Partial,
        _ => {
            let (axis, parts) = text.split_once(": ").expect("an axis");
            let range = |r: &str| {
                let (a, b) = r.split_once('-').expect("a range");
                let [a, b] = [a, b].map(|n| n.parse::<usize>().expect("a number"));
                a..b
            };
            let part = |p: &str| -> Part {
                let ranges = p.split(',').filter(|r| *r != "-");
                ranges.map(range).collect()
            };
            let parts: Vec<Part> = parts.split(" | ").map(part).collect();
            let size = parts.iter().flatten().map(|r| r.end).max().unwrap_or(0);
            let axis = axis.parse().expect("an axis");
            Sharding::Split(Split::new(axis, size, parts).expect("a cut"))
        }
    }
}

fn written(sharding: &Sharding) -> String {
    match sharding {
        Sharding::Replicated => "R".into(),
        Sharding::Partial => "P".into(),
        Sharding::Split(split) => {
            let part = |p: &Part| {
                let ranges: Vec<String> =
                    p.iter().map(|r| format!("{}-{}", r.start, r.end)).collect();
                if ranges.is_empty() {
                    "-".to_owned()
                } else {
                    ranges.join(",")
                }
            };
            let parts: Vec<String> = split.parts().iter().map(part).collect();
            format!("{}: {}", split.axis(), parts.join(" | "))
        }
    }
}

/// An op with its operands.
pub(crate) struct Case {
    op: Op,
    ins: Vec<TensorDesc>,
}

pub(crate) fn f32s<const N: usize>(dims: [usize; N]) -> TensorDesc {
    TensorDesc::new(DType::F32, dims)
}

pub(crate) fn ids<const N: usize>(dims: [usize; N]) -> TensorDesc {
    TensorDesc::new(DType::I32, dims)
}

pub(crate) fn case(op: impl Into<Op>, ins: impl IntoIterator<Item = TensorDesc>) -> Case {
    Case {
        op: op.into(),
        ins: ins.into_iter().collect(),
    }
}

impl Case {
    fn outs(&self) -> Vec<TensorDesc> {
        let ins: Vec<&TensorDesc> = self.ins.iter().collect();
        let operands = Operands::new(&ins, self.op.spec().roles());
        self.op.spec().infer(&operands).expect("infers").into_vec()
    }

    fn rule(&self, lie: &[&str]) -> SplitRule {
        assert_eq!(lie.len(), self.ins.len(), "one sharding per operand");
        let shardings: Vec<Sharding> = lie.iter().map(|s| sharding(s)).collect();
        let ins: Vec<SplitOperand<'_>> = self
            .ins
            .iter()
            .zip(&shardings)
            .map(|(desc, sharding)| SplitOperand { desc, sharding })
            .collect();
        let outs = self.outs();
        let outs: Vec<&TensorDesc> = outs.iter().collect();
        self.op.spec().split(&ins, &outs)
    }

    /// Given operands that lie so, the rule asks for `inputs` and gives `outputs`.
    #[track_caller]
    pub(crate) fn gives(&self, lie: &[&str], inputs: &[&str], outputs: &[&str]) -> &Self {
        let rule = self.rule(lie);
        let inputs_are: Vec<String> = rule.inputs.iter().map(written).collect();
        let outputs_are: Vec<String> = rule.outputs.iter().map(written).collect();
        assert_eq!((inputs_are, outputs_are), (texts(inputs), texts(outputs)));
        self.members_infer(&rule);
        self
    }

    /// The operands stay as they lie.
    #[track_caller]
    pub(crate) fn keeps(&self, lie: &[&str], outputs: &[&str]) -> &Self {
        self.gives(lie, lie, outputs)
    }

    /// On whole values.
    #[track_caller]
    pub(crate) fn whole(&self, lie: &[&str]) -> &Self {
        let outs = vec!["R"; self.outs().len()];
        self.gives(lie, &vec!["R"; self.ins.len()], &outs)
    }

    /// Every member's op accepts its own operands and gives results of its own part's shape.
    #[track_caller]
    fn members_infer(&self, rule: &SplitRule) {
        let all = rule.inputs.iter().chain(&rule.outputs);
        let members = all
            .filter_map(|s| match s {
                Sharding::Split(split) => Some(split.members()),
                _ => None,
            })
            .max()
            .unwrap_or(1);
        let ins: Vec<&TensorDesc> = self.ins.iter().collect();
        let outs = self.outs();
        let lowered_elsewhere = matches!(self.op, Op::TopK(_) | Op::Argmax(_));
        for member in (0..members).filter(|_| !lowered_elsewhere) {
            let own: Vec<TensorDesc> = std::iter::zip(&self.ins, &rule.inputs)
                .map(|(d, s)| TensorDesc::new(d.dtype, own_shape(d, s, member)))
                .collect();
            let shapes: Vec<Shape> = std::iter::zip(&outs, &rule.outputs)
                .map(|(d, s)| own_shape(d, s, member))
                .collect();
            let idle = |d: &TensorDesc| d.shape.elems() == Some(0);
            if own.iter().any(idle) {
                continue;
            }
            let op = self.op.spec().on_member(member, rule, &ins, &shapes);
            let op = op.unwrap_or_else(|| self.op.clone());
            let own: Vec<&TensorDesc> = own.iter().collect();
            let operands = Operands::new(&own, op.spec().roles());
            let inferred = op.spec().infer(&operands).expect("member's op infers");
            let inferred: Vec<Shape> = inferred.into_iter().map(|d| d.shape).collect();
            assert_eq!(inferred, shapes, "member {member} of {rule:?}");
        }
    }

    /// The op of one member.
    pub(crate) fn on(&self, member: usize, lie: &[&str]) -> Option<Op> {
        let rule = self.rule(lie);
        let ins: Vec<&TensorDesc> = self.ins.iter().collect();
        let shapes: Vec<Shape> = std::iter::zip(&self.outs(), &rule.outputs)
            .map(|(d, s)| own_shape(d, s, member))
            .collect();
        self.op.spec().on_member(member, &rule, &ins, &shapes)
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn own_shape(desc: &TensorDesc, sharding: &Sharding, member: usize) -> Shape {
    match sharding {
        Sharding::Split(s) => desc.shape.clone().with(s.axis(), s.len(member)),
        _ => desc.shape.clone(),
    }
}
