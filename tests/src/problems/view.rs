//! Problems of views: chains of them, made gapless by a copy.

use ggrs_core::{DType, GraphError};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use super::Family;
use super::strategies::{one_of, shape};
use crate::oracle::{self, Array};
use crate::problem::{Problem, Scene, Tolerance, operand};

/// One view.
#[derive(Clone, Debug)]
enum Step {
    Reshape(Vec<usize>),
    Permute(Vec<usize>),
    /// Axis, start, length.
    Slice(usize, usize, usize),
    Broadcast(Vec<usize>),
}

/// A chain of views and a copy of what the last one shows.
#[derive(Clone, Debug)]
struct Views {
    stem: &'static str,
    dtype: DType,
    shape: Vec<usize>,
    steps: Vec<Step>,
}

impl Step {
    fn of(&self, x: &Array) -> Array {
        match self {
            Self::Reshape(shape) => oracle::reshape(x, shape),
            Self::Permute(axes) => oracle::permute(x, axes),
            Self::Slice(axis, start, len) => oracle::slice(x, *axis, *start, start + len),
            Self::Broadcast(shape) => oracle::broadcast(x, shape),
        }
    }
}

impl Problem for Views {
    fn stem(&self) -> &'static str {
        self.stem
    }

    fn pose(&self, scene: &mut Scene) -> Result<(), GraphError> {
        let leaf = scene.input(&operand(self.dtype, self.shape.as_slice()));
        let x = if self.dtype.is_int() {
            leaf.ids_below(1000)
        } else {
            leaf.normals(1.0)
        }?;
        let (graph, mut y) = (&mut scene.graph, x.value);
        for step in &self.steps {
            y = match step {
                Step::Reshape(shape) => graph.reshape(y, shape.as_slice()),
                Step::Permute(axes) => graph.permute(y, axes),
                Step::Slice(axis, start, len) => graph.slice(y, *axis, *start, *len),
                Step::Broadcast(shape) => graph.broadcast(y, shape.as_slice()),
            }?;
        }
        let y = graph.contiguous(y)?;
        scene.expect(y, Tolerance::of("contiguous", self.dtype), || {
            self.steps.iter().fold(x.floats(), |x, step| step.of(&x))
        })
    }
}

fn rows(stem: &'static str) -> Vec<Views> {
    let chain = |dtype, shape: &[usize], steps: &[Step]| Views {
        stem,
        dtype,
        shape: shape.into(),
        steps: steps.into(),
    };
    let plain = |shape: &[usize], step: Step| chain(DType::F32, shape, &[step]);
    let cut_heads = [Step::Slice(1, 4, 8), Step::Reshape(vec![5, 2, 4])];
    match stem {
        "reshape" => vec![
            plain(&[6, 4], Step::Reshape(vec![2, 3, 4])),
            plain(&[6, 4], Step::Reshape(vec![24])),
            plain(&[1], Step::Reshape(vec![])),
            plain(&[0, 4], Step::Reshape(vec![2, 0])),
            plain(&[2, 3, 33], Step::Reshape(vec![1, 6, 1, 33])),
            chain(DType::F32, &[5, 16], &cut_heads),
            chain(DType::I64, &[4, 6], &[Step::Reshape(vec![3, 8])]),
            chain(DType::Q8_0, &[4, 64], &[Step::Reshape(vec![2, 4, 32])]),
        ],
        "permute" => vec![
            plain(&[3, 7], Step::Permute(vec![1, 0])),
            plain(&[2, 3, 4, 5], Step::Permute(vec![3, 1, 0, 2])),
            plain(&[2, 3, 4, 5], Step::Permute(vec![0, 2, 1, 3])),
            plain(&[0, 3], Step::Permute(vec![1, 0])),
            chain(DType::F16, &[17, 33], &[Step::Permute(vec![1, 0])]),
            chain(DType::I32, &[3, 2, 7], &[Step::Permute(vec![2, 0, 1])]),
            chain(DType::Q4_0, &[3, 2, 64], &[Step::Permute(vec![1, 0, 2])]),
            chain(
                DType::F32,
                &[3, 5, 7],
                &[Step::Permute(vec![1, 2, 0]), Step::Permute(vec![1, 0, 2])],
            ),
            chain(DType::F32, &[40, 70], &[Step::Permute(vec![1, 0])]),
        ],
        "slice" => vec![
            plain(&[7], Step::Slice(0, 3, 1)),
            plain(&[7, 5], Step::Slice(0, 2, 0)),
            plain(&[7, 33], Step::Slice(1, 1, 31)),
            plain(&[3, 4, 5], Step::Slice(1, 1, 2)),
            chain(
                DType::BF16,
                &[3, 9],
                &[Step::Slice(1, 3, 5), Step::Permute(vec![1, 0])],
            ),
            chain(DType::Q4_K, &[3, 512], &[Step::Slice(1, 256, 256)]),
            chain(
                DType::F32,
                &[6, 6],
                &[Step::Slice(0, 1, 4), Step::Slice(1, 2, 3)],
            ),
        ],
        _ => vec![
            plain(&[1], Step::Broadcast(vec![7])),
            plain(&[], Step::Broadcast(vec![3, 5])),
            plain(&[3, 1, 5], Step::Broadcast(vec![2, 3, 4, 5])),
            plain(&[1, 33], Step::Broadcast(vec![0, 33])),
            chain(
                DType::F16,
                &[4, 1],
                &[Step::Broadcast(vec![4, 33]), Step::Permute(vec![1, 0])],
            ),
            chain(DType::Q8_0, &[1, 32], &[Step::Broadcast(vec![3, 32])]),
            chain(
                DType::I32,
                &[2, 1, 3],
                &[Step::Slice(2, 1, 1), Step::Broadcast(vec![2, 5, 1])],
            ),
        ],
    }
}

