//! What a device says of itself, before it is opened.

use core::ffi::c_int;

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use ggrs_simt::driver::{DriverError, Facts, Platform};

use crate::api::Api;
use crate::probe::Version;

/// What the simulator of the tests calls its devices.
const SIMULATOR: &str = "GGRS simulator";

/// Bytes of a device's name that are read.
const NAME_BYTES: usize = 256;

/// From this driver on, overlapping launches can be recorded.
const OVERLAP_DRIVER: Version = Version {
    major: 12,
    minor: 3,
};

/// Targets whose own instructions are reached only by a name with an `a`.
const SPECIFIC: &[(u32, u32)] = &[(9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1)];

/// The device of this ordinal.
pub(crate) fn device(api: &Api, ordinal: usize) -> Result<c_int, DriverError> {
    let mut device = 0;
    // SAFETY: the driver is initialised, as the table's maker saw to; the place outlives the call.
    unsafe {
        api.cuDeviceGet(
            &raw mut device,
            c_int::try_from(ordinal).unwrap_or(c_int::MAX),
        )
    }?;
    Ok(device)
}

/// The facts of a device.
pub(crate) fn facts(api: &Api, device: c_int, driver: Version) -> Result<Facts, DriverError> {
    let attribute = |attribute: Attribute| -> Result<u32, DriverError> {
        let mut value = 0;
        // SAFETY: the device is the driver's; the place outlives the call.
        unsafe { api.cuDeviceGetAttribute(&raw mut value, attribute, device) }?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let hardware = name(api, device)?;
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let mut memory_bytes = 0;
    // SAFETY: the device is the driver's; the place outlives the call.
    unsafe { api.cuDeviceTotalMem_v2(&raw mut memory_bytes, device) }?;
    let clock_khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
    let bus_bits = attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?;
    Ok(Facts {
        arch: arch(capability),
        platform: Platform::Cuda,
        warp: attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        n_multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
        memory_bytes: memory_bytes as u64,
        bandwidth: bandwidth(clock_khz, bus_bits),
        has_matrix_units: capability >= (8, 0),
        has_overlap: capability >= (9, 0) && driver >= OVERLAP_DRIVER,
        is_simulated: hardware.starts_with(SIMULATOR),
        hardware,
    })
}

fn name(api: &Api, device: c_int) -> Result<String, DriverError> {
    let mut bytes = [0u8; NAME_BYTES];
    // SAFETY: the place is as long as is said and outlives the call.
    unsafe { api.cuDeviceGetName(bytes.as_mut_ptr().cast(), NAME_BYTES as c_int, device) }?;
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(NAME_BYTES);
    Ok(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
}

/// The compiler's name for a capability.
fn arch(capability: (u32, u32)) -> String {
    let suffix = if SPECIFIC.contains(&capability) {
        "a"
    } else {
        ""
    };
    format!("sm_{}{}{suffix}", capability.0, capability.1)
}

/// Two transfers a clock over the whole bus; `None` if the driver does not say.
fn bandwidth(clock_khz: u32, bus_bits: u32) -> Option<f64> {
    let bytes = f64::from(clock_khz) * 1e3 * 2.0 * f64::from(bus_bits) / 8.0;
    (bytes > 0.0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_the_compilers_names() {
        for (capability, named) in [
            ((8, 0), "sm_80"),
            ((8, 9), "sm_89"),
            ((9, 0), "sm_90a"),
            ((10, 0), "sm_100a"),
            ((12, 1), "sm_121a"),
            ((13, 0), "sm_130"),
        ] {
            assert_eq!(arch(capability), named);
        }
    }

    #[test]
    fn bandwidth_is_that_of_the_data_sheet() {
        // HBM3 at 2619 MHz on 5120 bits: the maker says 3.35 TB/s.
        let bytes = bandwidth(2_619_000, 5120).unwrap();
        assert!((bytes / 3.35e12 - 1.0).abs() < 0.01, "{bytes}");
        assert_eq!(bandwidth(0, 5120), None);
    }
}
