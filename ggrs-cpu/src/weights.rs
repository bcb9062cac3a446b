//! Weights: in which form the device keeps them, loading and reading back. It must not know how kernels use them.
//!
//! A weight is native (the file's bytes, without a copy where the file is mapped) or packed: each matrix of its last two
//! axes in tiles of 16 rows, one matrix behind the other (see [`crate::pack`]).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ggrs_core::device::{BufferUse, Precision, WeightForm, WeightSource, WeightUse};
use ggrs_core::ops::Op;
use ggrs_core::plan::WeightSlot;
use ggrs_core::{DType, DeviceError, TensorDesc};

use crate::buffer::{CpuBuffer, Gate, Shared};
use crate::memory::Memory;
use crate::pack;

/// The packed form.
pub(crate) const PACKED: WeightForm = WeightForm::Packed("tiles of 16 rows");

/// Mapped weights must start on multiples of this (what GGUF files promise), else they are copied.
const MAPPED_ALIGN: usize = 32;

/// The matrices of a weight: its last two axes, as often as the axes before say.
#[derive(Clone, Copy, Debug)]
struct Matrices {
    dtype: DType,
    count: usize,
    n_rows: usize,
    k: usize,
    /// Bytes of one packed matrix.
    packed_bytes: usize,
    /// Bytes of one matrix in the file's layout.
    original_bytes: usize,
}

impl Matrices {
    /// `None` if the weight has no packed form.
    fn of(desc: &TensorDesc) -> Option<Self> {
        let sizes = desc.shape.sizes();
        let [outer @ .., n_rows, k] = sizes.as_slice() else {
            return None;
        };
        let count = outer
            .iter()
            .try_fold(1usize, |n, size| n.checked_mul(*size))?;
        let packed_bytes = pack::packed_bytes(desc.dtype, *n_rows, *k)?;
        packed_bytes.checked_mul(count).filter(|n| *n > 0)?;
        let original_bytes = desc.dtype.row_bytes(*k)?.checked_mul(*n_rows)?;
        Some(Self {
            dtype: desc.dtype,
            count,
            n_rows: *n_rows,
            k: *k,
            packed_bytes,
            original_bytes,
        })
    }

    fn original(&self, matrix: usize) -> Range<usize> {
        matrix * self.original_bytes..(matrix + 1) * self.original_bytes
    }

    fn packed(&self, matrix: usize) -> Range<usize> {
        matrix * self.packed_bytes..(matrix + 1) * self.packed_bytes
    }
}

/// The form in which a weight with these readers is kept: packed if products read it, and nothing but products and
/// `get_rows`.
pub(crate) fn form(desc: &TensorDesc, uses: &[WeightUse<'_>], precision: Precision) -> WeightForm {
    let is_product = |u: &WeightUse<'_>| match u.op {
        Op::MatMul(_) | Op::MatMulId(_) => u.operand == 0,
        Op::MatMulGlu(_) | Op::MatMulIdGlu(_) => u.operand <= 1,
        _ => false,
    };
    let is_lookup = |u: &WeightUse<'_>| matches!(u.op, Op::GetRows(_)) && u.operand == 0;
    let suits = uses.iter().any(is_product) && uses.iter().all(|u| is_product(u) || is_lookup(u));
    if precision == Precision::Fast && suits && Matrices::of(desc).is_some() {
        PACKED
    } else {
        WeightForm::Native
    }
}

/// Bytes of a weight in a form.
pub(crate) fn bytes(desc: &TensorDesc, form: WeightForm) -> u64 {
    let native = desc.bytes().unwrap_or(0);
    let bytes = match form {
        WeightForm::Native => native,
        WeightForm::Packed(_) => Matrices::of(desc).map_or(native, |m| m.packed_bytes * m.count),
    };
    bytes as u64
}

