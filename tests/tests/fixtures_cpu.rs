//! The CPU device on the op cases that were computed elsewhere, in both precisions and at every level of this machine.
//!
//! Bounds are those of the tolerance table, which are nowhere wider than what the fixtures' makers state.

#![allow(clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;

use ggrs_core::device::{Backend, Precision};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::PlanOptions;
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_tests::conformance::{Trial, try_problem};
use ggrs_tests::fixtures::{OpCase, all_op_cases};
use ggrs_tests::problem::pose;
use ggrs_tests::problems::FixtureProblem;

/// Covered cases of each op, 362 of 381; the others are counted, with their reasons, by the oracle's own test.
#[rustfmt::skip]
const COVERED: &[(&str, usize)] = &[
    ("ADD", 9), ("ARGMAX", 3), ("ARGSORT", 6), ("CLAMP", 3), ("CONCAT", 1), ("CONT", 8), ("COS", 2),
    ("CPY", 10), ("CUMSUM", 1), ("DIV", 8), ("DUP", 2), ("FLASH_ATTN_EXT", 11), ("GATED_DELTA_NET", 6),
    ("GEGLU", 5), ("GEGLU_ERF", 2), ("GELU", 1), ("GELU_ERF", 1), ("GELU_QUICK", 1), ("GET_ROWS", 39),
    ("L2_NORM", 4), ("MEAN", 3), ("MUL", 9), ("MUL_MAT", 84), ("MUL_MAT_ID", 38), ("NORM", 5), ("REGLU", 2),
    ("REPEAT", 4), ("RMS_NORM", 7), ("ROPE", 17), ("SCALE", 1), ("SET_ROWS", 16), ("SIGMOID", 1), ("SILU", 1),
    ("SIN", 2), ("SOFTPLUS", 1), ("SOFT_MAX", 14), ("SQRT", 2), ("SSM_CONV", 5), ("SUB", 8), ("SUM", 2),
    ("SUM_ROWS", 4), ("SWIGLU", 5), ("TANH", 1), ("TOP_K", 7),
];

#[test]
fn every_covered_case_has_the_right_answer() {
    let cases: Vec<OpCase> = all_op_cases().expect("the fixtures can be read");
    let covered: Vec<&OpCase> = cases
        .iter()
        .filter(|case| case.uncovered().is_none())
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &covered {
        *counts.entry(&case.op_name).or_default() += 1;
    }
    let mut failures = Vec::new();
    let mut worst: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for case in covered {
        let posed = match pose(&FixtureProblem(case), true) {
            Ok(posed) => posed,
            Err(why) => {
                failures.push(format!("{}: {why}", case.name()));
                continue;
            }
        };
        for isa in Isa::available() {
            let backend = CpuBackend::new(CpuOptions {
                threads: Some(2),
                isa,
            });
            let device = backend
                .open(&"cpu".parse().expect("a device name"))
                .expect("the CPU opens");
            for precision in [Precision::Exact, Precision::Fast] {
                let options = PlanOptions {
                    precision,
                    passes: PassSet::none(),
                    collectives: None,
                };
                match try_problem(&posed, &*device, &options) {
                    Ok(Trial::Passed(nmse)) => {
                        let entry = worst.entry((&case.op_name, precision.name())).or_default();
                        *entry = entry.max(nmse);
                    }
                    Ok(Trial::Refused(why)) => {
                        failures.push(format!("{}, {isa}: {why}", posed.name))
                    }
                    Err(why) => failures.push(format!(
                        "{}, {isa}, {}: {why}",
                        posed.name,
                        precision.name()
                    )),
                }
            }
        }
    }
    for ((op, precision), nmse) in worst {
        println!("{op:16} {precision:6} worst NMSE {nmse:.1e}");
    }
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(counts, COVERED.iter().copied().collect());
}
