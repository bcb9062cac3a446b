//! Weights, states and values of a device made of several, as bytes.

use std::any::Any;
use std::sync::Arc;

use ggrs_core::device::{
    Bindings, BufferSlice, BufferUse, Device, Precision, Queue, Runner, WeightSource,
};
use ggrs_core::error::ShardError;
use ggrs_core::plan::Shards;
use ggrs_core::{BindError, DType, DeviceError, ExecError, GraphBuilder, Sharding};
use ggrs_meta::MetaDevice;

use crate::faulty::faulty;
use crate::mlp::{
    CELLS, K, RATIOS, T, VOCABULARY, assert_close, bound, expected, members, meta, mlp, numbers,
    options, planned, to_bytes, to_floats, weight_bytes,
};

#[test]
fn weights_are_read_back_byte_for_byte() {
    for (dtype, precision) in [
        (DType::Q8_0, Precision::Fast),
        (DType::Q8_0, Precision::Exact),
        (DType::F32, Precision::Fast),
    ] {
        for ratios in RATIOS {
            let device = meta(ratios);
            let plan = planned(&*device, &mlp(dtype), precision);
            let bindings = bound(&*device, &plan);
            for slot in &plan.weights {
                let is_cut = matches!(slot.shards.as_ref().unwrap().sharding, Sharding::Split(_));
                assert_eq!(is_cut, ratios.len() > 1, "{}", slot.name);
                let buffer = bindings.get(&slot.name).unwrap();
                let read = device.read_weight(slot, &**buffer).unwrap();
                assert_eq!(
                    read,
                    weight_bytes(&plan, &slot.name),
                    "{} {ratios:?}",
                    slot.name
                );
            }
        }
    }
}

#[test]
fn parts_without_a_gap_in_the_file_are_not_copied() {
    let (members, switches): (Vec<_>, Vec<_>) = members(2).into_iter().map(faulty).unzip();
    let device = MetaDevice::new(members, options(&[1.0, 1.0])).unwrap();
    let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
    for (name, is_mapped) in [("gate", true), ("down", false)] {
        let slot = plan.weight(name).unwrap();
        let file: Arc<Vec<u8>> = Arc::new(weight_bytes(&plan, name));
        let owner: Arc<dyn Any + Send + Sync> = Arc::<Vec<u8>>::clone(&file);
        let source = WeightSource {
            bytes: &file,
            owner: Some(owner),
        };
        let buffer = device.load_weight(slot, source).unwrap();
        let inside = file.as_ptr() as usize..file.as_ptr() as usize + file.len();
        for switch in &switches {
            let loaded = switch.loaded.lock().unwrap();
            let (last, at, has_owner) = loaded.last().unwrap();
            assert_eq!(
                (&**last, *has_owner, inside.contains(at)),
                (name, is_mapped, is_mapped)
            );
        }
        assert_eq!(device.read_weight(slot, &*buffer).unwrap(), *file);
    }
    let slot = plan.weight("gate").unwrap();
    let source = WeightSource {
        bytes: &[0; 7],
        owner: None,
    };
    let short = device.load_weight(slot, source).err().unwrap();
    assert!(
        matches!(short, DeviceError::WeightBytes { got: 7, .. }),
        "{short}"
    );
}

fn slice(all: &BufferSlice, floats: std::ops::Range<usize>) -> BufferSlice {
    let (start, len) = (floats.start * 4, floats.len() * 4);
    all.range("test", start as u64, len as u64).unwrap()
}

fn read(queue: &mut dyn Queue, from: &BufferSlice) -> Vec<f32> {
    let mut data = vec![0; usize::try_from(from.bytes).unwrap()];
    queue.download(from, &mut data).unwrap();
    to_floats(&data)
}

