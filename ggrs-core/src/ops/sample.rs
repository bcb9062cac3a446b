//! The choice of the next token, which moves the cursor of its sequence on.

use crate::ops::operands::Operand;
use crate::ops::{Alias, OpSpec, Operands, Outputs, elems};
use crate::sampling::SampleSettings;
use crate::{DType, DTypeSet, Dim, OpError, TensorDesc};

/// Chooses the next token of each of `R` sequences, and moves their cursors on in place.
///
/// Operands: `cursor` I32 `[4 + W, R]`, `logits` F32 `[R, V]` with `V` at most 2^24, `settings` F32 `[R, 8]` (a row of
/// [`SampleSettings`] each), `seeds` I64 `[R]`. A column of the cursor is a sequence: the rows named by the constants
/// below, then a ring of its last tokens, where the token at position `p` stands in row `4 + p mod W` (at least 4); what
/// is no id of a token stands for none. The result is the cursor with the chosen token, the next position, one more draw, and the
/// token at that position in the ring. A column with a slot below 0 is padding and stays as it is.
///
/// How a token is chosen, in this order:
/// 1. A token's score is its logit. If settings penalise, that of a token that occurs `n > 0` times in the ring's
///    places for the last `window` positions (at most `W`) up to the cursor's, is divided by `repetition` if it is above
///    0 and multiplied otherwise, less `n * frequency + presence`; computed in float64, rounded to F32, at most
///    the largest F32 in size. Tokens rank by score, of equal ones (0 and -0 are) the lower id first. A logit of -inf
///    stays and is never chosen.
/// 2. Unless `temperature` is above 0, the best token is chosen.
/// 3. Else a token's weight at a temperature `t` is `2^39 * exp((score - best score) / t)`, computed in float64 and
///    rounded to a whole number. `top_k` of at least 1 keeps so many of the best; of those, `top_p` below 1 keeps the
///    fewest best, at least one, whose weights at 1 sum up to `top_p` of all; of those, `min_p` above 0 keeps the ones
///    whose weight at 1 is at least `min_p * 2^39`.
/// 4. With `total` the sum of the weights at `temperature` of what is kept, the first token is chosen at which their
///    running sum exceeds `random * total / 2^64`, rounded down: best first if `top_k` or `top_p` is on, else in the
///    order of ids. `random` is [`random`](crate::sampling::random) of the seed and the number of draws so far.
///
/// A NaN or +inf among the logits, or nothing but -inf, is a fault of the run.
///
/// Source: the stages of llama.cpp's samplers in their default order; whole weights, so that sums have no order, are
/// our own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sample;

impl Sample {
    /// The row of the last token: the one whose logits these are.
    pub const TOKEN: usize = 0;
    /// The row of its position.
    pub const POSITION: usize = 1;
    /// The row of its slot in the cache; below 0 for padding.
    pub const SLOT: usize = 2;
    /// The row of the number of draws so far.
    pub const DRAWS: usize = 3;
    /// The first row of the ring.
    pub const RING: usize = 4;
}

/// Sums of weights fit 64 bits up to here.
const MAX_WIDTH: usize = 1 << 24;

impl OpSpec for Sample {
    fn stem(&self) -> &'static str {
        "sample"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["cursor", "logits", "settings", "seeds"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [cursor, logits, settings, seeds] = ins.exactly()?;
        let cursor = cursor
            .dtype(DTypeSet::I32)?
            .rank(2, "2 axes [4 + recent tokens, sequences]")?
            .contiguous()?;
        let rows = cursor.fixed_from_end(1, "the rows of a cursor must be fixed")?;
        if rows < Self::RING {
            return Err(OpError::Rank {
                role: cursor.role,
                got: cursor.shape().clone(),
                expected: "at least 4 rows [4 + recent tokens, sequences]",
            });
        }
        let per_sequence =
            |x: Operand<'_>| x.same(1, "number of sequences", cursor.role, cursor.from_end(0));
        let logits = logits
            .dtype(DTypeSet::F32)?
            .rank(2, "2 axes [sequences, vocabulary]")?
            .rows()?;
        per_sequence(logits)?;
        let width = logits.fixed_from_end(0, "the width of a row that is ordered must be fixed")?;
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(OpError::Param {
                name: "vocabulary",
                got: elems(&TensorDesc::new(DType::F32, [width])),
                rule: "from 1 to 2^24",
            });
        }
        let settings = settings
            .dtype(DTypeSet::F32)?
            .rank(2, "2 axes [sequences, 8]")?
            .contiguous()?;
        if settings.from_end(0) != Dim::Fixed(SampleSettings::N) {
            return Err(OpError::Rank {
                role: settings.role,
                got: settings.shape().clone(),
                expected: "2 axes [sequences, 8]",
            });
        }
        per_sequence(settings)?;
        seeds
            .dtype(DTypeSet::One(DType::I64))?
            .contiguous()?
            .vector("number of sequences", cursor.role, cursor.from_end(0))?;
        Ok(Outputs::from_iter([cursor.desc.clone()]))
    }

    fn flops(&self, ins: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        ins.get(1).map_or(0.0, |logits| elems(logits))
    }

    fn alias(&self) -> Alias {
        Alias::InPlace
    }
}
