//! Which row of the tolerance table an answer is judged by.

use ggrs_core::DType;

use crate::tolerance::{Bound, Mode, bound, rope_bound};

/// Which row of the tolerance table an answer is judged by.
#[derive(Clone, Debug)]
pub enum Tolerance {
    /// That of an op; of several dtypes the one that allows most counts.
    Op {
        /// The op.
        stem: &'static str,
        /// What decides: weights, KV or the result.
        dtypes: Vec<DType>,
    },
    /// That of rope, by the largest position.
    Rope {
        /// The largest position.
        max_position: usize,
        /// Of the result.
        dtype: DType,
    },
    /// That of ops one after the other: their errors add up.
    Chain(Vec<Self>),
}

impl Tolerance {
    /// That of an op with one deciding dtype.
    pub fn of(stem: &'static str, dtype: DType) -> Self {
        Self::Op {
            stem,
            dtypes: vec![dtype],
        }
    }

    /// The bound in a mode; `None` if the table has no row, which fails the problem.
    pub fn bound(&self, mode: Mode) -> Option<Bound> {
        match self {
            Self::Op { stem, dtypes } => {
                let bounds: Option<Vec<Bound>> = dtypes
                    .iter()
                    .map(|&dtype| bound(stem, dtype, mode))
                    .collect();
                bounds?.into_iter().max_by(|a, b| a.nmse.total_cmp(&b.nmse))
            }
            Self::Chain(parts) => {
                let bounds: Option<Vec<Bound>> =
                    parts.iter().map(|part| part.bound(mode)).collect();
                let nmse = bounds?.iter().map(|bound| bound.nmse).sum();
                Some(Bound {
                    nmse,
                    reason: "the ops' bounds together",
                })
            }
            Self::Rope {
                max_position,
                dtype,
            } => Some(rope_bound(*max_position, *dtype)),
        }
    }
}
