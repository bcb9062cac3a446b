//! The scene of a problem: the graph under construction together with its data and the answers expected of it.

use std::sync::Arc;

use ggrs_core::error::Fault;
use ggrs_core::ops::Op;
use ggrs_core::{DType, Graph, GraphBuilder, GraphError, Value};

use super::{Operand, Problem, Tolerance, View};
use crate::oracle::{Array, Dense, IntArray, decode_ints, dequantize, encode_floats, encode_ints};
use crate::random::RandomInputs;

/// Elements after which large random leaves repeat where nothing is expected: drawing takes longer than what is timed.
const DRAWN: usize = 1 << 18;

/// What a leaf is to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written before each run.
    Input,
    /// Loaded once.
    Weight,
    /// Kept between runs.
    State,
    /// Part of the graph.
    Constant,
}

/// A leaf and its bytes.
#[derive(Clone, Debug)]
pub struct LeafData {
    /// Its name in the graph.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its content before a run.
    pub bytes: Arc<[u8]>,
}

/// Where an answer is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An output.
    Output(String),
    /// A state, after the run.
    State(String),
}

/// What is expected in a place.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where.
    pub place: Place,
    /// The dtype there.
    pub dtype: DType,
    /// The values.
    pub values: Answers,
}

/// Expected values.
#[derive(Clone, Debug)]
pub enum Answers {
    /// Within a bound.
    Floats(Array, Tolerance),
    /// Equal.
    Ints(IntArray),
}

/// Data for an input that a run must refuse.
#[derive(Clone, Debug)]
pub struct BadData {
    /// The input.
    pub leaf: String,
    /// Its bad content.
    pub bytes: Vec<u8>,
    /// What the run must say.
    pub fault: Fault,
}

/// A problem with its graph, data and answers.
pub struct Posed {
    /// The problem in words.
    pub name: String,
    /// The op it is about.
    pub stem: &'static str,
    /// The graph.
    pub graph: Graph,
    /// Its leaves but the constants.
    pub leaves: Vec<LeafData>,
    /// What is expected; empty if it was not asked for.
    pub answers: Vec<Answer>,
    /// What must be refused.
    pub bad_data: Vec<BadData>,
}

/// Builds a problem's graph and data, and with `answered` the oracle's answers, which large problems (benches) spare.
///
/// # Errors
/// The problem's graph is wrong.
pub fn pose(problem: &dyn Problem, answered: bool) -> Result<Posed, GraphError> {
    let name = format!("{problem:?}");
    let mut scene = Scene {
        graph: GraphBuilder::new(),
        random: RandomInputs::new(seed(&name)),
        answered,
        leaves: Vec::new(),
        answers: Vec::new(),
        bad_data: Vec::new(),
    };
    problem.pose(&mut scene)?;
    Ok(Posed {
        name,
        stem: problem.stem(),
        graph: scene.graph.seal()?,
        leaves: scene.leaves,
        answers: if answered { scene.answers } else { Vec::new() },
        bad_data: scene.bad_data,
    })
}

/// Values of any dtype.
fn decode(dtype: DType, shape: &[usize], bytes: &[u8]) -> Array {
    if dtype.is_int() {
        decode_ints(dtype, shape, bytes).map(|id| id as f64)
    } else {
        dequantize(dtype, shape, bytes)
    }
}

/// What is expected where the dtype is this: integers must be equal.
fn values(dtype: DType, values: Array, tolerance: Tolerance) -> Answers {
    if dtype.is_int() {
        Answers::Ints(values.map(|v| v as i64))
    } else {
        Answers::Floats(values, tolerance)
    }
}

/// The same seed for the same name, on every machine (FNV-1a).
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A graph under construction, its data, and the answers expected of it.
pub struct Scene {
    /// The graph.
    pub graph: GraphBuilder,
    /// Where data comes from.
    pub random: RandomInputs,
    answered: bool,
    leaves: Vec<LeafData>,
    answers: Vec<Answer>,
    bad_data: Vec<BadData>,
}

/// A leaf that still wants its data.
pub struct Leaf<'s> {
    scene: &'s mut Scene,
    role: Role,
    operand: Operand,
}

/// An operand with its data: what an op takes and what the oracle takes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The operand in the graph.
    pub value: Value,
    operand: Operand,
    leaf: String,
    leaf_shape: Vec<usize>,
    bytes: Arc<[u8]>,
}

