//! The pairs of rotary position embedding as `turns.cuh` takes them: in turns per position.

use std::f64::consts::TAU;

use ggrs_core::ops::RopePair;

/// Turns per position.
pub(crate) fn turns(pair: RopePair) -> f64 {
    pair.turn / TAU
}

/// The turns in 2^-64, without those that are whole.
pub(crate) fn wrapped(pair: RopePair) -> u64 {
    let turns = turns(pair);
    ((turns - turns.floor()) * 2f64.powi(64)) as u64
}
