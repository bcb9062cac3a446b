//! The device's error behind whatever a stage made of it.

use std::error::Error;

use ggrs_core::{BindError, DeviceError, ExecError};

/// The first error of a device in a chain of sources; `None` if no device failed.
pub fn device_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a DeviceError> {
    let mut next = Some(error);
    while let Some(error) = next {
        // A transparent error hides what it wraps from the chain, a box hides what is in it.
        let exec = error
            .downcast_ref::<ExecError>()
            .or_else(|| error.downcast_ref::<Box<ExecError>>().map(|e| &**e));
        let bind = error
            .downcast_ref::<BindError>()
            .or_else(|| error.downcast_ref::<Box<BindError>>().map(|e| &**e));
        let found = match (error.downcast_ref::<DeviceError>(), exec, bind) {
            (Some(found), ..) => Some(found),
            (_, Some(ExecError::Device(found)), _) => Some(found),
            (.., Some(BindError::Device(found))) => Some(found),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}
