//! Seeded random inputs: activations, weights of every dtype, ids, permutations. Equal seeds give equal inputs.

use ggrs_core::DType;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::oracle::{Array, IntArray, dequantize, encode_floats, round_to};

/// A source of inputs.
#[derive(Clone, Debug)]
pub struct RandomInputs {
    rng: ChaCha8Rng,
}

impl RandomInputs {
    /// The source of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A number in `low..high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.rng.random::<f64>()
    }

    /// An integer below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    /// A normal number with mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.rng.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.rng.random::<f64>()).cos()
    }

    /// Normal values of deviation `std` that F32 holds exactly.
    pub fn normals(&mut self, shape: &[usize], std: f64) -> Array {
        Array::from_fn(shape, |_| round_to(DType::F32, self.normal() * std))
    }

    /// Values in `low..high` that F32 holds exactly.
    pub fn uniforms(&mut self, shape: &[usize], low: f64, high: f64) -> Array {
        Array::from_fn(shape, |_| round_to(DType::F32, self.uniform(low, high)))
    }

    /// Ids below `n`, with repetitions.
    pub fn ids(&mut self, shape: &[usize], n: usize) -> IntArray {
        IntArray::from_fn(shape, |_| self.below(n) as i64)
    }

    /// Ids below `n` in `n_rows` rows of `k`, all different within a row.
    ///
    /// # Panics
    /// If `k` is above `n`.
    pub fn distinct_ids(&mut self, n_rows: usize, k: usize, n: usize) -> IntArray {
        assert!(k <= n, "{k} different ids below {n}");
        let rows = (0..n_rows)
            .flat_map(|_| self.permutation(n).into_iter().take(k))
            .map(|id| id as i64);
        IntArray::new(&[n_rows, k], rows.collect())
    }

    /// The numbers below `n` in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// Bytes of a tensor of any floating-point dtype with values of mean 0 and about deviation `std`.
    ///
    /// Scalars are normal. Block formats have random quants and sub-scales, so every bit of the format occurs, and
    /// finite scales that differ from block to block; MXFP4's are powers of two near the wanted one.
    ///
    /// # Panics
    /// If `dtype` is an integer type, or the elements do not fill whole blocks.
    pub fn weights(&mut self, dtype: DType, n_elems: usize, std: f64) -> Vec<u8> {
        let n_bytes = dtype.row_bytes(n_elems);
        assert!(
            n_bytes.is_some() && !dtype.is_int(),
            "{n_elems} elements are no weights of {dtype}"
        );
        if dtype.is_float() {
            return encode_floats(&self.normals(&[n_elems], std), dtype);
        }
        (0..n_elems / dtype.block_elems())
            .flat_map(|_| self.block(dtype, std))
            .collect()
    }

    fn block(&mut self, dtype: DType, std: f64) -> Vec<u8> {
        let mut block = vec![0; dtype.block_bytes()];
        self.rng.fill_bytes(&mut block);
        let scale = ScaleField::of(dtype);
        scale.write(&mut block, 1.0);
        let values = dequantize(dtype, &[dtype.block_elems()], &block).data;
        let unit_std = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        // Different blocks get different scales; the mean of the squares of the factors is 1.
        let factor = self.uniform(0.5, 1.5) / (13.0f64 / 12.0).sqrt();
        let sign = if scale.may_be_negative() && self.rng.random() {
            -1.0
        } else {
            1.0
        };
        scale.write(&mut block, sign * factor * std / unit_std);
        block
    }
}

/// Where a block keeps its outermost scale, and how its minimum depends on it.
enum ScaleField {
    /// F16 at this byte; values are the scale times something of mean 0.
    Centred { at: usize },
    /// F16 scale and F16 minimum, the latter this multiple of the former so that the mean is about 0.
    WithMin {
        at: usize,
        min_at: usize,
        ratio: f64,
    },
    /// One byte: a power of two with bias 127.
    Exponent { at: usize },
}

