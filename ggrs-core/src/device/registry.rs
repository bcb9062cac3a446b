//! The backends a program has: an explicit list, no link-time magic.

use std::sync::Arc;

use super::{Backend, Device, DeviceInfo, DeviceName};
use crate::DeviceError;

/// The backends a program has.
#[derive(Default)]
pub struct Registry {
    backends: Vec<Box<dyn Backend>>,
}

impl Registry {
    /// A registry of these backends; the first one's first device is the default.
    pub fn with(backends: impl IntoIterator<Item = Box<dyn Backend>>) -> Self {
        Self {
            backends: backends.into_iter().collect(),
        }
    }

    /// Every device of every backend.
    pub fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let mut all = Vec::new();
        for b in &self.backends {
            all.extend(b.enumerate()?);
        }
        Ok(all)
    }

    /// Opens the device that the user names: `cpu`, `cuda:0`, `cpu:0/2`.
    pub fn open(&self, text: &str) -> Result<Arc<dyn Device>, DeviceError> {
        let name: DeviceName = text.parse()?;
        match self.backends.iter().find(|b| b.name() == name.backend) {
            Some(backend) => backend.open(&name),
            None => Err(DeviceError::NotFound {
                name: text.to_owned(),
                available: self
                    .enumerate()?
                    .into_iter()
                    .map(|d| d.name.to_string())
                    .collect(),
            }),
        }
    }
}
