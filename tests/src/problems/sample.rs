//! Problems of choosing the next token: every stage alone and together, ties, masked tokens, padding, damaged logits.

use ggrs_core::error::Fault;
use ggrs_core::ops::Sample;
use ggrs_core::{DType, GraphError};
use proptest::prelude::{Just, Strategy, prop_oneof};

use super::Family;
use super::strategies::{one_of, positive};
use crate::oracle::{self, Array, IntArray};
use crate::problem::{Operand, Problem, Scene, Tolerance, View, operand};

const I32: DType = DType::I32;
const F32: DType = DType::F32;

#[derive(Clone, Copy, Debug)]
enum Logits {
    Normal,
    /// Few different values.
    Ties,
    /// One token of three is forbidden.
    Masked,
    /// One token has nearly all of the probability.
    Peaked,
}

/// temperature, `top_k`, `top_p`, `min_p`, repetition, presence, frequency, window.
type Settings = [f32; 8];

const GREEDY: Settings = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 64.0];
const PLAIN: Settings = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 64.0];

#[derive(Clone, Debug)]
struct Chosen {
    n_sequences: usize,
    n_vocab: usize,
    ring: usize,
    view: View,
    logits: Logits,
    settings: Vec<Settings>,
    /// The first sequence is padding.
    is_padded: bool,
}

impl Chosen {
    fn logits(&self, scene: &mut Scene) -> Array {
        let shape = [self.n_sequences, self.n_vocab];
        let few = scene.random.ids(&shape, 3);
        let normals = scene.random.normals(&shape, 2.0);
        Array::from_fn(&shape, |i| match (self.logits, few.at(i)) {
            (Logits::Ties, id) => id as f64,
            // Not all of a row.
            (Logits::Masked, 0) if i[1] > 0 => f64::NEG_INFINITY,
            (Logits::Peaked, _) if i[1] == self.n_vocab / 2 => 30.0,
            _ => normals.at(i),
        })
    }

    fn cursor(&self, scene: &mut Scene) -> IntArray {
        let shape = [Sample::RING + self.ring, self.n_sequences];
        // A ring that is half full has tokens at its beginning.
        let positions = scene.random.ids(&[self.n_sequences], 2 * self.ring + 2);
        let tokens = scene.random.ids(&shape, self.n_vocab);
        let few = scene.random.ids(&shape, self.n_vocab.min(5));
        IntArray::from_fn(&shape, |i| match i[0] {
            Sample::POSITION => positions.at(&i[1..]),
            Sample::SLOT if self.is_padded && i[1] == 0 => -1,
            Sample::SLOT => i[1] as i64,
            Sample::DRAWS => few.at(i),
            row if row >= Sample::RING && (row - Sample::RING) as i64 > positions.at(&i[1..]) => -1,
            row if row % 2 == 0 => few.at(i),
            _ => tokens.at(i),
        })
    }
}

impl Problem for Chosen {
    fn stem(&self) -> &'static str {
        "sample"
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let n = self.n_sequences;
        let cursor = self.cursor(scene);
        let cursor = scene
            .state(&operand(I32, cursor.shape.clone()))
            .ids(&cursor)?;
        let values = self.logits(scene);
        let logits: Operand = operand(F32, values.shape.clone()).via(self.view);
        let logits = scene.input(&logits).values(&values)?;
        let settings = self.settings.iter().cycle().take(n).flatten();
        let settings = Array::new(&[n, 8], settings.map(|x| f64::from(*x)).collect());
        let settings = scene.input(&operand(F32, [n, 8])).values(&settings)?;
        let seeds = scene.random.ids(&[n], usize::MAX >> 1);
        let seeds = seeds.map(|seed| if seed % 2 == 0 { seed } else { -seed });
        let seeds = scene.input(&operand(DType::I64, [n])).ids(&seeds)?;
        let next = scene.apply(Sample, &[&cursor, &logits, &settings, &seeds])?;
        let answer = || {
            let (logits, settings) = (logits.floats(), settings.floats());
            oracle::sample(&cursor.ints(), &logits, &settings, &seeds.ints())
        };
        scene.expect_state(&cursor, Tolerance::of("sample", I32), || {
            answer().map(|id| id as f64)
        });
        scene.expect_ints(next, answer)?;

