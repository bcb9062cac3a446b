//! Exchange through host memory: works between any devices, and is the reference for faster ways. Sums are made in F32,
//! in member order, so that they are the same in every run.

use std::ops::Range;

use ggrs_core::ExecError;
use ggrs_core::device::{BufferSlice, Queue, Route};
use ggrs_core::ops::CollectiveKind;

use super::{Exchange, Transport};
use crate::transfer::{self, Sharded};

/// Bytes that go through at a time: what is read, summed and written stays in the cache.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of an F32.
const F32_BYTES: usize = size_of::<f32>();

/// Through host memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostTransport;

impl Transport for HostTransport {
    fn name(&self) -> &'static str {
        "host"
    }

    fn route(&self) -> Route {
        Route::outside(
            "host",
            "staged through host memory in the value's own dtype, sums in F32 in member order",
        )
    }

    fn staging_bytes(&self, exchange: &Exchange) -> usize {
        2 * exchange.bytes().min(CHUNK_BYTES)
    }

    fn exchange(
        &self,
        exchange: &Exchange,
        queues: &mut [Box<dyn Queue>],
        staging: &mut [u8],
    ) -> Result<(), ExecError> {
        let (chunk, spare) = staging.split_at_mut(staging.len() / 2);
        let step = (chunk.len() / F32_BYTES * F32_BYTES).max(1);
        let cut = exchange.cut();
        for start in (0..exchange.bytes()).step_by(step) {
            let range = start..exchange.bytes().min(start + step);
            let chunk = chunk.get_mut(..range.len()).unwrap_or_default();
            let parts = |parts| Sharded { map: cut, parts };
            match exchange.kind() {
                CollectiveKind::AllGather { .. } => {
                    transfer::read(parts(exchange.ins()), start, chunk, queues, spare)?;
                    write_all(exchange, &range, chunk, queues)?;
                }
                CollectiveKind::AllReduce => {
                    sum(exchange, &range, chunk, spare, queues)?;
                    write_all(exchange, &range, chunk, queues)?;
                }
                CollectiveKind::ReduceScatter { .. } => {
                    sum(exchange, &range, chunk, spare, queues)?;
                    transfer::write(parts(exchange.outs()), start, chunk, queues, spare)?;
                }
            }
        }
        Ok(())
    }
}

fn part(slice: &BufferSlice, range: &Range<usize>) -> Result<BufferSlice, ExecError> {
    Ok(slice.range("a member", range.start as u64, range.len() as u64)?)
}

/// The members' operands, added up in their order.
fn sum(
    exchange: &Exchange,
    range: &Range<usize>,
    total: &mut [u8],
    spare: &mut [u8],
    queues: &mut [Box<dyn Queue>],
) -> Result<(), ExecError> {
    let spare = spare.get_mut(..range.len()).unwrap_or_default();
    for (member, (slice, queue)) in exchange.ins().iter().flatten().zip(queues).enumerate() {
        let slice = part(slice, range)?;
        if member == 0 {
            queue.download(&slice, total)?;
        } else {
            queue.download(&slice, spare)?;
            add(total, spare);
        }
    }
    Ok(())
}

/// Adds little-endian F32s to others.
fn add(total: &mut [u8], more: &[u8]) {
    let (total, _) = total.as_chunks_mut::<F32_BYTES>();
    let (more, _) = more.as_chunks::<F32_BYTES>();
    for (t, m) in total.iter_mut().zip(more) {
        *t = (f32::from_le_bytes(*t) + f32::from_le_bytes(*m)).to_le_bytes();
    }
}