#[test]
fn a_cache_is_one_tensor_whoever_holds_its_heads() {
    let x = numbers(T * K, 2);
    let before = numbers(CELLS * K, 4);
    for ratios in RATIOS {
        let device = meta(ratios);
        let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
        let bindings = bound(&*device, &plan);
        let all = BufferSlice::whole(Arc::clone(bindings.get("cache").unwrap()));
        let mut queue = device.queue().unwrap();
        queue.upload(&all, &to_bytes(&before)).unwrap();
        let mut runner = Runner::new(&*device, &plan, &bindings).unwrap();
        runner.set("x", &to_bytes(&x)).unwrap();
        runner.run().unwrap();
        let [_, _, keys] = expected(&plan, &x);
        let (first, end) = (K, K + T * K);
        assert_eq!(read(&mut *queue, &slice(&all, 0..first)), before[..first]);
        assert_eq!(
            read(&mut *queue, &slice(&all, end..CELLS * K)),
            before[end..]
        );
        // One row from within another, and a piece of it that two members may hold.
        for range in [0..T * K, 2 * K..3 * K, K / 4 - 3..K / 2 + 5] {
            let got = read(
                &mut *queue,
                &slice(&all, first + range.start..first + range.end),
            );
            assert_close(
                &to_bytes(&got),
                &keys[range],
                &format!("cache at {ratios:?}"),
            );
        }
    }
}

#[test]
fn inputs_and_outputs_are_written_and_read_in_pieces() {
    let x = numbers(T * K, 2);
    let device = meta(&[3.0, 1.0]);
    let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
    let mut executable = device.compile(&plan, &bound(&*device, &plan)).unwrap();
    let mut queue = device.queue().unwrap();
    let input = executable.value(plan.inputs[0].value).unwrap();
    for (piece, at) in to_bytes(&x).chunks(100).zip((0..).step_by(100)) {
        let to = input.range("test", at, piece.len() as u64).unwrap();
        queue.upload(&to, piece).unwrap();
    }
    queue.submit(&mut *executable, 0..plan.steps.len()).unwrap();
    let logits = plan.outputs.iter().find(|o| o.name == "logits").unwrap();
    let logits = executable.value(logits.value).unwrap();
    let [_, expected, _] = expected(&plan, &x);
    for range in [0..VOCABULARY, 3..4, VOCABULARY - 1..2 * VOCABULARY + 7] {
        let got = read(&mut *queue, &slice(&logits, range.clone()));
        assert_close(&to_bytes(&got), &expected[range], "logits");
    }
    let half = queue.submit(&mut *executable, 0..1);
    assert!(matches!(half, Err(ExecError::Steps { .. })), "{half:?}");
}

