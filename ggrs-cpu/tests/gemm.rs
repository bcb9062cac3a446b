//! The matrix products at every level of this machine against a float64 product of the dequantised weights.

#![allow(
    clippy::expect_used,
    reason = "a fixture or problem that is broken fails its test"
)]

use ggrs_core::DType;
use ggrs_cpu::formats::dequantize_row;
use ggrs_cpu::gemm::{Columns, GemmError, Inputs, Output, Routed, matmul};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::pack::{
    ActivationGroup, PackedMatrix, QuantizedRows, TILE_ROWS, pack, packed_bytes,
    quantize_activations, tile_count, unpack,
};
use half::f16;

/// A small generator (xorshift64*), so that every run sees the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    /// About normal: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

const FORMATS: [DType; 16] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
];

/// Random valid blocks: any bits in the quants and integer scales, finite F16 factors of both signs.
fn random_weights(dtype: DType, n_elems: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..dtype.row_bytes(n_elems).expect("whole blocks"))
        .map(|_| random.next() as u8)
        .collect();
    let factors: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => &[],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        match dtype {
            DType::F32 => block.copy_from_slice(&random.normal().to_le_bytes()),
            DType::F16 => block.copy_from_slice(&f16::from_f32(random.normal()).to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&random.normal().to_le_bytes()[2..]),
            DType::MXFP4 => block[0] = 120 + random.below(8) as u8,
            _ => {}
        }
        for &at in factors {
            block[at..at + 2].copy_from_slice(&f16::from_f32(random.normal() * 0.01).to_le_bytes());
        }
    }
    bytes
}

/// Weights, activations, and their exact product.
struct Problem {
    dtype: DType,
    n_rows: usize,
    k: usize,
    n_inputs: usize,
    original: Vec<u8>,
    packed: Vec<u8>,
    x: Vec<f32>,
    /// [n_inputs, n_rows]
    expected: Vec<f64>,
}

impl Problem {
    fn new(
        dtype: DType,
        (n_rows, k): (usize, usize),
        n_inputs: usize,
        random: &mut Random,
    ) -> Self {
        let original = random_weights(dtype, n_rows * k, random);
        let mut packed = vec![0xee; packed_bytes(dtype, n_rows, k).expect("a packed layout")];
        pack(
            dtype,
            (n_rows, k),
            &original,
            0..tile_count(n_rows),
            &mut packed,
        )
        .expect("it packs");
        let x: Vec<f32> = (0..n_inputs * k).map(|_| random.normal()).collect();
        let mut weights = vec![0.0_f32; n_rows * k];
        dequantize_row(dtype, &original, &mut weights).expect("it reads");
        let mut expected = Vec::with_capacity(n_inputs * n_rows);
        for x in x.chunks_exact(k) {
            for w in weights.chunks_exact(k) {
                expected.push(
                    w.iter()
                        .zip(x)
                        .map(|(w, x)| f64::from(*w) * f64::from(*x))
                        .sum(),
                );
            }
        }
        Self {
            dtype,
            n_rows,
            k,
            n_inputs,
            original,
            packed,
            x,
            expected,
        }
    }

    fn weights(&self) -> PackedMatrix<'_> {
        PackedMatrix::new(self.dtype, self.n_rows, self.k, &self.packed).expect("packed weights")
    }

    fn groups(&self, isa: Isa) -> Vec<ActivationGroup> {
        if !self.dtype.is_block() {
            return Vec::new();
        }
        let mut groups = vec![ActivationGroup::default(); self.x.len() / 32];
        quantize_activations(isa, &self.x, &mut groups).expect("it quantises");
        groups
    }

    fn inputs<'a>(&'a self, groups: &'a [ActivationGroup]) -> Inputs<'a> {
        if self.dtype.is_block() {
            Inputs::Quantized(QuantizedRows::new(groups, self.k).expect("rows"))
        } else {
            Inputs::Floats {
                values: &self.x,
                k: self.k,
            }
        }
    }

    /// The whole product at a level, rows `stride` apart in poisoned memory whose gaps must stay poisoned.
    fn run(&self, isa: Isa) -> Vec<f32> {
        let groups = self.groups(isa);
        let stride = self.n_rows + 3;
        let mut out = vec![f32::NAN; self.n_inputs * stride];
        let mut output =
            Output::new(&mut out, self.n_inputs, self.n_rows, stride).expect("it fits");
        let columns = Columns::Dense {
            start: 0,
            n: self.n_inputs,
        };
        matmul(
            isa,
            &self.weights(),
            0..tile_count(self.n_rows),
            &self.inputs(&groups),
            columns,
            &mut output,
        )
        .expect("a valid product");
        let mut found = Vec::with_capacity(self.expected.len());
        for row in out.chunks_exact(stride) {
            found.extend_from_slice(&row[..self.n_rows]);
            assert!(
                row[self.n_rows..].iter().all(|x| x.is_nan()),
                "{} wrote behind a row",
                self.dtype
            );
        }
        found
    }

    /// The error from the exact product that is allowed: activations of 8 bits, or none.
    fn tolerance(&self) -> f64 {
        if self.dtype.is_block() { 1e-4 } else { 1e-12 }
    }

    /// The product of the weights and the activations as quantised, in float64: what the integer kernels compute.
    fn expected_of_quants(&self, groups: &[ActivationGroup]) -> Vec<f64> {
        let x: Vec<f64> = groups
            .iter()
            .flat_map(|g| g.quants.map(|q| f64::from(q) * f64::from(g.scale)))
            .collect();
        let mut weights = vec![0.0_f32; self.n_rows * self.k];
        dequantize_row(self.dtype, &self.original, &mut weights).expect("it reads");
        let columns = x.chunks_exact(self.k);
        columns
            .flat_map(|x| {
                weights
                    .chunks_exact(self.k)
                    .map(move |w| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
            })
            .collect()
    }
}

