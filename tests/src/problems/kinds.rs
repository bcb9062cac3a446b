//! The oracle's names of what ops come in. It shares no types with the code under test, so they are matched here.

use ggrs_core::ops::{BinaryKind, Gating, GluKind, RopeMode, UnaryKind};

use crate::oracle;

/// Every arithmetic.
pub(super) const BINARY: [BinaryKind; 4] = [
    BinaryKind::Add,
    BinaryKind::Sub,
    BinaryKind::Mul,
    BinaryKind::Div,
];

pub(super) fn binary(kind: BinaryKind) -> oracle::BinaryKind {
    match kind {
        BinaryKind::Add => oracle::BinaryKind::Add,
        BinaryKind::Sub => oracle::BinaryKind::Sub,
        BinaryKind::Mul => oracle::BinaryKind::Mul,
        BinaryKind::Div => oracle::BinaryKind::Div,
    }
}

pub(super) fn unary(kind: UnaryKind) -> oracle::UnaryKind {
    use oracle::UnaryKind as Oracle;
    match kind {
        UnaryKind::Silu => Oracle::Silu,
        UnaryKind::Sigmoid => Oracle::Sigmoid,
        UnaryKind::Softplus => Oracle::Softplus,
        UnaryKind::Tanh => Oracle::Tanh,
        UnaryKind::Gelu => Oracle::Gelu,
        UnaryKind::GeluErf => Oracle::GeluErf,
        UnaryKind::GeluQuick => Oracle::GeluQuick,
        UnaryKind::Exp => Oracle::Exp,
        UnaryKind::Neg => Oracle::Neg,
        UnaryKind::Relu => Oracle::Relu,
        UnaryKind::Sqr => Oracle::Sqr,
        UnaryKind::Sqrt => Oracle::Sqrt,
        UnaryKind::Sin => Oracle::Sin,
        UnaryKind::Cos => Oracle::Cos,
    }
}

pub(super) fn glu(kind: GluKind) -> oracle::GluKind {
    match kind {
        GluKind::Swiglu => oracle::GluKind::Swiglu,
        GluKind::Geglu => oracle::GluKind::Geglu,
        GluKind::GegluErf => oracle::GluKind::GegluErf,
        GluKind::GegluQuick => oracle::GluKind::GegluQuick,
        GluKind::Reglu => oracle::GluKind::Reglu,
    }
}

pub(super) fn gating(gating: Gating) -> oracle::Gating {
    match gating {
        Gating::Softmax => oracle::Gating::Softmax,
        Gating::Sigmoid => oracle::Gating::Sigmoid,
    }
}

pub(super) fn rope_mode(mode: RopeMode) -> oracle::RopeMode {
    match mode {
        RopeMode::Normal => oracle::RopeMode::Normal,
        RopeMode::Neox => oracle::RopeMode::Neox,
        RopeMode::Multi(sections) => oracle::RopeMode::Multi(sections),
        RopeMode::Interleaved(sections) => oracle::RopeMode::Interleaved(sections),
    }
}

/// The one of `all` that the oracle calls `name`.
///
/// # Panics
/// If there is none.
pub(super) fn ours<K: Copy, N: PartialEq>(
    all: impl IntoIterator<Item = K>,
    theirs: impl Fn(K) -> N,
    name: N,
) -> K {
    let Some(kind) = all.into_iter().find(|kind| theirs(*kind) == name) else {
        unreachable!("the oracle has a kind that the core lacks");
    };
    kind
}
