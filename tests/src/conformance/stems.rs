//! Every op stem of the core, from one sample of each op and the kinds it comes in.

use std::sync::Arc;

use ggrs_core::ops::{
    AddRmsNorm, Argmax, Argsort, Attention, Binary, BinaryKind, Broadcast, CacheWrite, Cast, Clamp,
    Collective, CollectiveKind, Concat, ConstData, Contiguous, CumSum, GatedDeltaNet, Gating,
    GetRows, Glu, GluInput, GluKind, L2Norm, LayerNorm, Leaf, LeafKind, MatMul, MatMulGlu,
    MatMulId, MatMulIdGlu, Op, Permute, Reduce, ReduceKind, Reshape, RmsNorm, Rope, RopeMode,
    RouteExperts, Sample, Scale, SetRows, Slice, Softmax, SortOrder, SsmConv, Store, TopK, Unary,
    UnaryKind, Visibility, Yarn,
};
use ggrs_core::{DType, Real, Shape, TensorDesc};

/// Every op of the core, in every kind that has a stem of its own.
fn samples() -> Vec<Op> {
    let (one, shape) = (Real(1.0), Shape::from([1]));
    let leaf = |kind| {
        Leaf {
            kind,
            desc: TensorDesc::new(DType::F32, [1]),
            role: Arc::default(),
        }
        .into()
    };
    let constant = LeafKind::Constant(ConstData(vec![0; 4].into()));
    let mut ops: Vec<Op> = [LeafKind::Input, LeafKind::Weight, LeafKind::State, constant]
        .map(leaf)
        .into();
    ops.extend(
        [
            BinaryKind::Add,
            BinaryKind::Sub,
            BinaryKind::Mul,
            BinaryKind::Div,
        ]
        .map(|kind| Binary { kind }.into()),
    );
    ops.extend(UnaryKind::ALL.map(|kind| Unary { kind }.into()));
    ops.extend(GluKind::ALL.map(|kind| {
        Glu {
            kind,
            input: GluInput::Split,
        }
        .into()
    }));
    ops.extend([ReduceKind::Sum, ReduceKind::Mean].map(|kind| Reduce { kind, axis: 0 }.into()));
    let exchanges = [
        CollectiveKind::AllReduce,
        CollectiveKind::AllGather { axis: 0 },
        CollectiveKind::ReduceScatter { axis: 0 },
    ];
    ops.extend(exchanges.map(|kind| Collective::even(kind, 1).into()));
    let rope = Rope {
        mode: RopeMode::Neox,
        n_rot: 2,
        base: one,
        yarn: Yarn::default(),
        factors: false,
    };
    let attention = Attention {
        scale: one,
        softcap: None,
        visibility: Visibility::Full,
        sinks: false,
    };
    let router = RouteExperts {
        n_used: 1,
        gating: Gating::Softmax,
        normalise: false,
        scale: one,
    };
    let swiglu = GluKind::Swiglu;
    ops.extend::<[Op; 32]>([
        Reshape {
            shape: shape.clone(),
        }
        .into(),
        Permute {
            axes: [0].into_iter().collect(),
        }
        .into(),
        Slice {
            axis: 0,
            start: 0,
            len: 1,
        }
        .into(),
        Broadcast { shape }.into(),
        Contiguous.into(),
        Cast { dtype: DType::F32 }.into(),
        Concat { axis: 0 }.into(),
        GetRows::default().into(),
        SetRows.into(),
        Store.into(),
        CacheWrite { block: 1 }.into(),
        Scale {
            scale: one,
            bias: one,
        }
        .into(),
        Clamp { min: one, max: one }.into(),
        RmsNorm {
            eps: one,
            weighted: false,
        }
        .into(),
        AddRmsNorm { eps: one }.into(),
        LayerNorm { eps: one }.into(),
        L2Norm { eps: one }.into(),
        Softmax {
            scale: one,
            mask: false,
            sinks: false,
        }
        .into(),
        rope.into(),
        MatMul.into(),
        MatMulGlu { kind: swiglu }.into(),
        MatMulId::default().into(),
        MatMulIdGlu {
            kind: swiglu,
            window: None,
        }
        .into(),
        router.into(),
        TopK { k: 1 }.into(),
        Argsort {
            order: SortOrder::Ascending,
        }
        .into(),
        Argmax.into(),
        Sample.into(),
        CumSum.into(),
        attention.into(),
        SsmConv.into(),
        GatedDeltaNet { snapshots: 1 }.into(),
    ]);
    ops
}

/// The stems of all ops, sorted, each once.
pub fn all_stems() -> Vec<&'static str> {
    let mut stems: Vec<&'static str> = samples().iter().map(|op| op.spec().stem()).collect();
    stems.sort_unstable();
    stems.dedup();
    stems
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The closed list of ops is one macro call; its lines are the variants.
    #[test]
    fn every_variant_has_a_sample() {
        let source = include_str!("../../../ggrs-core/src/ops/mod.rs");
        let list = source.split("\nops! {").nth(1).expect("the list of ops");
        let lines = list
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"));
        let mut variants: BTreeSet<&str> =
            lines.filter_map(|line| line.strip_suffix(',')).collect();
        // Copies between devices have no kernel: the scheduler's tests cover them.
        assert!(variants.remove("Send") && variants.remove("Receive"));
        let debug: Vec<String> = samples().iter().map(|op| format!("{op:?}")).collect();
        let sampled: BTreeSet<&str> = debug
            .iter()
            .filter_map(|text| text.split('(').next())
            .collect();
        assert_eq!(sampled, variants);
    }

    /// Kinds without a list of their own are counted in their declarations.
    #[test]
    fn every_kind_has_a_sample() {
        let kinds = |source: &str, name: &str| {
            let body = source
                .split(&format!("pub enum {name} {{"))
                .nth(1)
                .and_then(|rest| rest.split("\n}").next());
            let lines = body
                .expect("the enum")
                .lines()
                .filter(|line| line.starts_with("    ") && !line.starts_with("     "));
            lines
                .filter(|line| line.trim_start().starts_with(char::is_uppercase))
                .count()
        };
        let binary = include_str!("../../../ggrs-core/src/ops/elementwise.rs");
        let reduce = include_str!("../../../ggrs-core/src/ops/reduce.rs");
        let collective = include_str!("../../../ggrs-core/src/ops/collective.rs");
        let leaf = include_str!("../../../ggrs-core/src/ops/leaf.rs");
        let declared = [
            kinds(binary, "BinaryKind"),
            kinds(reduce, "ReduceKind"),
            kinds(collective, "CollectiveKind"),
            kinds(leaf, "LeafKind"),
        ];
        assert_eq!(declared, [4, 2, 3, 4]);
    }
}
