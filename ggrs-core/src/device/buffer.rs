//! Device memory: buffers that own it, slices of them, generations that tell when one is gone.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DeviceError, ExecError};

/// What a buffer is for; a device may place it accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum BufferUse {
    /// Weights.
    Weights,
    /// Values that live between runs.
    State,
    /// Values of one run.
    Arena,
    /// Constants of a plan.
    Constants,
}

/// The layout in which a device keeps a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum WeightForm {
    /// As in the file.
    #[default]
    Native,
    /// The device's own, by its name. Reading the weight back gives the file's bytes.
    Packed(&'static str),
}

impl WeightForm {
    /// The form's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Packed(name) => name,
        }
    }
}

/// The bytes of a weight, and what keeps them alive: a device that can read host memory may keep no copy.
pub struct WeightSource<'a> {
    /// The bytes, in the file's layout.
    pub bytes: &'a [u8],
    /// If given: the bytes stay where they are, unchanged, as long as this lives.
    pub owner: Option<Arc<dyn Any + Send + Sync>>,
}

/// Memory of a device.
///
/// A buffer owns memory and nothing else: dtypes, shapes and views belong to plans. Memory is freed when the last
/// `Arc` goes; `release` ends its use before that.
pub trait Buffer: Send + Sync {
    /// Size in bytes.
    fn bytes(&self) -> u64;

    /// What it is for.
    fn usage(&self) -> BufferUse;

    /// The layout of a weight in it.
    fn form(&self) -> WeightForm {
        WeightForm::Native
    }

    /// Counts releases: a plan over another generation than the one it was bound to is an error.
    fn generation(&self) -> &Generation;

    /// The device's own type.
    fn as_any(&self) -> &dyn Any;
}

/// The life of a buffer: a number that moves on when the buffer is released or replaced.
#[derive(Debug, Default)]
pub struct Generation(AtomicU64);

impl Generation {
    /// The number now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Ends this generation: everything bound to it fails from here on instead of reading old data.
    pub fn release(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A range of a buffer.
#[derive(Clone)]
pub struct BufferSlice {
    /// The memory.
    pub buffer: Arc<dyn Buffer>,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl BufferSlice {
    /// The whole of a buffer.
    pub fn whole(buffer: Arc<dyn Buffer>) -> Self {
        let bytes = buffer.bytes();
        Self {
            buffer,
            offset: 0,
            bytes,
        }
    }

    /// Data of `got` bytes must fill the slice; `name` is the input or output that it is.
    pub fn check_filled(&self, name: &str, got: usize) -> Result<(), ExecError> {
        let expected = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        if got == expected {
            return Ok(());
        }
        Err(ExecError::DataBytes {
            name: name.to_owned(),
            expected,
            got,
        })
    }

    /// The slice as a range of memory of `size` bytes; an error if it reaches past the end. `device` is for the message.
    pub fn within(&self, device: &str, size: usize) -> Result<Range<usize>, DeviceError> {
        let range = || {
            let start = usize::try_from(self.offset).ok()?;
            let end = start.checked_add(usize::try_from(self.bytes).ok()?)?;
            (end <= size).then_some(start..end)
        };
        range().ok_or_else(|| DeviceError::Range {
            device: device.to_owned(),
            start: self.offset,
            end: self.offset.saturating_add(self.bytes),
            size: size as u64,
        })
    }

    /// Part of this slice; an error if it reaches past the end. `device` is for the message.
    pub fn range(&self, device: &str, offset: u64, bytes: u64) -> Result<Self, DeviceError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Self {
                buffer: Arc::clone(&self.buffer),
                offset: self.offset + offset,
                bytes,
            }),
            end => Err(DeviceError::Range {
                device: device.to_owned(),
                start: offset,
                end: end.unwrap_or(u64::MAX),
                size: self.bytes,
            }),
        }
    }
}

impl fmt::Debug for BufferSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}[{}..{}]",
            self.buffer.usage(),
            self.offset,
            self.offset + self.bytes
        )
    }
}