fn nmse<'a>(found: &[f32], expected: impl IntoIterator<Item = &'a f64>) -> f64 {
    let (mut error, mut power) = (0.0, 0.0);
    for (f, e) in found.iter().zip(expected) {
        error += (f64::from(*f) - e).powi(2);
        power += e * e;
    }
    if error == 0.0 { 0.0 } else { error / power }
}

#[test]
fn every_format_and_level_gives_the_product() {
    let mut random = Random(1);
    for dtype in FORMATS {
        let unit = dtype.block_elems();
        let widths = if unit == 1 {
            [1, 33, 700]
        } else if unit == 32 {
            [32, 96, 544]
        } else {
            [256, 512, 768]
        };
        for (n_rows, k, n_inputs) in [
            (1, widths[0], 1),
            (40, widths[1], 40),
            (33, widths[2], 7),
            (16, widths[2], 2),
        ] {
            let problem = Problem::new(dtype, (n_rows, k), n_inputs, &mut random);
            for isa in Isa::available() {
                let found = problem.run(isa);
                let groups = problem.groups(isa);
                let expected = if dtype.is_block() {
                    &problem.expected_of_quants(&groups)
                } else {
                    &problem.expected
                };
                let error = nmse(&found, expected);
                // A single short dot product may cancel: its error is then large beside its value.
                let limit = if n_rows * n_inputs < 8 { 1e-9 } else { 1e-12 };
                assert!(
                    error <= limit,
                    "{dtype} [{n_rows}, {k}] x {n_inputs} on {isa}: NMSE {error:e}"
                );
            }
        }
    }
}

/// llama.cpp's CPU products with 8-bit activations have 1.5e-5 to 4.7e-5.
#[test]
fn quantised_activations_cost_little() {
    let mut random = Random(11);
    for dtype in FORMATS.into_iter().filter(|d| d.is_block()) {
        let problem = Problem::new(dtype, (128, 1024), 32, &mut random);
        let error = nmse(&problem.run(Isa::best()), &problem.expected);
        assert!(error <= 4e-5, "{dtype}: NMSE {error:e}");
    }
}

#[test]
fn every_column_count_is_served() {
    let mut random = Random(2);
    for dtype in [
        DType::Q4_K,
        DType::Q6_K,
        DType::Q8_0,
        DType::Q2_K,
        DType::F16,
    ] {
        for n_inputs in 1..=40 {
            let problem = Problem::new(dtype, (48, 256), n_inputs, &mut random);
            for isa in Isa::available() {
                let error = nmse(&problem.run(isa), &problem.expected);
                assert!(
                    error <= problem.tolerance(),
                    "{dtype} x {n_inputs} on {isa}: NMSE {error:e}"
                );
            }
        }
    }
}

/// The levels differ in the order of float additions only: their integers are the same.
#[test]
fn levels_agree_with_the_scalar_one() {
    let mut random = Random(3);
    for dtype in FORMATS {
        let problem = Problem::new(dtype, (64, 512), 13, &mut random);
        let scalar: Vec<f64> = problem
            .run(Isa::Scalar)
            .iter()
            .map(|x| f64::from(*x))
            .collect();
        for isa in Isa::available() {
            let error = nmse(&problem.run(isa), &scalar);
            assert!(
                error <= 1e-12,
                "{dtype} on {isa}: NMSE {error:e} from the scalar level"
            );
        }
    }
}