        // Damage in the last row, which is no padding.
        if n > usize::from(self.is_padded) && n > 0 {
            let fault = Fault::NotANumber {
                role: "logits",
                row: n - 1,
            };
            let last_row = (n - 1) * self.n_vocab..;
            for bad in [f64::NAN, f64::INFINITY] {
                let mut damaged = values.clone();
                damaged.data.pop();
                damaged.data.push(bad);
                scene.refuse_floats(&logits, &damaged, fault);
            }
            let mut masked = values;
            masked.data[last_row].fill(f64::NEG_INFINITY);
            scene.refuse_floats(&logits, &masked, fault);
        }
        Ok(())
    }
}

fn rows() -> Vec<Chosen> {
    let alone = |settings: Settings| vec![settings];
    let with = |change: &[(usize, f32)]| {
        let mut settings = PLAIN;
        for (i, value) in change {
            settings[*i] = *value;
        }
        settings
    };
    let stages = [
        GREEDY,
        PLAIN,
        with(&[(0, 0.3)]),
        with(&[(1, 1.0)]),
        with(&[(1, 40.0)]),
        with(&[(1, 1e6)]),
        with(&[(2, 0.9)]),
        with(&[(2, 1e-6)]),
        with(&[(3, 0.05)]),
        with(&[(3, 1.0)]),
        with(&[(0, 1e-30)]),
        with(&[(0, 50.0), (1, 500.0), (2, 0.999)]),
        with(&[(0, 0.8), (1, 40.0), (2, 0.95), (3, 0.05), (4, 1.1)]),
        [0.0, 0.0, 1.0, 0.0, 1.5, 0.0, 0.0, 64.0],
        [0.0, 0.0, 1.0, 0.0, 0.5, 0.25, 1.5, 7.0],
        [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 3e38, 64.0],
        [0.7, 0.0, 0.9, 0.0, 1.2, 0.5, 0.5, 1.0],
    ];
    let mut rows = Vec::new();
    for settings in stages {
        for (n_vocab, logits) in [
            (1, Logits::Normal),
            (7, Logits::Ties),
            (33, Logits::Masked),
            (1000, Logits::Normal),
            (5003, Logits::Peaked),
        ] {
            rows.push(Chosen {
                n_sequences: 1,
                n_vocab,
                ring: 16,
                view: View::Plain,
                logits,
                settings: alone(settings),
                is_padded: false,
            });
        }
    }
    // Different settings side by side; nothing to do; no ring; a vocabulary of many parts.
    for (n_sequences, n_vocab, ring, view, is_padded) in [
        (0, 7, 4, View::Plain, false),
        (1, 7, 0, View::Plain, true),
        (3, 257, 0, View::Plain, false),
        (5, 100, 3, View::ROWS_WHOLE[0], true),
        (17, 2049, 64, View::Plain, true),
        (2, 40_000, 256, View::Plain, false),
    ] {
        for logits in [Logits::Normal, Logits::Ties, Logits::Masked] {
            rows.push(Chosen {
                n_sequences,
                n_vocab,
                ring,
                view,
                logits,
                settings: stages.to_vec(),
                is_padded,
            });
        }
    }
    rows
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let settings = (
        one_of([0.0, 0.1, 0.8, 1.0, 3.0]),
        prop_oneof![Just(0.0), (1u8..60).prop_map(f32::from)],
        one_of([1.0, 0.99, 0.9, 0.5, 0.01]),
        one_of([0.0, 0.02, 0.3]),
        one_of([1.0, 1.3, 0.7]),
        one_of([0.0, 0.5, -0.5]),
        one_of([0.0, 0.2, 2.0]),
        (0u8..20).prop_map(f32::from),
    );
    let settings = settings.prop_map(|(a, b, c, d, e, f, g, h)| [a, b, c, d, e, f, g, h]);
    let any = (
        positive(),
        prop_oneof![positive(), 30usize..700],
        0usize..20,
        one_of(View::ROWS_WHOLE),
        one_of([Logits::Normal, Logits::Ties, Logits::Masked]),
        proptest::collection::vec(settings, 1..5),
        proptest::bool::ANY,
    );
    let any = any.prop_map(
        |(n_sequences, n_vocab, ring, view, logits, settings, is_padded)| Chosen {
            n_sequences,
            n_vocab,
            ring,
            view: if matches!(view, View::Repeated(_)) {
                View::Plain
            } else {
                view
            },
            logits,
            settings,
            is_padded,
        },
    );
    (stem == "sample").then(|| Family::new(rows(), any))
}
