//! What a fake device is made to be.

use ggrs_core::DeviceError;

use super::mask::Mask;

/// Memory, limits and kernels of a fake device.
#[derive(Clone, Debug)]
pub struct FakeSpec {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Offsets in arenas are multiples of this; a power of two, at least 64, which the CPU's kernels need.
    pub alignment_bytes: u64,
    /// The largest single buffer.
    pub max_buffer_bytes: u64,
    /// Its kernels.
    pub mask: Mask,
}

impl Default for FakeSpec {
    /// A device of 64 GiB with the CPU's alignment and all of its kernels.
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 30,
            alignment_bytes: FakeSpec::MIN_ALIGNMENT,
            max_buffer_bytes: 64 << 30,
            mask: Mask::default(),
        }
    }
}

impl FakeSpec {
    /// What the CPU's kernels need.
    pub const MIN_ALIGNMENT: u64 = 64;

    /// With this much memory.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// With this alignment.
    #[must_use]
    pub fn alignment(mut self, bytes: u64) -> Self {
        self.alignment_bytes = bytes;
        self
    }

    /// With this limit on a single buffer.
    #[must_use]
    pub fn max_buffer(mut self, bytes: u64) -> Self {
        self.max_buffer_bytes = bytes;
        self
    }

    /// With these kernels.
    #[must_use]
    pub fn mask(mut self, mask: Mask) -> Self {
        self.mask = mask;
        self
    }

    /// Can there be such a device?
    pub(super) fn check(&self, device: &str) -> Result<(), DeviceError> {
        let alignment = self.alignment_bytes;
        if alignment.is_power_of_two() && alignment >= Self::MIN_ALIGNMENT {
            return Ok(());
        }
        Err(DeviceError::Setting {
            device: device.to_owned(),
            setting: "alignment_bytes",
            value: alignment.to_string(),
            possible: format!("powers of two from {}", Self::MIN_ALIGNMENT),
        })
    }
}