#[test]
fn routed_columns_go_where_they_are_sent() {
    let mut random = Random(4);
    for dtype in [DType::Q4_K, DType::Q8_0, DType::BF16] {
        let problem = Problem::new(dtype, (50, 256), 9, &mut random);
        // Input rows repeat, outputs are scattered and leave rows 0 and 5 alone.
        let routes: Vec<Routed> = [
            (3, 11),
            (8, 1),
            (3, 2),
            (0, 12),
            (7, 3),
            (1, 4),
            (2, 6),
            (4, 10),
            (5, 9),
            (6, 8),
            (3, 7),
        ]
        .map(|(input, output)| Routed { input, output })
        .to_vec();
        for isa in Isa::available() {
            let groups = problem.groups(isa);
            let mut out = vec![f32::NAN; 13 * problem.n_rows];
            let mut output =
                Output::new(&mut out, 13, problem.n_rows, problem.n_rows).expect("it fits");
            let columns = Columns::Routed(&routes);
            matmul(
                isa,
                &problem.weights(),
                0..4,
                &problem.inputs(&groups),
                columns,
                &mut output,
            )
            .expect("valid");
            for (row, values) in out.chunks_exact(problem.n_rows).enumerate() {
                match routes.iter().find(|r| r.output as usize == row) {
                    Some(route) => {
                        let expected = &problem.expected[route.input as usize * problem.n_rows..]
                            [..problem.n_rows];
                        let error = nmse(values, expected);
                        assert!(
                            error <= 1e-4,
                            "{dtype} on {isa}, output row {row}: NMSE {error:e}"
                        );
                    }
                    None => assert!(
                        values.iter().all(|x| x.is_nan()),
                        "{dtype} on {isa} wrote row {row}"
                    ),
                }
            }
        }
    }
}

#[test]
fn threads_may_split_the_tiles() {
    let mut random = Random(5);
    let problem = Problem::new(DType::Q5_K, (100, 256), 8, &mut random);
    let groups = problem.groups(Isa::best());
    let mut out = vec![f32::NAN; 8 * 100];
    let whole = Output::new(&mut out, 8, 100, 100).expect("it fits");
    std::thread::scope(|scope| {
        for tiles in [0..1, 1..4, 4..7] {
            let (problem, groups) = (&problem, &groups);
            // SAFETY: the ranges of tiles are disjoint.
            let mut output = unsafe { whole.share() };
            scope.spawn(move || {
                let columns = Columns::Dense { start: 0, n: 8 };
                matmul(
                    Isa::best(),
                    &problem.weights(),
                    tiles,
                    &problem.inputs(groups),
                    columns,
                    &mut output,
                )
                .expect("valid");
            });
        }
    });
    let error = nmse(&out, &problem.expected);
    assert!(error <= problem.tolerance(), "NMSE {error:e}");
}

#[test]
fn packing_loses_nothing() {
    let mut random = Random(6);
    for dtype in FORMATS {
        for n_rows in [1, 16, 37] {
            let k = dtype.block_elems() * 3;
            let problem = Problem::new(dtype, (n_rows, k), 1, &mut random);
            let row_bytes = dtype.row_bytes(k).expect("whole blocks");
            assert_eq!(
                problem.packed.len(),
                n_rows.next_multiple_of(TILE_ROWS) * row_bytes
            );
            let mut back = vec![0; problem.original.len()];
            unpack(dtype, (n_rows, k), &problem.packed, 0..n_rows, &mut back).expect("it unpacks");
            assert!(back == problem.original, "{dtype} x {n_rows}");
            // A range, and tiles packed one by one.
            let range = n_rows / 2..n_rows;
            let mut part = vec![0; range.len() * row_bytes];
            unpack(
                dtype,
                (n_rows, k),
                &problem.packed,
                range.clone(),
                &mut part,
            )
            .expect("it unpacks");
            assert!(
                part == problem.original[range.start * row_bytes..],
                "{dtype} x {n_rows}"
            );
            let tile_bytes = TILE_ROWS * row_bytes;
            let mut tile = vec![0xaa; tile_bytes];
            for t in 0..tile_count(n_rows) {
                pack(dtype, (n_rows, k), &problem.original, t..t + 1, &mut tile).expect("it packs");
                assert!(
                    tile == problem.packed[t * tile_bytes..][..tile_bytes],
                    "{dtype} x {n_rows}, tile {t}"
                );
            }
        }
    }
}

