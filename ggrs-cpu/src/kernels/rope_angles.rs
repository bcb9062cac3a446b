//! The angles of rotary position embedding: cosines and sines of a token's position. It must not know tensors.

use ggrs_core::ops::{Rope, RopePair};

/// How every pair turns.
#[derive(Clone, Debug)]
pub(super) struct Angles {
    pairs: Box<[RopePair]>,
    /// Factor of cosines and sines.
    magnitude: f64,
}

impl Angles {
    /// The angles of an op.
    pub(super) fn new(op: &Rope) -> Self {
        Self {
            pairs: op.pairs().collect(),
            magnitude: op.magnitude(),
        }
    }

    /// Cosines and sines of a token whose position in row `r` is `position(r)`. Factors divide the frequencies.
    pub(super) fn of_token(
        &self,
        position: impl Fn(usize) -> i32,
        factors: Option<&[f32]>,
        (cos, sin): (&mut [f32], &mut [f32]),
    ) {
        for (i, (pair, (cos, sin))) in self.pairs.iter().zip(cos.iter_mut().zip(sin)).enumerate() {
            let factor = factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
            let angle = f64::from(position(pair.row.into())) * pair.turn / f64::from(factor);
            let (s, c) = angle.sin_cos();
            *cos = (c * self.magnitude) as f32;
            *sin = (s * self.magnitude) as f32;
        }
    }
}
