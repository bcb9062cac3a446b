//! Weights: in which form the device keeps them, loading and reading back. It must not know how kernels use them.
//!
//! A weight is native (the file's bytes) or in planes (see [`crate::planes`]).

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use ggrs_core::device::{BufferUse, WeightForm, WeightSource, WeightUse};
use ggrs_core::ops::Op;
use ggrs_core::plan::WeightSlot;
use ggrs_core::{DeviceError, TensorDesc};

use crate::buffer::SimtBuffer;
use crate::context::{Context, Gate};
use crate::driver::DevicePtr;
use crate::kernel::{Launch, ModuleKey};
use crate::planes::{self, Planes};

/// The packed form.
pub(crate) const PACKED: WeightForm = WeightForm::Packed("planes");

/// The form in which a weight with these readers is kept: in planes if it has blocks, and nothing but products and
/// `get_rows` read it.
pub(crate) fn form(desc: &TensorDesc, uses: &[WeightUse<'_>]) -> WeightForm {
    let reads_planes = |u: &WeightUse<'_>| match u.op {
        Op::MatMul(_) | Op::MatMulId(_) | Op::GetRows(_) => u.operand == 0,
        Op::MatMulGlu(_) | Op::MatMulIdGlu(_) => u.operand <= 1,
        _ => false,
    };
    let suits = desc.dtype.is_block() && desc.is_contiguous() && !uses.is_empty();
    if suits && uses.iter().all(reads_planes) {
        PACKED
    } else {
        WeightForm::Native
    }
}

/// Bytes of a weight in a form.
pub(crate) fn bytes(desc: &TensorDesc, form: WeightForm) -> u64 {
    let native = desc.bytes().unwrap_or(0) as u64;
    match form {
        WeightForm::Native => native,
        WeightForm::Packed(_) => {
            planes::packed_bytes(desc.dtype, planes::n_blocks(desc)).unwrap_or(native)
        }
    }
}

/// `Repack` of `repack.cu`: one field of all blocks.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Repack {
    native: u64,
    plane: u64,
    n_blocks: u64,
    block_bytes: u32,
    field_start: u32,
    field_bytes: u32,
    /// 0 from native to planes, 1 back.
    back: u32,
}

const _: () = assert!(size_of::<Repack>() == 40);

/// Moves blocks between the file's layout and planes, on the device.
fn repack(
    context: &Context,
    gate: &Gate,
    desc: &TensorDesc,
    native: DevicePtr,
    packed: DevicePtr,
    back: bool,
) -> Result<(), DeviceError> {
    const THREADS: u32 = 256;
    let n_blocks = planes::n_blocks(desc);
    let to = Planes::packed(desc.dtype, packed, n_blocks);
    let fields = planes::fields(desc.dtype).unwrap_or_default();
    for (field, plane) in fields.iter().zip(to.start) {
        let params = Repack {
            native: native.0,
            plane,
            n_blocks,
            block_bytes: desc.dtype.block_bytes() as u32,
            field_start: field.start,
            field_bytes: field.bytes,
            back: u32::from(back),
        };
        let units = n_blocks.saturating_mul(u64::from(field.bytes));
        let grid = u32::try_from(units.div_ceil(u64::from(THREADS) * 16)).unwrap_or(1 << 20);
        let grid = grid.clamp(1, 1 << 20);
        let launch = Launch::new(ModuleKey::plain("repack"), "repack", grid, THREADS, &params);
        context.launch(gate, &launch)?;
    }
    Ok(())
}

/// The modules that loading needs.
pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("repack")]
}

/// Loads a weight in the plan's form.
pub(crate) fn load(
    context: &Arc<Context>,
    slot: &WeightSlot,
    source: &WeightSource<'_>,
) -> Result<SimtBuffer, DeviceError> {
    let expected = slot.desc.bytes().unwrap_or(0);
    if source.bytes.len() != expected {
        return Err(DeviceError::WeightBytes {
            device: context.name.clone(),
            weight: slot.name.clone(),
            expected: expected as u64,
            got: source.bytes.len() as u64,
        });
    }
    let what = format!("weight \"{}\"", slot.name);
    let (bytes, usage) = (bytes(&slot.desc, slot.form), BufferUse::Weights);
    let buffer = SimtBuffer::new(context, bytes, usage, slot.form, &what)?;
    let start = buffer.start();
    match slot.form {
        WeightForm::Native => context.upload_bulk(start, source.bytes)?,
        WeightForm::Packed(_) => {
            // The file's bytes pass through memory that is kept for the next weight.
            context.with_passage(expected as u64, |native| {
                context.upload_bulk(native, source.bytes)?;
                repack(context, &context.gate(), &slot.desc, native, start, false)
            })?;
        }
    }
    Ok(buffer)
}

/// The original bytes of a weight.
pub(crate) fn read(
    context: &Arc<Context>,
    slot: &WeightSlot,
    buffer: &SimtBuffer,
) -> Result<Vec<u8>, DeviceError> {
    let n_bytes = slot.desc.bytes().unwrap_or(0);
    let mut bytes = vec![0; n_bytes];
    match slot.form {
        WeightForm::Native => {
            context.download(&mut context.gate(), buffer.start(), &mut bytes)?;
        }
        WeightForm::Packed(_) => context.with_passage(n_bytes as u64, |native| {
            let mut gate = context.gate();
            repack(context, &gate, &slot.desc, native, buffer.start(), true)?;
            context.download(&mut gate, native, &mut bytes)
        })?,
    }
    Ok(bytes)
}
