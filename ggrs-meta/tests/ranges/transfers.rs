//! Ranges and views through the queue of a device made of CPU devices.

use std::sync::Arc;

use ggrs_core::device::{Backend, BufferSlice, Device, Queue};
use ggrs_core::plan::{PlanOptions, Shards, StateSlot, plan};
use ggrs_core::{DType, GraphBuilder, Sharding, Split, TensorDesc};
use ggrs_cpu::{CpuBackend, CpuOptions};
use ggrs_meta::{MetaDevice, MetaOptions, fill_view, read_view, write_view};
use proptest::prelude::*;

use crate::case::{Case, cases, fractions, pattern, range};

fn meta(n: usize) -> Arc<MetaDevice> {
    let options = CpuOptions {
        threads: Some(1),
        ..CpuOptions::default()
    };
    let backend = CpuBackend::new(options);
    let open = |i| {
        backend
            .open(&format!("cpu:{i}/{n}").parse().unwrap())
            .unwrap()
    };
    MetaDevice::new((0..n).map(open).collect(), MetaOptions::default()).unwrap()
}

/// A state of a plan that lies as the case says.
fn slot(device: &dyn Device, case: &Case) -> StateSlot {
    let mut g = GraphBuilder::new();
    let state = g.state("state", DType::F32, [1]).unwrap();
    g.output("state", state).unwrap();
    let plan = plan(&g.seal().unwrap(), device, &PlanOptions::default()).unwrap();
    StateSlot {
        desc: case.desc.clone(),
        bytes: case.bytes() as u64,
        shards: Some(Shards {
            sharding: case.sharding.clone(),
            members: vec![None; case.members],
        }),
        ..plan.states[0].clone()
    }
}

fn sliced(all: &BufferSlice, range: &std::ops::Range<usize>) -> BufferSlice {
    all.range("test", range.start as u64, range.len() as u64)
        .unwrap()
}

fn read(queue: &mut dyn Queue, all: &BufferSlice) -> Vec<u8> {
    let mut data = vec![0; usize::try_from(all.bytes).unwrap()];
    queue.download(all, &mut data).unwrap();
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_is_read_written_filled_and_copied(
        case in cases(),
        ranges in prop::collection::vec(fractions(), 4),
        to in 0.0..1.0f64,
        aligned in any::<bool>(),
    ) {
        let device = meta(case.members);
        let slot = slot(&*device, &case);
        let all = BufferSlice::whole(device.alloc_state(&slot).unwrap());
        let other = BufferSlice::whole(device.alloc_state(&slot).unwrap());
        let mut queue = device.queue().unwrap();
        prop_assert_eq!(all.bytes, case.bytes() as u64);
        prop_assert!(read(&mut *queue, &all).iter().all(|b| *b == 0));

        let mut whole = pattern(case.bytes(), 1);
        queue.upload(&all, &whole).unwrap();
        prop_assert_eq!(&read(&mut *queue, &all), &whole);

        let [a, b, c, d] = [0, 1, 2, 3].map(|i| range(ranges[i], case.bytes()));
        prop_assert_eq!(&read(&mut *queue, &sliced(&all, &a)), &whole[a]);
        let data = pattern(b.len(), 77);
        queue.upload(&sliced(&all, &b), &data).unwrap();
        whole[b].copy_from_slice(&data);
        queue.fill(&sliced(&all, &c), 0xA5).unwrap();
        whole[c].fill(0xA5);
        prop_assert_eq!(&read(&mut *queue, &all), &whole);

        // To the same place of another tensor, or to any place of the same.
        let mut target = vec![0; case.bytes()];
        queue.copy(&sliced(&all, &d), &sliced(&other, &d)).unwrap();
        target[d.clone()].copy_from_slice(&whole[d.clone()]);
        prop_assert_eq!(&read(&mut *queue, &other), &target);
        let row = case.bytes() / case.desc.shape.sizes()[0];
        let start = range((to, 0.0), case.bytes() - d.len() + 1).start;
        let start = if aligned { start / row * row + d.start % row } else { start };
        if let Some(place) = whole.get_mut(start..start + d.len()) {
            let place = place.len();
            queue.copy(&sliced(&all, &d), &sliced(&all, &(start..start + place))).unwrap();
            whole.copy_within(d, start);
            prop_assert_eq!(&read(&mut *queue, &all), &whole);
        }
    }
}

