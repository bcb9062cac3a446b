//! A small graph on one device, and a whole session with it.

use std::error::Error;
use std::sync::Arc;

use ggrs_core::device::{Bindings, BufferSlice, BufferUse, Device, Runner, WeightSource};
use ggrs_core::passes::PassSet;
use ggrs_core::plan::{Plan, PlanOptions, plan};
use ggrs_core::{DType, DeviceError, Graph, GraphBuilder};
use ggrs_tests::fake::device_error;

pub(crate) const ROWS: usize = 4;
pub(crate) const WIDTH: usize = 32;
pub(crate) const BYTES: u64 = (ROWS * WIDTH * 4) as u64;

pub(crate) fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let floats = bytes.chunks_exact(4);
    floats
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Graphs run as they are built.
pub(crate) fn options() -> PlanOptions {
    PlanOptions {
        passes: PassSet::none(),
        ..PlanOptions::default()
    }
}

pub(crate) fn planned(graph: &Graph, device: &dyn Device) -> Arc<Plan> {
    Arc::new(plan(graph, device, &options()).expect("a plan"))
}

/// `y = 16 * (weight x) + constant`, in five steps that share memory; `y` is also stored in a state.
pub(crate) fn chain() -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [ROWS, WIDTH]).unwrap();
    let w = b.weight("w", DType::F32, [WIDTH, WIDTH]).unwrap();
    let state = b.state("s", DType::F32, [ROWS, WIDTH]).unwrap();
    let c = bytes((0..WIDTH).map(|i| i as f32));
    let c = b.constant("c", DType::F32, [WIDTH], c).unwrap();
    let mut h = b.matmul(w, x).unwrap();
    for factor in [2.0, 4.0, 2.0] {
        h = b.scale(h, factor, 0.0).unwrap();
    }
    let y = b.add(h, c).unwrap();
    b.store(state, y).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

pub(crate) fn x() -> Vec<f32> {
    (0..ROWS * WIDTH).map(|i| (i % 7) as f32 - 3.0).collect()
}

/// Twice the unit matrix, so that `y = 32 * x + column`.
pub(crate) fn weight() -> Vec<u8> {
    let at = |i: usize| {
        if i.is_multiple_of(WIDTH + 1) {
            2.0
        } else {
            0.0
        }
    };
    bytes((0..WIDTH * WIDTH).map(at))
}

pub(crate) fn expected() -> Vec<f32> {
    let y = x().into_iter().enumerate();
    y.map(|(i, x)| 32.0 * x + (i % WIDTH) as f32).collect()
}

pub(crate) fn source(bytes: &[u8]) -> WeightSource<'_> {
    WeightSource { bytes, owner: None }
}

pub(crate) fn bindings(device: &dyn Device, plan: &Plan) -> Result<Bindings, DeviceError> {
    let mut bindings = Bindings::new();
    for slot in &plan.weights {
        bindings.insert(&slot.name, device.load_weight(slot, source(&weight()))?);
    }
    for slot in &plan.states {
        bindings.insert(&slot.name, device.alloc_state(slot)?);
    }
    Ok(bindings)
}

/// A whole session on a device: plan, load, run, read, save the state, move it, read the weight back.
pub(crate) fn session(device: &dyn Device) -> Result<Vec<f32>, Box<dyn Error>> {
    let plan = Arc::new(plan(&chain(), device, &options())?);
    let bindings = bindings(device, &plan)?;
    let mut runner = Runner::new(device, &plan, &bindings)?;
    runner.set("x", &bytes(x()))?;
    runner.run()?;
    let y = runner.get("y")?;
    let mut queue = device.queue()?;
    let state = BufferSlice::whole(Arc::clone(bindings.get("s").unwrap()));
    let other = BufferSlice::whole(device.alloc(BYTES, BufferUse::State)?);
    queue.copy(&state, &other)?;
    let mut saved = vec![0; y.len()];
    queue.download(&other, &mut saved)?;
    assert_eq!(saved, y);
    let w = &plan.weights[0];
    assert_eq!(
        device.read_weight(w, &**bindings.get("w").unwrap())?,
        weight()
    );
    Ok(floats(&y))
}

/// The device's error behind whichever stage reported it.
pub(crate) fn failure(error: &(dyn Error + 'static)) -> DeviceError {
    device_error(error)
        .unwrap_or_else(|| panic!("{error} does not come from a device"))
        .clone()
}