/// Every member gets the same bytes of its result.
fn write_all(
    exchange: &Exchange,
    range: &Range<usize>,
    data: &[u8],
    queues: &mut [Box<dyn Queue>],
) -> Result<(), ExecError> {
    for (slice, queue) in exchange.outs().iter().flatten().zip(queues) {
        queue.upload(&part(slice, range)?, data)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ggrs_core::device::{Backend, BufferUse, Device};
    use ggrs_core::error::ShardError;
    use ggrs_core::ops::{Collective, Share};
    use ggrs_core::shard::Part;
    use ggrs_core::{DType, Split, TensorDesc};
    use ggrs_cpu::{CpuBackend, CpuOptions};

    use super::*;

    /// Members with memory of their own.
    struct Members(Vec<Arc<dyn Device>>);

    impl Members {
        fn new(n: usize) -> Self {
            let backend = CpuBackend::new(CpuOptions {
                threads: Some(1),
                ..CpuOptions::default()
            });
            let open = |i| backend.open(&format!("cpu:{i}/{n}").parse().unwrap());
            Self((0..n).map(|i| open(i).unwrap()).collect())
        }

        fn names(&self) -> Vec<String> {
            self.0.iter().map(|m| m.name().to_string()).collect()
        }

        fn queues(&self) -> Vec<Box<dyn Queue>> {
            self.0.iter().map(|m| m.queue().unwrap()).collect()
        }

        /// Memory for tensors of these shapes, one on each member.
        fn alloc(&self, dtype: DType, shapes: &[Vec<usize>]) -> Vec<(TensorDesc, BufferSlice)> {
            let members = self.0.iter().zip(shapes);
            let alloc = |(m, shape): (&Arc<dyn Device>, &Vec<usize>)| {
                let desc = TensorDesc::new(dtype, shape.as_slice());
                let n_bytes = desc.bytes().unwrap() as u64;
                let buffer = m.alloc(n_bytes, BufferUse::Arena).unwrap();
                (desc, BufferSlice::whole(buffer))
            };
            members.map(alloc).collect()
        }

        /// Exchanges `ins` and gives each member's result.
        fn exchange(
            &self,
            kind: CollectiveKind,
            shares: Option<&[Part]>,
            dtype: DType,
            (in_shapes, ins): (&[Vec<usize>], &[Vec<u8>]),
            out_shapes: &[Vec<usize>],
        ) -> Result<Vec<Vec<u8>>, ShardError> {
            let n = self.0.len();
            let split = shares.map(|parts| {
                let size = parts.iter().flatten().map(|r| r.end).max().unwrap();
                Split::new(0, size, parts.to_vec()).unwrap()
            });
            let collective = |member| Collective {
                kind,
                members: n,
                share: split.clone().map(|split| Share { member, split }),
            };
            let collectives: Vec<_> = (0..n).map(collective).collect();
            let collectives: Vec<_> = collectives.iter().collect();
            let from = self.alloc(dtype, in_shapes);
            let to = self.alloc(dtype, out_shapes);
            let mut queues = self.queues();
            for ((queue, (_, slice)), data) in queues.iter_mut().zip(&from).zip(ins) {
                queue.upload(slice, data).unwrap();
            }
            let names = self.names();
            let exchange = Exchange::new("node", &collectives, &names, from, to.clone())?;
            let mut staging = vec![0; HostTransport.staging_bytes(&exchange)];
            HostTransport
                .exchange(&exchange, &mut queues, &mut staging)
                .unwrap();
            let read =
                |(queue, (desc, slice)): (&mut Box<dyn Queue>, &(TensorDesc, BufferSlice))| {
                    let mut data = vec![0; desc.bytes().unwrap()];
                    queue.download(slice, &mut data).unwrap();
                    data
                };
            Ok(queues.iter_mut().zip(&to).map(read).collect())
        }
    }

    fn f32s(x: &[f32]) -> Vec<u8> {
        x.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Numbers whose sum depends on the order in which they are added.
    fn odd(member: usize, n: usize) -> Vec<f32> {
        let scale = [1e8, 1.0, -1e8, 3.0, 0.25][member];
        (0..n)
            .map(|i| scale * (1.0 + (i % 7) as f32 / 7.0))
            .collect()
    }

    fn summed(n_members: usize, n: usize) -> Vec<f32> {
        let all: Vec<Vec<f32>> = (0..n_members).map(|m| odd(m, n)).collect();
        let sum = |i: usize| all.iter().skip(1).fold(all[0][i], |sum, x| sum + x[i]);
        (0..n).map(sum).collect()
    }

    #[test]
    fn sums_are_made_in_member_order() {
        // The last is longer than what goes through at a time.
        for (n_members, n) in [(2, 5), (3, 0), (5, 100), (3, CHUNK_BYTES / 4 + 3)] {
            let members = Members::new(n_members);
            let shapes = vec![vec![n]; n_members];
            let ins: Vec<_> = (0..n_members).map(|m| f32s(&odd(m, n))).collect();
            let kind = CollectiveKind::AllReduce;
            let outs = members.exchange(kind, None, DType::F32, (&shapes, &ins), &shapes);
            assert_eq!(outs.unwrap(), vec![f32s(&summed(n_members, n)); n_members]);
        }
    }

    #[test]
    fn parts_are_joined_along_any_axis() {
        // [2, 6] as columns 0..1 and 4..6 | 1..4 | none.
        let members = Members::new(3);
        let shares = [
            Part::from_iter([0..1, 4..6]),
            Part::from_elem(1..4, 1),
            Part::new(),
        ];
        let ints = |x: &[i32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let ins = [
            ints(&[0, 4, 5, 10, 14, 15]),
            ints(&[1, 2, 3, 11, 12, 13]),
            Vec::new(),
        ];
        let in_shapes = [vec![2, 3], vec![2, 3], vec![2, 0]];
        let whole = ints(&[0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]);
        let kind = CollectiveKind::AllGather { axis: 1 };
        let out_shapes = vec![vec![2, 6]; 3];
        let from = (&in_shapes[..], &ins[..]);
        let outs = members.exchange(kind, Some(&shares), DType::I32, from, &out_shapes);
        assert_eq!(outs.unwrap(), vec![whole.clone(); 3]);
        // Without shares, even parts in member order.
        let ins: Vec<_> = whole.chunks(16).map(<[u8]>::to_vec).collect();
        let kind = CollectiveKind::AllGather { axis: 0 };
        let in_shapes = vec![vec![1, 4]; 3];
        let out_shapes = vec![vec![3, 4]; 3];
        let outs = members.exchange(kind, None, DType::I32, (&in_shapes, &ins), &out_shapes);
        assert_eq!(outs.unwrap(), vec![whole; 3]);
    }

    #[test]
    fn what_several_hold_is_taken_from_the_first_and_given_to_all() {
        let members = Members::new(3);
        let shares = [
            Part::from_elem(0..2, 1),
            Part::from_elem(0..2, 1),
            Part::from_elem(1..3, 1),
        ];
        let ins = [f32s(&[1.0, 2.0]), f32s(&[8.0, 9.0]), f32s(&[7.0, 3.0])];
        let shapes = [vec![2], vec![2], vec![2]];
        let kind = CollectiveKind::AllGather { axis: 0 };
        let whole = vec![vec![3]; 3];
        let outs = members.exchange(kind, Some(&shares), DType::F32, (&shapes, &ins), &whole);
        assert_eq!(outs.unwrap(), vec![f32s(&[1.0, 2.0, 3.0]); 3]);

        let ins: Vec<_> = (0..3).map(|m| f32s(&odd(m, 3))).collect();
        let kind = CollectiveKind::ReduceScatter { axis: 0 };
        let outs = members.exchange(kind, Some(&shares), DType::F32, (&whole, &ins), &shapes);
        let sum = summed(3, 3);
        let expected = [&sum[0..2], &sum[0..2], &sum[1..3]].map(f32s);
        assert_eq!(outs.unwrap(), expected);
    }

    #[test]
    fn memory_of_another_size_is_named() {
        let members = Members::new(2);
        let shapes = [vec![4], vec![3]];
        let ins = [f32s(&[0.0; 4]), f32s(&[0.0; 3])];
        let kind = CollectiveKind::AllReduce;
        let refused = members.exchange(kind, None, DType::F32, (&shapes, &ins), &shapes);
        let member = "cpu:1/2".to_owned();
        let (expected, found) = (16, 12);
        assert_eq!(
            refused,
            Err(ShardError::PartBytes {
                member,
                expected,
                found
            })
        );
    }
}