/// Views of a tensor: rows, columns, heads side by side, permuted, repeated.
pub(crate) fn views(dtype: DType, shape: [usize; 3]) -> Vec<TensorDesc> {
    let mut g = GraphBuilder::new();
    let x = g.input("x", dtype, shape).unwrap();
    let block = dtype.block_elems();
    let rows = g.slice(x, 0, 2, 3).unwrap();
    let mut all = vec![
        x,
        rows,
        g.slice(x, 1, 1, 2).unwrap(),
        g.slice(x, 2, block, shape[2] - block).unwrap(),
        g.slice(rows, 2, 0, block).unwrap(),
        g.permute(x, &[1, 0, 2]).unwrap(),
        g.permute(rows, &[1, 0, 2]).unwrap(),
    ];
    let one = g.slice(x, 0, 4, 1).unwrap();
    all.push(g.broadcast(one, [3, shape[1], shape[2]]).unwrap());
    if !dtype.is_block() {
        all.push(g.permute(x, &[2, 1, 0]).unwrap());
        all.push(g.slice(x, 2, 3, 5).unwrap());
    }
    all.into_iter()
        .map(|v| g.desc(v).unwrap().clone())
        .collect()
}

/// The bytes of a view's elements, one element or block after the other.
fn viewed(view: &TensorDesc, whole: &[u8]) -> Vec<u8> {
    let (block, size) = (view.dtype.block_elems(), view.dtype.block_bytes());
    let mut sizes = view.shape.sizes();
    let mut strides = view.layout.strides().to_vec();
    let last = sizes.len() - 1;
    sizes[last] /= block;
    strides[last] *= block;
    let mut at = vec![view.layout.offset()];
    for (n, stride) in sizes.iter().zip(&strides) {
        at = at
            .iter()
            .flat_map(|a| (0..*n).map(move |i| a + i * stride))
            .collect();
    }
    let bytes = |e: &usize| whole[e / block * size..(e / block + 1) * size].to_vec();
    at.iter().flat_map(bytes).collect()
}

#[test]
fn strided_views_are_read_written_and_filled() {
    for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_K] {
        let shape = [6, 4, 1024];
        for (axis, sizes) in [(0, [4, 2]), (1, [1, 3]), (2, [256, 768]), (1, [4, 0])] {
            let case = Case {
                desc: TensorDesc::new(dtype, shape),
                sharding: Sharding::Split(Split::by_sizes(axis, &sizes)),
                members: 2,
                blocks: Vec::new(),
            };
            let device = meta(2);
            let all = BufferSlice::whole(device.alloc_state(&slot(&*device, &case)).unwrap());
            let mut queue = device.queue().unwrap();
            for view in views(dtype, shape) {
                let whole = pattern(case.bytes(), 3);
                queue.upload(&all, &whole).unwrap();
                let mut data = vec![0; view.bytes().unwrap()];
                read_view(&mut *queue, &all, &view, &mut data).unwrap();
                assert_eq!(data, viewed(&view, &whole), "{view} of {}", case.sharding);

                // Elements that a view shows several times must be given the same bytes each time.
                let changed: Vec<u8> = whole.iter().map(|b| b ^ 0x3C).collect();
                write_view(&mut *queue, &all, &view, &viewed(&view, &changed)).unwrap();
                let after = read(&mut *queue, &all);
                assert_eq!(viewed(&view, &after), viewed(&view, &changed), "{view}");
                let differs = after.iter().zip(&whole).filter(|(a, b)| a != b).count();
                let shown: usize = viewed(&view, &vec![1; whole.len()]).len();
                let repeated = if view.layout.strides().contains(&0) {
                    3
                } else {
                    1
                };
                assert_eq!(differs, shown / repeated, "{view}");

                fill_view(&mut *queue, &all, &view, 9).unwrap();
                let filled = read(&mut *queue, &all);
                assert!(viewed(&view, &filled).iter().all(|b| *b == 9), "{view}");
                assert!(read_view(&mut *queue, &all, &view, &mut data[1..]).is_err());
            }
            let outside = TensorDesc::new(dtype, [7, 4, 1024]);
            let data = vec![0; outside.bytes().unwrap()];
            assert!(write_view(&mut *queue, &all, &outside, &data).is_err());
        }
    }
}
