//! The backend: which CUDA devices there are, and opening one.

use std::path::PathBuf;
use std::sync::Arc;

use ggrs_core::DeviceError;
use ggrs_core::device::{Backend, Device, DeviceInfo, DeviceName, MemoryReport};
use ggrs_simt::SimtDevice;
use ggrs_simt::compile::Compiler;
use ggrs_simt::driver::{Driver, DriverError, DriverFailure, Facts};

use crate::driver::{CudaDriver, memory_now};
use crate::facts::{device, facts};
use crate::nccl::Nccl;
use crate::nvrtc::Nvrtc;
use crate::probe::{Found, NoCuda, Present, folder_from_env};

/// The name that users write.
const NAME: &str = "cuda";

/// Codes from here on are of what runs on a device, not of the device.
const FIRST_FAULT: i64 = 700;

/// The backend of CUDA devices: `cuda:0`, `cuda:1` in the driver's order.
pub struct CudaBackend {
    folder: Option<PathBuf>,
    compiler: Arc<Nvrtc>,
    nccl: Arc<Nccl>,
}

impl CudaBackend {
    /// The system's driver, compiler and NCCL, or those in the folders that the environment names.
    pub fn from_env() -> Self {
        Self {
            folder: folder_from_env(),
            compiler: Arc::new(Nvrtc::from_env()),
            nccl: Arc::new(Nccl::from_env()),
        }
    }

    /// The driver, the compiler and NCCL in this folder: a simulator.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            compiler: Arc::new(Nvrtc::in_folder(&folder)),
            nccl: Arc::new(Nccl::in_folder(&folder)),
            folder: Some(folder),
        }
    }

    /// The same with another NCCL.
    #[must_use]
    pub fn with_nccl(mut self, nccl: Nccl) -> Self {
        self.nccl = Arc::new(nccl);
        self
    }

    /// What there is.
    ///
    /// # Errors
    /// There is no CUDA; the error says why.
    pub fn probe(&self) -> Result<Present, NoCuda> {
        self.search().map(|found| found.present)
    }

    /// The driver of a device alone, without anything that GGRS makes of it.
    ///
    /// # Errors
    /// No such device, or it does not open.
    pub fn driver(&self, name: &DeviceName) -> Result<Arc<dyn Driver>, DeviceError> {
        Ok(Arc::new(self.open_driver(name)?.0))
    }

    fn search(&self) -> Result<Found, NoCuda> {
        Found::search(self.folder.as_deref())
    }

    fn open_driver(&self, name: &DeviceName) -> Result<(CudaDriver, Present), DeviceError> {
        let unavailable = |reason: String| DeviceError::Unavailable {
            device: name.to_string(),
            reason,
        };
        if name.members > 1 {
            return Err(unavailable(
                "a GPU is not cut into members; name whole ones, joined by + to work as one (cuda:0+cuda:1)"
                    .to_owned(),
            ));
        }
        let found = self
            .search()
            .map_err(|none| unavailable(none.to_string()))?;
        let n_devices = found.present.n_devices;
        if name.index >= n_devices {
            return Err(DeviceError::NotFound {
                name: name.to_string(),
                available: (0..n_devices).map(|i| named(i).to_string()).collect(),
            });
        }
        let driver = CudaDriver::open(&found, &self.nccl, name.index).map_err(|error| {
            unavailable(match error.failure {
                // After a kernel's fault the driver gives the process nothing of the device any more.
                DriverFailure::Lost if error.code >= FIRST_FAULT => {
                    format!("this process has lost it ({error}); start the program again")
                }
                _ => format!("it does not open: {error}"),
            })
        })?;
        Ok((driver, found.present))
    }
}

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let found = match self.search() {
            Ok(found) => found,
            Err(none) => {
                tracing::debug!(%none, "no CUDA devices");
                return Ok(Vec::new());
            }
        };
        let told = |ordinal| {
            info(&found, ordinal).map_err(|error| DeviceError::System {
                device: named(ordinal).to_string(),
                what: error.call,
                code: format!("{} ({})", error.name, error.code),
            })
        };
        (0..found.present.n_devices).map(told).collect()
    }

    fn open(&self, name: &DeviceName) -> Result<Arc<dyn Device>, DeviceError> {
        let (driver, present) = self.open_driver(name)?;
        let features = features(driver.facts(), present);
        let compiler: Arc<dyn Compiler> = Arc::clone(&self.compiler) as _;
        let device = SimtDevice::new(name.clone(), features, Arc::new(driver), compiler)?;
        Ok(Arc::new(device))
    }
}

/// What is told of a device that is not open.
fn info(found: &Found, ordinal: usize) -> Result<DeviceInfo, DriverError> {
    let device = device(&found.api, ordinal)?;
    let facts = facts(&found.api, device, found.present.driver)?;
    // Full memory leaves no room even for asking.
    let (free, total) = memory_now(&found.api, device).unwrap_or((0, facts.memory_bytes));
    Ok(DeviceInfo {
        name: named(ordinal),
        features: features(&facts, found.present),
        hardware: facts.hardware,
        memory: MemoryReport {
            total,
            free,
            held: 0,
        },
    })
}

fn named(index: usize) -> DeviceName {
    DeviceName {
        backend: NAME.to_owned(),
        index,
        members: 1,
    }
}

fn features(facts: &Facts, present: Present) -> String {
    format!(
        "{}, {} multiprocessors, driver {}",
        facts.arch, facts.n_multiprocessors, present.driver
    )
}