impl Scene {
    /// An input.
    pub fn input(&mut self, operand: &Operand) -> Leaf<'_> {
        self.leaf(Role::Input, operand)
    }

    /// A weight.
    pub fn weight(&mut self, operand: &Operand) -> Leaf<'_> {
        self.leaf(Role::Weight, operand)
    }

    /// A state.
    pub fn state(&mut self, operand: &Operand) -> Leaf<'_> {
        self.leaf(Role::State, operand)
    }

    /// A leaf of any role.
    pub fn leaf(&mut self, role: Role, operand: &Operand) -> Leaf<'_> {
        Leaf {
            scene: self,
            role,
            operand: operand.clone(),
        }
    }

    /// Adds an op with one result.
    pub fn apply(&mut self, op: impl Into<Op>, operands: &[&Tensor]) -> Result<Value, GraphError> {
        let results = self.push(op, operands)?;
        results.first().copied().ok_or(GraphError::NoOutputs)
    }

    /// Adds an op.
    pub fn push(
        &mut self,
        op: impl Into<Op>,
        operands: &[&Tensor],
    ) -> Result<Vec<Value>, GraphError> {
        let values: Vec<Value> = operands.iter().map(|tensor| tensor.value).collect();
        Ok(self.graph.push(op, &values)?.to_vec())
    }

    /// Marks an output and says what it must be; integers must be equal. The oracle is asked only if answers are wanted.
    pub fn expect(
        &mut self,
        value: Value,
        tolerance: Tolerance,
        answer: impl FnOnce() -> Array,
    ) -> Result<(), GraphError> {
        let place = self.output(value)?;
        self.answer(place, value, |dtype| values(dtype, answer(), tolerance));
        Ok(())
    }

    /// Marks an output of integers and says what it must be.
    pub fn expect_ints(
        &mut self,
        value: Value,
        answer: impl FnOnce() -> IntArray,
    ) -> Result<(), GraphError> {
        let place = self.output(value)?;
        self.answer(place, value, |_| Answers::Ints(answer()));
        Ok(())
    }

    /// Says what the state behind `written`, which was written in place, must be as an operand after the run. All of
    /// the state beside it must be as before.
    pub fn expect_state(
        &mut self,
        written: &Tensor,
        tolerance: Tolerance,
        answer: impl FnOnce() -> Array,
    ) {
        let place = Place::State(written.leaf.clone());
        self.answer(place, written.value, |dtype| {
            let leaf = decode(dtype, &written.leaf_shape, &written.bytes);
            values(
                dtype,
                written.operand.view.write(&leaf, &answer(), dtype),
                tolerance,
            )
        });
    }

    fn output(&mut self, value: Value) -> Result<Place, GraphError> {
        let name = format!("y{}", self.answers.len());
        self.graph.output(&name, value)?;
        Ok(Place::Output(name))
    }

    fn answer(&mut self, place: Place, value: Value, values: impl FnOnce(DType) -> Answers) {
        let Some(dtype) = self.graph.desc(value).map(|desc| desc.dtype) else {
            return;
        };
        // Without answers the outputs still need different names.
        let values = if self.answered {
            values(dtype)
        } else {
            Answers::Ints(IntArray::filled(&[0], 0))
        };
        self.answers.push(Answer {
            place,
            dtype,
            values,
        });
    }

    /// With these ids in the place of `tensor`'s a run must end in `fault`.
    pub fn refuse_ids(&mut self, tensor: &Tensor, ids: &IntArray, fault: Fault) {
        let filler = IntArray::filled(&tensor.leaf_shape, 0);
        let leaf = tensor
            .operand
            .view
            .write(&filler, ids, tensor.operand.dtype);
        self.refuse(tensor, encode_ints(&leaf, tensor.operand.dtype), fault);
    }

    /// With these values in the place of `tensor`'s a run must end in `fault`.
    pub fn refuse_floats(&mut self, tensor: &Tensor, values: &Array, fault: Fault) {
        let filler = Array::filled(&tensor.leaf_shape, 0.0);
        let leaf = tensor
            .operand
            .view
            .write(&filler, values, tensor.operand.dtype);
        self.refuse(tensor, encode_floats(&leaf, tensor.operand.dtype), fault);
    }

    fn refuse(&mut self, tensor: &Tensor, bytes: Vec<u8>, fault: Fault) {
        let leaf = tensor.leaf.clone();
        self.bad_data.push(BadData { leaf, bytes, fault });
    }
}

