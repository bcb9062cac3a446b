//! The oracle against 381 op cases computed in float64 elsewhere. It must not know any device.
//!
//! Cases outside the op set are listed with the reason; their number per op is fixed, so that it cannot grow silently.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken fixture fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};

use ggrs_core::DType;
use ggrs_tests::fixtures::{CaseOp, CaseRope, OpCase, Uncovered, all_op_cases};
use ggrs_tests::nmse::compare;
use ggrs_tests::oracle::{self, Array, AttentionParams, DeltaNetInputs, Dense, IntArray};

/// The fixtures are float64 results rounded to F32, which alone gives an NMSE up to 1e-15; parameters of llama.cpp's
/// own cases went through F32 too.
const MAX_NMSE: f64 = 1e-14;

/// What a case answers.
enum Answer {
    Floats(Array),
    Ints(IntArray),
    /// Indices whose order inside a row is free.
    Sets(IntArray),
}

#[test]
fn the_oracle_agrees_with_every_covered_case() {
    let cases = all_op_cases().unwrap();
    assert_eq!(cases.len(), 381);
    let mut failures = Vec::new();
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.uncovered().is_none()) {
        match check(case) {
            Ok(nmse) => {
                let entry = worst.entry(&case.op_name).or_default();
                *entry = entry.max(nmse);
            }
            Err(why) => failures.push(format!("{}: {why}", case.name())),
        }
    }
    for (op, nmse) in worst {
        println!("{op:16} worst NMSE {nmse:.1e}");
    }
    assert!(
        failures.is_empty(),
        "{} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn uncovered_cases_are_known_and_do_not_grow() {
    let mut counts: BTreeMap<(String, Uncovered), usize> = BTreeMap::new();
    for case in all_op_cases().unwrap() {
        if let Some(reason) = case.uncovered() {
            println!("not covered: {}: {reason}", case.name());
            *counts.entry((case.op_name, reason)).or_default() += 1;
        }
    }
    let expected = [
        ("ADD_ID", Uncovered::AddId, 3),
        ("DIAG_MASK_INF", Uncovered::DiagMaskInf, 1),
        ("GET_ROWS", Uncovered::Format, 1),
        ("MUL_MAT", Uncovered::Format, 3),
        ("MUL_MAT_ID", Uncovered::Format, 2),
        ("ROPE", Uncovered::VisionRope, 2),
        ("SOFT_MAX", Uncovered::Alibi, 3),
        ("SOLVE_TRI", Uncovered::SolveTri, 2),
        ("TRI", Uncovered::Tri, 2),
    ];
    let expected = expected.map(|(op, reason, n)| ((op.to_owned(), reason), n));
    assert_eq!(counts, BTreeMap::from(expected));
}

/// NMSE of the oracle's answer, or what is wrong with it.
fn check(case: &OpCase) -> Result<f64, String> {
    match answer(case) {
        Answer::Ints(ids) if ids.data == case.dst.ints().data => Ok(0.0),
        Answer::Sets(ids) if row_sets(&ids) == row_sets(&case.dst.ints()) => Ok(0.0),
        Answer::Ints(_) | Answer::Sets(_) => Err("other indices".to_owned()),
        Answer::Floats(actual) => {
            let expected = case.dst.floats();
            let as_f32: Vec<f64> = actual
                .data
                .iter()
                .map(|&v| oracle::round_to(DType::F32, v))
                .collect();
            if is_movement(case.op) {
                return if as_f32 == expected.data {
                    Ok(0.0)
                } else {
                    Err("other values".to_owned())
                };
            }
            let comparison =
                compare(&actual.data, &expected.data).map_err(|mismatch| mismatch.to_string())?;
            if comparison.nmse <= MAX_NMSE {
                Ok(comparison.nmse)
            } else {
                Err(format!("{comparison:?}"))
            }
        }
    }
}

