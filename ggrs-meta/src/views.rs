//! Strided views of any device's memory: read, written and filled as runs of bytes through the device's queue. It must
//! not know how the memory lies over members, which the queue does.

use ggrs_core::device::{BufferSlice, Queue};
use ggrs_core::error::ShardError;
use ggrs_core::{DeviceError, ExecError, TensorDesc};

use crate::ranges::ViewRanges;

/// Reads the elements of `view`, in its order and without gaps. Its offset and strides count from the slice's start.
///
/// # Errors
/// A view that reaches past the slice, memory of another length than the view's, a device that fails.
pub fn read_view(
    queue: &mut dyn Queue,
    from: &BufferSlice,
    view: &TensorDesc,
    data: &mut [u8],
) -> Result<(), ExecError> {
    let mut rest = matching(view, data.len()).map(|()| data)?;
    for range in ranges(view)? {
        let (next, after) = rest.split_at_mut(range.len().min(rest.len()));
        let slice = from.range("a view", range.start as u64, range.len() as u64)?;
        queue.download(&slice, next)?;
        rest = after;
    }
    Ok(())
}

/// Writes the elements of `view`, given in its order and without gaps.
///
/// # Errors
/// Those of [`read_view`].
pub fn write_view(
    queue: &mut dyn Queue,
    to: &BufferSlice,
    view: &TensorDesc,
    data: &[u8],
) -> Result<(), DeviceError> {
    let mut rest = matching(view, data.len()).map(|()| data)?;
    for range in ranges(view)? {
        let (next, after) = rest.split_at(range.len().min(rest.len()));
        let slice = to.range("a view", range.start as u64, range.len() as u64)?;
        queue.upload(&slice, next)?;
        rest = after;
    }
    Ok(())
}

/// Sets every byte of `view`.
///
/// # Errors
/// Those of [`read_view`].
pub fn fill_view(
    queue: &mut dyn Queue,
    to: &BufferSlice,
    view: &TensorDesc,
    byte: u8,
) -> Result<(), DeviceError> {
    for range in ranges(view)? {
        let slice = to.range("a view", range.start as u64, range.len() as u64)?;
        queue.fill(&slice, byte)?;
    }
    Ok(())
}

fn error(view: &TensorDesc, source: ShardError) -> DeviceError {
    DeviceError::Shard {
        device: "a view".to_owned(),
        tensor: view.to_string(),
        source,
    }
}

fn ranges(view: &TensorDesc) -> Result<ViewRanges, DeviceError> {
    ViewRanges::new(view).map_err(|source| error(view, source))
}

/// The host's memory must be as long as the view.
fn matching(view: &TensorDesc, got: usize) -> Result<(), DeviceError> {
    let expected = view
        .bytes()
        .ok_or_else(|| error(view, ShardError::Uncountable))?;
    if got == expected {
        return Ok(());
    }
    Err(DeviceError::Range {
        device: "a view".to_owned(),
        start: 0,
        end: expected as u64,
        size: got as u64,
    })
}