impl Leaf<'_> {
    /// Normal values, in block formats random blocks of about this deviation. Large ones repeat where nothing is expected.
    pub fn normals(self, std: f64) -> Result<Tensor, GraphError> {
        let (dtype, shape) = (self.operand.dtype, self.leaf_shape());
        let n_elems = shape.iter().product();
        let repeats = !self.scene.answered && n_elems > DRAWN && shape == self.operand.shape;
        if let (true, Some(n_bytes)) = (repeats, dtype.row_bytes(n_elems)) {
            let drawn = self.scene.random.weights(dtype, DRAWN, std);
            let mut bytes = drawn.repeat(n_bytes.div_ceil(drawn.len()));
            bytes.truncate(n_bytes);
            return self.bytes(bytes);
        }
        if dtype.is_block() {
            let bytes = self.scene.random.weights(dtype, n_elems, std);
            return self.bytes(bytes);
        }
        let values = self.scene.random.normals(&self.operand.shape, std);
        self.values(&values)
    }

    /// Uniform values.
    pub fn uniforms(self, low: f64, high: f64) -> Result<Tensor, GraphError> {
        let values = self.scene.random.uniforms(&self.operand.shape, low, high);
        self.values(&values)
    }

    /// These values, rounded to the operand's scalar dtype. What of the leaf is beside the operand is NaN.
    pub fn values(self, values: &Array) -> Result<Tensor, GraphError> {
        let bytes = encode_floats(&self.embedded(values, f64::NAN), self.operand.dtype);
        self.bytes(bytes)
    }

    /// Random ids below `n`.
    pub fn ids_below(self, n: usize) -> Result<Tensor, GraphError> {
        let ids = self.scene.random.ids(&self.operand.shape, n);
        self.ids(&ids)
    }

    /// These ids. What of the leaf is beside the operand is no valid id.
    pub fn ids(self, ids: &IntArray) -> Result<Tensor, GraphError> {
        let bytes = encode_ints(&self.embedded(ids, i32::MAX.into()), self.operand.dtype);
        self.bytes(bytes)
    }

    /// These bytes of the whole leaf.
    pub fn bytes(self, bytes: Vec<u8>) -> Result<Tensor, GraphError> {
        let leaf_shape = self.leaf_shape();
        let Self {
            scene,
            role,
            operand,
        } = self;
        let (graph, dtype) = (&mut scene.graph, operand.dtype);
        let bytes: Arc<[u8]> = bytes.into();
        let leaf = format!("{role:?}{}", scene.leaves.len()).to_lowercase();
        let shape = leaf_shape.as_slice();
        let value = match role {
            Role::Input => graph.input(&leaf, dtype, shape)?,
            Role::Weight => graph.weight(&leaf, dtype, shape)?,
            Role::State => graph.state(&leaf, dtype, shape)?,
            Role::Constant => graph.constant(&leaf, dtype, shape, Arc::clone(&bytes))?,
        };
        scene.leaves.push(LeafData {
            name: leaf.clone(),
            role,
            bytes: Arc::clone(&bytes),
        });
        let value = operand.view.build(graph, value, &operand.shape, dtype)?;
        Ok(Tensor {
            value,
            operand,
            leaf,
            leaf_shape,
            bytes,
        })
    }

    fn leaf_shape(&self) -> Vec<usize> {
        self.operand
            .view
            .leaf_shape(&self.operand.shape, self.operand.dtype)
    }

    fn embedded<T: Copy>(&self, values: &Dense<T>, beside: T) -> Dense<T> {
        let leaf = Dense::filled(&self.leaf_shape(), beside);
        self.operand.view.write(&leaf, values, self.operand.dtype)
    }
}

impl Tensor {
    /// The operand's values, also of integers.
    pub fn floats(&self) -> Array {
        let Operand { dtype, shape, view } = &self.operand;
        view.of(
            &decode(*dtype, &self.leaf_shape, &self.bytes),
            shape,
            *dtype,
        )
    }

    /// The operand's ids.
    pub fn ints(&self) -> IntArray {
        let Operand { dtype, shape, view } = &self.operand;
        view.of(
            &decode_ints(*dtype, &self.leaf_shape, &self.bytes),
            shape,
            *dtype,
        )
    }

    /// Its dtype.
    pub fn dtype(&self) -> DType {
        self.operand.dtype
    }

    /// Its view.
    pub fn view(&self) -> View {
        self.operand.view
    }
}