/// Loads a weight in the plan's form.
pub(crate) fn load(
    device: &Arc<Shared>,
    slot: &WeightSlot,
    source: WeightSource<'_>,
) -> Result<CpuBuffer, DeviceError> {
    let expected = slot.desc.bytes().unwrap_or(0);
    if source.bytes.len() != expected {
        let (weight, got) = (slot.name.clone(), source.bytes.len() as u64);
        return Err(DeviceError::WeightBytes {
            device: device.name.clone(),
            weight,
            expected: expected as u64,
            got,
        });
    }
    let matrices = match slot.form {
        WeightForm::Native => None,
        WeightForm::Packed(_) => Matrices::of(&slot.desc),
    };
    let Some(matrices) = matrices else {
        return match source.owner {
            Some(owner) if source.bytes.as_ptr().align_offset(MAPPED_ALIGN) == 0 => Ok(
                CpuBuffer::shared(device, Memory::shared(source.bytes, owner)),
            ),
            _ => {
                let buffer = allocate(device, slot)?;
                buffer
                    .write(&mut device.gate())
                    .copy_from_slice(source.bytes);
                Ok(buffer)
            }
        };
    };
    let buffer = allocate(device, slot)?;
    pack_all(&matrices, source.bytes, &buffer, &mut device.gate()).map_err(|_| {
        DeviceError::Lost {
            device: device.name.clone(),
            cause: format!("packing weight \"{}\" panicked", slot.name),
        }
    })?;
    Ok(buffer)
}

fn allocate(device: &Arc<Shared>, slot: &WeightSlot) -> Result<CpuBuffer, DeviceError> {
    let buffer = CpuBuffer::new(
        device,
        bytes(&slot.desc, slot.form),
        BufferUse::Weights,
        slot.form,
    );
    buffer.map_err(|error| match error {
        DeviceError::OutOfMemory {
            device,
            requested,
            free,
            ..
        } => DeviceError::OutOfMemory {
            device,
            what: format!("weight \"{}\"", slot.name),
            requested,
            free,
        },
        other => other,
    })
}

/// Packs all matrices, the tiles divided among the threads.
fn pack_all(
    m: &Matrices,
    original: &[u8],
    buffer: &CpuBuffer,
    gate: &mut Gate,
) -> Result<(), crate::pool::Panicked> {
    /// Tiles that a thread takes at a time.
    const RUN: usize = 32;
    let n_tiles = pack::tile_count(m.n_rows);
    let runs_per_matrix = n_tiles.div_ceil(RUN);
    let Some(tile_bytes) = pack::tile_bytes(m.dtype, m.k) else {
        return Ok(());
    };
    // Each run of tiles is a piece of memory of its own, taken once by whichever thread comes next.
    let (pool, packed) = buffer.write_with_pool(gate);
    let mut pieces = Vec::with_capacity(m.count * runs_per_matrix);
    for (matrix, bytes) in packed.chunks_exact_mut(m.packed_bytes).enumerate() {
        for (run, piece) in bytes.chunks_mut(RUN * tile_bytes).enumerate() {
            let tiles = run * RUN..n_tiles.min((run + 1) * RUN);
            pieces.push(std::sync::Mutex::new((matrix, tiles, piece)));
        }
    }
    let next = AtomicUsize::new(0);
    pool.run(&|_| {
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Ok(mut piece) = piece.lock() else {
                continue;
            };
            let (matrix, tiles, target) = &mut *piece;
            let source = original.get(m.original(*matrix)).unwrap_or_default();
            let packed = pack::pack(m.dtype, (m.n_rows, m.k), source, tiles.clone(), target);
            debug_assert!(packed.is_ok(), "{packed:?}");
        }
    })
}

/// The original bytes of a weight.
pub(crate) fn read(
    device: &Arc<Shared>,
    slot: &WeightSlot,
    buffer: &CpuBuffer,
) -> Result<Vec<u8>, DeviceError> {
    let n_bytes = slot.desc.bytes().unwrap_or(0);
    let mut original = Vec::new();
    original
        .try_reserve_exact(n_bytes)
        .map_err(|_| DeviceError::OutOfMemory {
            device: device.name.clone(),
            what: format!("reading weight \"{}\"", slot.name),
            requested: n_bytes as u64,
            free: device.memory().free,
        })?;
    let gate = device.gate();
    let stored = buffer.read(&gate);
    let matrices = match slot.form {
        WeightForm::Native => None,
        WeightForm::Packed(_) => Matrices::of(&slot.desc),
    };
    let Some(m) = matrices else {
        original.extend_from_slice(stored.get(..n_bytes).unwrap_or(stored));
        return Ok(original);
    };
    original.resize(n_bytes, 0);
    for matrix in 0..m.count {
        if let (Some(packed), Some(target)) = (
            stored.get(m.packed(matrix)),
            original.get_mut(m.original(matrix)),
        ) {
            let read = pack::unpack(m.dtype, (m.n_rows, m.k), packed, 0..m.n_rows, target);
            debug_assert!(read.is_ok(), "{read:?}");
        }
    }
    Ok(original)
}
