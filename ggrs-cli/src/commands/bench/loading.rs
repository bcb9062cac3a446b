//! How fast weights came to the devices, beside what the bus gives if that was asked for. Loads nothing.

use std::fmt;
use std::time::Duration;

use ggrs_core::DeviceError;
use ggrs_model::Model;

use crate::units::Bytes;

/// Bytes of the copies that the bus is measured with.
const COPIED: u64 = 1 << 30;

/// What loading took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Loading {
    /// Bytes of the weights as the devices keep them.
    pub(super) bytes: u64,
    /// From the first weight to the last.
    pub(super) took: Duration,
    /// Bytes per second of plain copies to the devices, one after another.
    pub(super) bus: Option<f64>,
}

impl Loading {
    pub(super) fn new(model: &Model, took: Duration, with_bus: bool) -> Result<Self, DeviceError> {
        let bus = if with_bus { bus(model)? } else { None };
        Ok(Self {
            bytes: model.weight_bytes(),
            took,
            bus,
        })
    }

    fn rate(&self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Bytes per second of plain copies, as many to each device; `None` if one cannot tell.
fn bus(model: &Model) -> Result<Option<f64>, DeviceError> {
    let devices = model.devices();
    let share = COPIED / (devices.len() as u64).max(1);
    let seconds = devices.iter().map(|d| d.time_upload(share));
    let seconds: Option<f64> = seconds.sum::<Result<_, _>>()?;
    Ok(seconds.map(|s| COPIED as f64 / s))
}

/// `8.01 MiB of weights loaded in 0.012 s: 0.70 GB/s, 35 % of the bus (2.00 GB/s)`
impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, seconds) = (Bytes(self.bytes), self.took.as_secs_f64());
        let rate = self.rate();
        write!(
            f,
            "{bytes} of weights loaded in {seconds:.3} s: {:.2} GB/s",
            rate / 1e9
        )?;
        match self.bus {
            Some(bus) => write!(
                f,
                ", {:.0} % of the bus ({:.2} GB/s)",
                100.0 * rate / bus,
                bus / 1e9
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loading_is_said_beside_the_bus() {
        let mut loading = Loading {
            bytes: 3 << 30,
            took: Duration::from_millis(500),
            bus: None,
        };
        assert_eq!(
            loading.to_string(),
            "3.00 GiB of weights loaded in 0.500 s: 6.44 GB/s"
        );
        loading.bus = Some(25.6e9);
        assert_eq!(
            loading.to_string(),
            "3.00 GiB of weights loaded in 0.500 s: 6.44 GB/s, 25 % of the bus (25.60 GB/s)"
        );
    }
}