/// Ops whose answer must be equal to the last bit of F32, dequantisation included.
fn is_movement(op: CaseOp) -> bool {
    matches!(
        op,
        CaseOp::Copy | CaseOp::Repeat | CaseOp::Concat { .. } | CaseOp::GetRows | CaseOp::SetRows
    )
}

fn row_sets(ids: &IntArray) -> Vec<BTreeSet<i64>> {
    ids.data
        .chunks(ids.row_len())
        .map(|row| row.iter().copied().collect())
        .collect()
}

fn answer(case: &OpCase) -> Answer {
    let x = |i: usize| case.src(i).unwrap().floats();
    let optional = |i: usize| case.src(i).map(|src| src.floats());
    let ids = |i: usize| case.src(i).unwrap().ints();
    let last = 3;
    Answer::Floats(match case.op {
        CaseOp::Binary(kind) => oracle::binary(kind, &x(0), &x(1)),
        CaseOp::Unary(kind) => oracle::unary(kind, &x(0)),
        CaseOp::Glu { kind, swapped } => match optional(1) {
            Some(up) => oracle::glu_split(kind, &x(0), &up),
            None => oracle::glu_fused(kind, &x(0), swapped),
        },
        CaseOp::Scale { scale, bias } => oracle::scale(&x(0), scale.into(), bias.into()),
        CaseOp::Clamp { min, max } => oracle::clamp(&x(0), min.into(), max.into()),
        CaseOp::Copy => return copy(case),
        CaseOp::Repeat => repeat(&x(0), &case.dst.shape),
        CaseOp::Concat { axis } => oracle::concat(&[&x(0), &x(1)], axis),
        CaseOp::GetRows => oracle::get_rows(&x(0), &ids_of_rows(&ids(1), &x(0))),
        CaseOp::SetRows => oracle::set_rows(&x(2), &x(0), &ids_of_rows(&ids(1), &x(2))),
        CaseOp::RmsNorm { eps } => oracle::rms_norm(&x(0), eps.into()),
        CaseOp::LayerNorm { eps } => oracle::layer_norm(&x(0), eps.into()),
        CaseOp::L2Norm { eps } => oracle::l2_norm(&x(0), eps.into()),
        CaseOp::Softmax { scale, .. } => {
            let sinks = optional(2).map(|sinks| oracle::reshape(&sinks, &[sinks.row_len()]));
            oracle::softmax(&x(0), scale.into(), optional(1).as_ref(), sinks.as_ref())
        }
        CaseOp::Rope(rope) => rotate(&x(0), &ids(1), optional(2), &rope),
        CaseOp::MatMul => oracle::matmul(&x(0), &x(1)),
        CaseOp::MatMulId => {
            let expert_ids = ids(2);
            oracle::matmul_id(
                &squeeze(&x(0)),
                &squeeze(&x(1)),
                &oracle::reshape(&expert_ids, &expert_ids.shape[2..]),
            )
        }
        CaseOp::Attention { scale, softcap, .. } => {
            let token_major = |heads_first: &Array| oracle::permute(heads_first, &[0, 2, 1, 3]);
            let sinks = optional(4).map(|sinks| oracle::reshape(&sinks, &[sinks.row_len()]));
            let params = AttentionParams {
                scale: scale.into(),
                softcap: (softcap != 0.0).then_some(softcap.into()),
                sinks: sinks.as_ref(),
            };
            let (q, k, v) = (token_major(&x(0)), token_major(&x(1)), token_major(&x(2)));
            oracle::attention(&q, &k, &v, optional(3).as_ref(), &params)
        }
        CaseOp::SsmConv => {
            let weights = x(1);
            oracle::ssm_conv(
                &squeeze(&x(0)),
                &oracle::reshape(&weights, &weights.shape[2..]),
            )
        }
        CaseOp::GatedDeltaNet { n_snapshots } => delta_net(case, n_snapshots),
        CaseOp::Argmax => return Answer::Ints(oracle::argmax(&x(0))),
        CaseOp::Argsort { descending } => return Answer::Ints(oracle::argsort(&x(0), descending)),
        CaseOp::TopK { k } => return Answer::Sets(oracle::top_k(&x(0), k).1),
        CaseOp::Sum => (0..=last).fold(x(0), |total, axis| oracle::sum(&total, axis)),
        CaseOp::SumRows => oracle::sum(&x(0), last),
        CaseOp::Mean => oracle::mean(&x(0), last),
        CaseOp::Cumsum => oracle::cumsum(&x(0)),
        CaseOp::AddId | CaseOp::DiagMaskInf | CaseOp::Tri | CaseOp::SolveTri => {
            panic!("not covered")
        }
    })
}

