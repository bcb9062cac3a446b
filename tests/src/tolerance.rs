//! How close each op must come to the oracle, by op stem, dtype and mode. Not by device: every device has one bar.
//!
//! Bounds are on the NMSE. A row without a match is no bound at all: a test without one must fail.

use ggrs_core::DType;

/// How a device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Weights dequantised to F32; activations, sums and KV in F32.
    Exact,
    /// Quantised or half-precision activations where a kernel wants them.
    Fast,
}

/// The largest NMSE allowed, and why that much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// `sum((a - e)^2) / sum(e^2)` may not exceed this; 0 demands the same bits after rounding to the result's dtype.
    pub nmse: f64,
    /// Where the error comes from.
    pub reason: &'static str,
}

/// Which dtypes a row is for.
enum Dtypes {
    Any,
    Only(&'static [DType]),
    Blocks,
}

impl Dtypes {
    fn contains(&self, dtype: DType) -> bool {
        match self {
            Self::Any => true,
            Self::Only(dtypes) => dtypes.contains(&dtype),
            Self::Blocks => dtype.is_block(),
        }
    }
}

/// One row of the table; `mode` is `None` where both have the same bound.
struct Row {
    stems: &'static [&'static str],
    dtypes: Dtypes,
    mode: Option<Mode>,
    bound: Bound,
}

const fn row(
    stems: &'static [&'static str],
    dtypes: Dtypes,
    mode: Option<Mode>,
    nmse: f64,
    reason: &'static str,
) -> Row {
    Row {
        stems,
        dtypes,
        mode,
        bound: Bound { nmse, reason },
    }
}

#[rustfmt::skip]
const MOVE: &[&str] = &["contiguous", "concat", "get_rows", "all_gather", "top_k", "argsort", "argmax", "sample"];
const STORE: &[&str] = &["cast", "set_rows", "store", "cache_write"];
#[rustfmt::skip]
const ELEMENTWISE: &[&str] = &[
    "add", "sub", "mul", "div", "scale", "clamp",
    "silu", "sigmoid", "softplus", "tanh", "gelu", "gelu_erf", "gelu_quick",
    "exp", "neg", "relu", "sqr", "sqrt", "sin", "cos",
    "swiglu", "geglu", "geglu_erf", "geglu_quick", "reglu",
];
#[rustfmt::skip]
const ROWWISE: &[&str] = &[
    "rms_norm", "add_rms_norm", "layer_norm", "l2_norm", "softmax", "sum", "mean", "cumsum",
    "ssm_conv", "gated_delta_net", "route_experts",
];
const REDUCE: &[&str] = &["all_reduce", "reduce_scatter"];
const MATMUL: &[&str] = &["matmul", "matmul_id"];
const MATMUL_GLU: &[&str] = &["matmul_glu", "matmul_id_glu"];
const ATTENTION: &[&str] = &["attention"];
const STEP: &str =
    "twice the variance of the format's rounding step, for normal values in blocks of 32";
const FACTORS: &str = "the relative errors of two products add up in their product";
const HALVES: Dtypes = Dtypes::Only(&[DType::F16, DType::BF16]);
const F32: Dtypes = Dtypes::Only(&[DType::F32]);
const F16: Dtypes = Dtypes::Only(&[DType::F16]);
const BF16: Dtypes = Dtypes::Only(&[DType::BF16]);
const EXACT: Option<Mode> = Some(Mode::Exact);
const FAST: Option<Mode> = Some(Mode::Fast);