#[test]
fn memory_of_others_and_memory_that_is_gone_is_refused() {
    let device = meta(&[1.0, 1.0]);
    let plan = planned(&*device, &mlp(DType::F32), Precision::Exact);
    let bindings = bound(&*device, &plan);
    let mut queue = device.queue().unwrap();
    let mut data = [0; 4];

    let theirs = device.members()[0].alloc(64, BufferUse::State).unwrap();
    let another = meta(&[1.0, 1.0]).alloc(64, BufferUse::State).unwrap();
    for foreign in [theirs, another] {
        let error = queue
            .download(&BufferSlice::whole(foreign), &mut data)
            .unwrap_err();
        let ExecError::Device(DeviceError::ForeignBuffer { device, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(device, "cpu:0/2+cpu:1/2");
    }

    let plain = device.alloc(64, BufferUse::State).unwrap();
    let whole = BufferSlice::whole(Arc::clone(&plain));
    queue.fill(&whole, 3).unwrap();
    queue.download(&whole, &mut data).unwrap();
    assert_eq!(data, [3; 4]);
    assert!(queue.upload(&whole, &[0; 65]).is_err());

    let mut runner = Runner::new(&*device, &plan, &bindings).unwrap();
    runner.run().unwrap();
    let cache = bindings.get("cache").unwrap();
    cache.generation().release();
    let stale = runner.run().unwrap_err();
    assert_eq!(
        stale,
        ExecError::StaleBinding {
            name: "cache".to_owned()
        }
    );
    let stale = queue
        .fill(&BufferSlice::whole(Arc::clone(cache)), 0)
        .unwrap_err();
    assert!(matches!(stale, DeviceError::StaleBuffer { .. }), "{stale}");
}

#[test]
fn what_has_no_bytes_of_its_own_says_why() {
    let device = meta(&[1.0, 1.0]);
    let plan = planned(&*device, &mlp(DType::Q8_0), Precision::Fast);
    let bindings = bound(&*device, &plan);
    let mut queue = device.queue().unwrap();
    let weight = BufferSlice::whole(Arc::clone(bindings.get("gate").unwrap()));
    let packed = queue.download(&weight, &mut [0; 4]).unwrap_err();
    assert!(packed.to_string().contains("\"gate\""), "{packed}");
    assert!(
        packed.to_string().contains("read the whole weight"),
        "{packed}"
    );

    let mut slot = plan.states[0].clone();
    slot.shards = Some(Shards {
        sharding: Sharding::Partial,
        members: vec![None; 2],
    });
    let partial = device.alloc_state(&slot).err().unwrap();
    let DeviceError::Shard { tensor, source, .. } = &partial else {
        panic!("{partial}");
    };
    assert_eq!((&**tensor, source), ("cache", &ShardError::Partial));
    assert!(
        partial.to_string().contains("reduce it in the graph"),
        "{partial}"
    );
    slot.shards = None;
    let alone = device.alloc_state(&slot).err().unwrap();
    assert!(matches!(
        alone,
        DeviceError::Shard {
            source: ShardError::Members {
                expected: 2,
                found: 1
            },
            ..
        }
    ));
}

#[test]
fn memory_that_does_not_fit_the_plan_is_refused() {
    let device = meta(&[1.0, 1.0]);
    let plan = planned(&*device, &mlp(DType::Q8_0), Precision::Fast);
    let good = bound(&*device, &plan);
    let with = |name: &str, buffer| {
        let mut changed = good.clone();
        changed.insert(name, buffer);
        device.compile(&plan, &changed).err().unwrap()
    };
    let missing = device.compile(&plan, &Bindings::new()).err().unwrap();
    assert!(matches!(missing, BindError::Missing { .. }), "{missing}");

    let replicated = device.alloc(1 << 20, BufferUse::State).unwrap();
    let error = with("cache", replicated);
    let BindError::Sharding {
        name,
        found,
        wanted,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((&**name, found), ("cache", &Sharding::Replicated));
    assert!(matches!(wanted, Sharding::Split(_)));

    let exact = planned(&*device, &mlp(DType::Q8_0), Precision::Exact);
    let native = bound(&*device, &exact);
    let error = with("gate", Arc::clone(native.get("gate").unwrap()));
    let BindError::Member { member, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(member, "member 0 (cpu:0/2)");
    assert!(matches!(**source, BindError::Form { .. }), "{error}");

    let foreign = device.members()[0]
        .alloc(1 << 20, BufferUse::State)
        .unwrap();
    assert!(matches!(
        with("cache", foreign),
        BindError::Device(DeviceError::ForeignBuffer { .. })
    ));
    let one = meta(&[1.0]);
    let alone = planned(&*one, &mlp(DType::Q8_0), Precision::Fast);
    let other = device.compile(&alone, &good).err().unwrap();
    assert!(other.to_string().contains("a plan of 1 members"), "{other}");
}

#[test]
fn two_states_over_one_buffer_are_refused() {
    let mut g = GraphBuilder::new();
    let [a, b] = ["a", "b"].map(|name| g.state(name, DType::F32, [4]).unwrap());
    let sum = g.add(a, b).unwrap();
    g.output("sum", sum).unwrap();
    let device = meta(&[1.0, 1.0]);
    let plan = planned(&*device, &g.seal().unwrap(), Precision::Exact);
    let mut bindings = bound(&*device, &plan);
    assert!(device.compile(&plan, &bindings).is_ok());
    bindings.insert("b", Arc::clone(bindings.get("a").unwrap()));
    let (first, second) = ("a".to_owned(), "b".to_owned());
    let error = device.compile(&plan, &bindings).err().unwrap();
    assert_eq!(error, BindError::Shared { first, second });
}