impl ScaleField {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::Q3_K => Self::Centred { at: 108 },
            DType::Q6_K => Self::Centred { at: 208 },
            DType::MXFP4 => Self::Exponent { at: 0 },
            // The minimum is added: minus the mean quant.
            DType::Q4_1 => Self::WithMin {
                at: 0,
                min_at: 2,
                ratio: -7.5,
            },
            DType::Q5_1 => Self::WithMin {
                at: 0,
                min_at: 2,
                ratio: -15.5,
            },
            // The minimum is subtracted, and has random 4- or 6-bit factors like the scale: the mean quant.
            DType::Q2_K => Self::WithMin {
                at: 80,
                min_at: 82,
                ratio: 1.5,
            },
            DType::Q4_K => Self::WithMin {
                at: 0,
                min_at: 2,
                ratio: 7.5,
            },
            DType::Q5_K => Self::WithMin {
                at: 0,
                min_at: 2,
                ratio: 15.5,
            },
            _ => Self::Centred { at: 0 },
        }
    }

    /// Quantisers write negative scales only where no minimum is.
    fn may_be_negative(&self) -> bool {
        matches!(self, Self::Centred { .. })
    }

    fn write(&self, block: &mut [u8], scale: f64) {
        let mut put = |at: usize, value: f64| {
            block[at..at + 2]
                .copy_from_slice(&encode_floats(&Array::new(&[1], vec![value]), DType::F16));
        };
        match *self {
            Self::Centred { at } => put(at, scale),
            Self::WithMin { at, min_at, ratio } => {
                put(at, scale);
                put(min_at, scale * ratio);
            }
            Self::Exponent { at } => {
                block[at] = (scale.log2().round() + 127.0).clamp(0.0, 254.0) as u8
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_std(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (
            mean,
            (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64)
                .sqrt(),
        )
    }

    #[test]
    fn weights_of_every_format_have_the_wanted_deviation() {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_int()) {
            for std in [0.02, 1.0] {
                let n_elems = 256 * 200;
                let bytes = RandomInputs::new(7).weights(dtype, n_elems, std);
                let values = dequantize(dtype, &[n_elems], &bytes).data;
                let (mean, deviation) = mean_and_std(&values);
                assert!(values.iter().all(|v| v.is_finite()), "{dtype}");
                assert!(
                    mean.abs() < 0.05 * std,
                    "{dtype}: mean {mean} for deviation {std}"
                );
                assert!(
                    (deviation / std - 1.0).abs() < 0.15,
                    "{dtype}: deviation {deviation} for {std}"
                );
            }
        }
    }

    /// A kernel that takes a neighbour's scale must not go unnoticed.
    #[test]
    fn neighbouring_blocks_differ_in_scale() {
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_block()) {
            let bytes = RandomInputs::new(3).weights(dtype, 256 * 8, 1.0);
            let scale_at = match ScaleField::of(dtype) {
                ScaleField::Centred { at }
                | ScaleField::WithMin { at, .. }
                | ScaleField::Exponent { at } => at,
            };
            let scales: std::collections::BTreeSet<u8> = bytes
                .chunks(dtype.block_bytes())
                .map(|block| block[scale_at])
                .collect();
            assert!(scales.len() > 1, "{dtype}");
        }
    }

    #[test]
    fn seeds_decide_everything() {
        let draw = |seed| {
            let mut random = RandomInputs::new(seed);
            (
                random.normals(&[3], 1.0),
                random.distinct_ids(5, 3, 8),
                random.weights(DType::Q4_K, 256, 1.0),
            )
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1).0, draw(2).0);
        for row in draw(1).1.data.chunks(3) {
            assert!(
                row[0] != row[1]
                    && row[1] != row[2]
                    && row[0] != row[2]
                    && row.iter().all(|id| (0..8).contains(id))
            );
        }
    }

    #[test]
    fn normals_are_normal() {
        let values = RandomInputs::new(11).normals(&[20_000], 2.0).data;
        let (mean, deviation) = mean_and_std(&values);
        assert!(mean.abs() < 0.05 && (deviation / 2.0 - 1.0).abs() < 0.02);
        let within_one =
            values.iter().filter(|v| v.abs() < 2.0).count() as f64 / values.len() as f64;
        assert!((within_one - 0.6827).abs() < 0.01, "{within_one}");
    }
}