/// The table; the first row that matches counts.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(MOVE, Dtypes::Any, None, 0.0, "values are moved, ordered or chosen; every block format's values round to F32 once"),
    row(STORE, HALVES, None, 0.0, "rounding to nearest even is defined to the bit"),
    row(STORE, Dtypes::Only(&[DType::F32, DType::I32, DType::I64]), None, 0.0, "nothing to round"),
    row(STORE, Dtypes::Only(&[DType::Q8_0]), None, 5e-5, STEP),
    row(STORE, Dtypes::Only(&[DType::Q5_0, DType::Q5_1]), None, 3e-3, STEP),
    row(STORE, Dtypes::Only(&[DType::Q4_0, DType::Q4_1, DType::IQ4_NL]), None, 1.3e-2, STEP),
    row(ELEMENTWISE, F32, None, 1e-10, "a few F32 roundings and the device's own exp, tanh, sin"),
    row(ELEMENTWISE, HALVES, None, 1e-5, "the result is rounded to 11 or 8 bits"),
    row(ROWWISE, F32, None, 1e-10, "F32 sums over a row, in any order"),
    row(ROWWISE, HALVES, None, 1e-5, "the result is rounded to 11 or 8 bits"),
    row(REDUCE, F32, None, 1e-12, "one F32 addition per member"),
    row(MATMUL, Dtypes::Any, EXACT, 1e-11, "weights become F32 exactly; only the F32 sum over k is inexact"),
    row(MATMUL, F32, FAST, 1e-11, "F32 weights are multiplied in F32 in both modes"),
    row(MATMUL, F16, FAST, 1e-6, "activations are rounded to F16"),
    row(MATMUL, BF16, FAST, 1e-5, "activations are rounded to BF16"),
    row(MATMUL, Dtypes::Blocks, FAST, 1e-4, "activations in blocks of 8 bits; llama.cpp's worst is 4.7e-5"),
    row(MATMUL_GLU, Dtypes::Any, EXACT, 1e-10, "two products in F32, then an activation"),
    row(MATMUL_GLU, F32, FAST, 1e-10, "two products in F32, then an activation"),
    row(MATMUL_GLU, F16, FAST, 4e-6, FACTORS),
    row(MATMUL_GLU, BF16, FAST, 4e-5, FACTORS),
    row(MATMUL_GLU, Dtypes::Blocks, FAST, 4e-4, FACTORS),
    row(ATTENTION, Dtypes::Any, EXACT, 1e-9, "KV as F32; F32 dot products, exp and sums"),
    row(ATTENTION, F32, FAST, 1e-9, "F32 KV is not rounded in either mode"),
    row(ATTENTION, F16, FAST, 1e-5, "queries and probabilities are rounded to F16"),
    row(ATTENTION, BF16, FAST, 1e-4, "queries and probabilities are rounded to BF16, three bits less than F16"),
    row(ATTENTION, Dtypes::Blocks, FAST, 1e-4, "queries in blocks of 8 bits; llama.cpp's worst is 1.5e-5"),
];

/// The bound of an op.
///
/// `stem` is the op's own name. `dtype` is what decides: the weights of products, the KV of attention, the result of
/// everything else. For `rope` use [`rope_bound`].
pub fn bound(stem: &str, dtype: DType, mode: Mode) -> Option<Bound> {
    TABLE
        .iter()
        .find(|row| {
            row.stems.contains(&stem)
                && row.dtypes.contains(dtype)
                && row.mode.is_none_or(|m| m == mode)
        })
        .map(|row| row.bound)
}

/// The bound of `rope`, whose F32 angle loses bits as positions grow; `dtype` is that of the result.
pub fn rope_bound(max_position: usize, dtype: DType) -> Bound {
    let (nmse, reason) = match max_position {
        0..=1_000 => (
            1e-8,
            "the F32 angle of positions up to 1000 has an error of up to 6e-5",
        ),
        1_001..=10_000 => (
            1e-6,
            "the F32 angle of positions up to 10000 has an error of up to 6e-4",
        ),
        _ => (1e-5, "the F32 angle of long contexts is inexact"),
    };
    if dtype == DType::F32 {
        Bound { nmse, reason }
    } else {
        Bound {
            nmse: 1e-5,
            reason: "rounded to a half format",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_row_counts() {
        assert_eq!(
            bound("matmul", DType::Q4_K, Mode::Exact).unwrap().nmse,
            1e-11
        );
        assert_eq!(bound("matmul", DType::Q4_K, Mode::Fast).unwrap().nmse, 1e-4);
        assert_eq!(
            bound("get_rows", DType::Q6_K, Mode::Fast).unwrap().nmse,
            0.0
        );
        assert_eq!(bound("cast", DType::Q6_K, Mode::Fast), None);
        assert_eq!(bound("no such op", DType::F32, Mode::Fast), None);
    }

    #[test]
    fn exact_mode_is_never_looser() {
        for row in TABLE {
            for stem in row.stems {
                for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_int()) {
                    let nmse = |mode| bound(stem, dtype, mode).map(|bound| bound.nmse);
                    assert!(nmse(Mode::Exact) <= nmse(Mode::Fast), "{stem} {dtype}");
                }
            }
        }
    }
}
