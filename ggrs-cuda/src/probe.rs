//! What there is of CUDA on this machine. Asking never fails in any other way than with a reason.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use ggrs_simt::driver::DriverError;

use crate::api::{Api, Entry};
use crate::error::is;
use crate::library::{NotLoaded, files, open_first};

/// The variable that names a folder with the driver's library, instead of where the system looks.
pub const FOLDER_VARIABLE: &str = "GGRS_CUDA_DIR";

/// What the driver's library is called.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvcuda.dll"]
} else {
    &["libcuda.so.1", "libcuda.so"]
};

/// The oldest driver that has every function that is used.
const OLDEST: Version = Version {
    major: 12,
    minor: 0,
};

/// A version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl Version {
    /// From the driver's way to write it: 13000.
    const fn from_number(number: u32) -> Self {
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A driver with devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The newest CUDA that the driver runs.
    pub driver: Version,
    /// Its devices, at least one.
    pub n_devices: usize,
}

/// Why there is no CUDA, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCuda {
    /// There is no driver.
    #[error(
        "the NVIDIA driver's library was not found (tried {}); install the driver, or name its folder in {FOLDER_VARIABLE}",
        tried.join(", ")
    )]
    Absent {
        /// File names tried.
        tried: Vec<String>,
    },
    /// There is a library, and the system refuses to load it.
    #[error(
        "the NVIDIA driver's library {file} cannot be loaded: {cause}; install the driver anew"
    )]
    Refused {
        /// The file.
        file: String,
        /// What the system said.
        cause: String,
    },
    /// The driver is too old.
    #[error("the NVIDIA driver is too old: it runs CUDA {found}, {oldest} or newer is needed; update the driver", oldest = OLDEST)]
    TooOld {
        /// What it runs.
        found: Version,
    },
    /// The library lacks a function that drivers of its version have.
    #[error("the NVIDIA driver's library has no function {function}; install the driver anew")]
    Incomplete {
        /// The function.
        function: &'static str,
    },
    /// The library is the toolkit's for linking and does nothing.
    #[error(
        "the library found as the NVIDIA driver's is the toolkit's stub for linking; take its folder (lib64/stubs) out of LD_LIBRARY_PATH"
    )]
    Stub,
    /// There is a driver and nothing that it drives.
    #[error(
        "the NVIDIA driver sees no device; is one built in, and does CUDA_VISIBLE_DEVICES hide it?"
    )]
    NoDevice,
    /// The driver does not start.
    #[error(
        "the NVIDIA driver does not start: {0}; a driver updated since the system started needs a restart"
    )]
    Failed(DriverError),
}

/// What there is of CUDA on this machine.
///
/// # Errors
/// There is none; the error says why.
pub fn probe() -> Result<Present, NoCuda> {
    Found::search(folder_from_env().as_deref()).map(|found| found.present)
}

/// The folder that the environment names.
pub(crate) fn folder_from_env() -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER_VARIABLE)?;
    (!folder.is_empty()).then(|| folder.into())
}

/// A driver with devices, and its functions.
pub(crate) struct Found {
    pub(crate) present: Present,
    pub(crate) api: Arc<Api>,
}

impl Found {
    /// Looks in this folder, or where the system looks.
    pub(crate) fn search(folder: Option<&Path>) -> Result<Self, NoCuda> {
        let candidates = match folder {
            None => NAMES.iter().map(|&name| name.to_owned()).collect(),
            Some(folder) => {
                let mut found = files(folder, "libcuda.so");
                if found.is_empty() {
                    found.push(folder.join("libcuda.so").to_string_lossy().into_owned());
                }
                found
            }
        };
        let library = open_first(candidates).map_err(|error| match error {
            NotLoaded::Absent { tried } => NoCuda::Absent { tried },
            NotLoaded::Refused { file, cause } => NoCuda::Refused { file, cause },
        })?;
        let lacking = |function| NoCuda::Incomplete { function };
        let entry = Entry::load(library).map_err(lacking)?;
        let (mut number, mut count) = (0, 0);
        // SAFETY: asking for the version needs no initialisation; the number outlives the call.
        unsafe { entry.cuDriverGetVersion(&raw mut number) }.map_err(not_started)?;
        let driver = Version::from_number(number.try_into().unwrap_or(0));
        if driver < OLDEST {
            return Err(NoCuda::TooOld { found: driver });
        }
        // SAFETY: there are no flags.
        unsafe { entry.cuInit(0) }.map_err(not_started)?;
        // SAFETY: the driver is initialised; the number outlives the call.
        unsafe { entry.cuDeviceGetCount(&raw mut count) }.map_err(not_started)?;
        let n_devices = usize::try_from(count).unwrap_or(0);
        if n_devices == 0 {
            return Err(NoCuda::NoDevice);
        }
        let api = Arc::new(Api::load(library).map_err(lacking)?);
        Ok(Self {
            present: Present { driver, n_devices },
            api,
        })
    }
}

fn not_started(error: DriverError) -> NoCuda {
    if is(&error, CUresult::CUDA_ERROR_NO_DEVICE) {
        NoCuda::NoDevice
    } else if is(&error, CUresult::CUDA_ERROR_STUB_LIBRARY) {
        NoCuda::Stub
    } else {
        NoCuda::Failed(error)
    }
}