#[test]
fn activations_are_the_same_at_every_level() {
    let mut random = Random(7);
    let mut x: Vec<f32> = (0..320).map(|_| random.normal() * 3.0).collect();
    x[0] = f32::NAN;
    x[40] = f32::NEG_INFINITY;
    x[64..96].fill(0.0);
    x[96..128].fill(1.0e-40);
    x[130] = 1.0e30;
    let mut reference = vec![ActivationGroup::default(); 10];
    quantize_activations(Isa::Scalar, &x, &mut reference).expect("whole groups");
    assert!(reference[0].scale.is_nan() && reference[1].scale.is_nan());
    assert_eq!(reference[2], ActivationGroup::default());
    assert_eq!(reference[3], ActivationGroup::default());
    for (group, x) in reference.iter().zip(x.chunks_exact(32)).skip(4) {
        let sums = group
            .quants
            .chunks_exact(16)
            .map(|half| -half.iter().map(|q| i32::from(*q)).sum::<i32>());
        assert_eq!(group.negated_sums.to_vec(), sums.collect::<Vec<_>>());
        for (q, x) in group.quants.iter().zip(x) {
            assert!(
                (f32::from(*q) * group.scale - x).abs() <= 0.5001 * group.scale,
                "{x}"
            );
        }
    }
    for isa in Isa::available() {
        let mut groups = vec![ActivationGroup::default(); 10];
        quantize_activations(isa, &x, &mut groups).expect("whole groups");
        for (a, b) in groups.iter().zip(&reference) {
            assert_eq!(a.quants, b.quants, "{isa}");
            assert_eq!(a.negated_sums, b.negated_sums, "{isa}");
            assert_eq!(a.scale.to_bits(), b.scale.to_bits(), "{isa}");
        }
    }
}

#[test]
fn an_activation_that_is_not_finite_shows_in_every_product() {
    let mut random = Random(8);
    let mut problem = Problem::new(DType::Q4_0, (16, 64), 2, &mut random);
    problem.x[70] = f32::INFINITY;
    for isa in Isa::available() {
        let found = problem.run(isa);
        assert!(found[..16].iter().all(|x| x.is_finite()), "{isa}");
        assert!(found[16..].iter().all(|x| x.is_nan()), "{isa}");
    }
}

#[test]
fn wrong_operands_are_errors() {
    let mut random = Random(10);
    let problem = Problem::new(DType::Q8_0, (20, 64), 3, &mut random);
    let groups = problem.groups(Isa::Scalar);
    let mut out = vec![0.0; 60];
    let mut run = |inputs: &Inputs<'_>, tiles, columns, n_rows, width| {
        let mut output = Output::new(&mut out, n_rows, width, width).expect("it fits");
        matmul(
            Isa::Scalar,
            &problem.weights(),
            tiles,
            inputs,
            columns,
            &mut output,
        )
        .expect_err("wrong operands")
    };
    let dense = |n| Columns::Dense { start: 0, n };
    let good = problem.inputs(&groups);
    let floats = Inputs::Floats {
        values: &problem.x,
        k: 64,
    };
    let narrow = Inputs::Quantized(QuantizedRows::new(&groups, 32).expect("rows"));
    assert_eq!(
        run(&floats, 0..2, dense(3), 3, 20),
        GemmError::InputKind {
            dtype: DType::Q8_0,
            expected: "quantised",
            found: "F32"
        }
    );
    let inner = GemmError::Inner {
        dtype: DType::Q8_0,
        weights_k: 64,
        inputs_k: 32,
    };
    assert_eq!(run(&narrow, 0..2, dense(3), 3, 20), inner);
    assert_eq!(
        run(&good, 1..3, dense(3), 3, 20),
        GemmError::TileRange {
            tiles: 1..3,
            n_tiles: 2
        }
    );
    assert_eq!(
        run(&good, 0..2, dense(4), 3, 20),
        GemmError::InputRow { row: 3, n_rows: 3 }
    );
    assert_eq!(
        run(&good, 0..2, dense(3), 2, 20),
        GemmError::OutputRow { row: 2, n_rows: 2 }
    );
    assert_eq!(
        run(&good, 0..2, dense(3), 3, 19),
        GemmError::OutputWidth {
            width: 19,
            n_rows: 20
        }
    );
    let far = [Routed {
        input: 0,
        output: 9,
    }];
    assert_eq!(
        run(&good, 0..2, Columns::Routed(&far), 3, 20),
        GemmError::OutputRow { row: 9, n_rows: 3 }
    );
    let error = Output::new(&mut [0.0; 10], 2, 6, 5).expect_err("overlapping rows");
    assert_eq!(
        error,
        GemmError::OutputLength {
            n_rows: 2,
            width: 6,
            stride: 5,
            len: 10
        }
    );
    assert!(
        packed_bytes(DType::Q4_K, 4, 100).is_none() && packed_bytes(DType::I32, 4, 4).is_none()
    );
}