/// Random views of what there is, the last of them the one that `stem` names. A reshape comes first, where every shape is
/// possible.
fn any_views(stem: &'static str) -> impl Strategy<Value = Views> {
    let dtypes = one_of([DType::F32, DType::F16, DType::I32, DType::I64]);
    (
        dtypes,
        shape(1..=4),
        vec((0usize..3, any::<[u8; 4]>()), 0..3),
        any::<[u8; 4]>(),
    )
        .prop_map(move |(dtype, shape, kinds, choice)| {
            let mut steps = Vec::new();
            let mut now = shape.clone();
            let mut push = |kind: usize, choice: [u8; 4]| {
                let (step, next) = step(kind, choice.map(usize::from), &now);
                steps.push(step);
                now = next;
            };
            let last = ["permute", "slice", "broadcast", "reshape"]
                .iter()
                .position(|name| *name == stem)
                .unwrap_or(0);
            if last == 3 {
                push(3, choice);
            }
            for (kind, choice) in kinds {
                push(kind, choice);
            }
            if last != 3 {
                push(last, choice);
            }
            Views {
                stem,
                dtype,
                shape,
                steps,
            }
        })
}

/// A view of this shape, and the shape it shows.
fn step(kind: usize, choice: [usize; 4], shape: &[usize]) -> (Step, Vec<usize>) {
    let rank = shape.len();
    match kind {
        0 => {
            let mut axes: Vec<usize> = (0..rank).collect();
            axes.sort_by_key(|axis| choice[axis % 4]);
            let next = axes.iter().map(|&axis| shape[axis]).collect();
            (Step::Permute(axes), next)
        }
        1 => {
            let axis = choice[0] % rank.max(1);
            let start = choice[1] % (shape[axis] + 1);
            let len = choice[2] % (shape[axis] - start + 1);
            let mut next = shape.to_vec();
            next[axis] = len;
            (Step::Slice(axis, start, len), next)
        }
        2 => {
            let mut next: Vec<usize> = shape
                .iter()
                .enumerate()
                .map(|(i, &n)| if n == 1 { choice[i % 4] % 5 } else { n })
                .collect();
            if rank < 5 && choice[3].is_multiple_of(2) {
                next.insert(0, choice[2] % 4);
            }
            (Step::Broadcast(next.clone()), next)
        }
        _ => {
            let n: usize = shape.iter().product();
            let divisor = (1..=n)
                .filter(|d| n.is_multiple_of(*d))
                .nth(choice[0] % 4)
                .unwrap_or(1);
            let next = vec![n / divisor, divisor];
            (Step::Reshape(next.clone()), next)
        }
    }
}

pub(super) fn family(stem: &str) -> Option<Family> {
    let stem = ["reshape", "permute", "slice", "broadcast"]
        .into_iter()
        .find(|name| *name == stem)?;
    Some(Family::new(rows(stem), any_views(stem)))
}
