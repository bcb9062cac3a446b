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
            "staged through host memory, F32 on the wire, summed in member order",
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