/// The axes after the outermost, which has extent 1.
fn squeeze(x: &Array) -> Array {
    oracle::reshape(x, &x.shape[1..])
}

/// ggml's ids `[1, b2, b1, r]`, whose batches repeat over those of `table` `[B2, B1, m, n]`, as `[B2, B1, r]`.
fn ids_of_rows(ids: &IntArray, table: &Array) -> IntArray {
    let ids = oracle::reshape(ids, &ids.shape[1..]);
    repeat(&ids, &[table.shape[0], table.shape[1], ids.row_len()])
}

/// CONT, DUP and CPY: elements in order under the result's shape. What the fixtures expect of a copy to a narrower type
/// is the value before rounding, as for every result.
fn copy(case: &OpCase) -> Answer {
    let src = case.src(0).unwrap();
    if src.dtype.unwrap().is_int() {
        return Answer::Ints(oracle::reshape(&src.ints(), &case.dst.shape));
    }
    Answer::Floats(oracle::reshape(&src.floats(), &case.dst.shape))
}

/// Whole copies side by side along every axis, as reshape and broadcast.
fn repeat<T: Copy>(x: &Dense<T>, shape: &[usize]) -> Dense<T> {
    let (mut split, mut tiled) = (Vec::new(), Vec::new());
    for (&extent, &wanted) in x.shape.iter().zip(shape) {
        split.extend([1, extent]);
        tiled.extend([wanted.checked_div(extent).unwrap_or(1), extent]);
    }
    oracle::reshape(
        &oracle::broadcast(&oracle::reshape(x, &split), &tiled),
        shape,
    )
}

/// Rotates the columns from `first_elem` on; positions of several sections are rows of `[4, T]`.
fn rotate(x: &Array, positions: &IntArray, factors: Option<Array>, rope: &CaseRope) -> Array {
    let n_tokens = x.shape[1];
    let positions = match positions.data.len() / n_tokens {
        1 => oracle::reshape(positions, &[n_tokens]),
        rows => oracle::reshape(positions, &[rows, n_tokens]),
    };
    let factors = factors.map(|factors| oracle::reshape(&factors, &[factors.row_len()]));
    let kept = oracle::slice(x, 3, 0, rope.first_elem);
    let turned = oracle::slice(x, 3, rope.first_elem, x.row_len());
    let turned = oracle::rope(&turned, &positions, factors.as_ref(), &rope.params);
    oracle::concat(&[&kept, &turned], 3)
}

/// Answer and memories in one array, as ggml packs them. Memories that nobody writes are NaN on both sides.
fn delta_net(case: &OpCase, n_snapshots: usize) -> Array {
    let [q, k, v, g, beta, state] = [0, 1, 2, 3, 4, 5].map(|i| case.src(i).unwrap().floats());
    let beta = oracle::reshape(&beta, &beta.shape[..3]);
    let inputs = DeltaNetInputs {
        q: &q,
        k: &k,
        v: &v,
        g: &g,
        beta: &beta,
        state: &state,
        n_snapshots,
    };
    let answer = oracle::gated_delta_net(&inputs);
    let by_age = oracle::permute(&answer.snapshots, &[1, 0, 2, 3, 4]);
    let flat = |x: &Array| oracle::reshape(x, &[x.data.len()]);
    oracle::concat(&[&flat(&answer.out), &flat(&by_age)], 0)
}
