//! NCCL, which adds up what several devices hold: found at run time, and optional.

use core::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};

use cudarc::nccl::sys::{self, ncclResult_t};
use ggrs_simt::communicator::NoCommunicators;
use ggrs_simt::driver::{DriverError, DriverFailure};

use crate::library::{NotLoaded, files, open_first, with_wheels};
use crate::table::functions;

/// The variable that names a folder with NCCL's library, or one into which its wheel was installed.
pub const FOLDER_VARIABLE: &str = "GGRS_NCCL_DIR";

/// The variable by which a user asks for NCCL.
pub const SWITCH_VARIABLE: &str = "GGRS_NCCL";

/// What turns it on, and how it is told.
const ON: &str = "on";
const SETTING: &str = "GGRS_NCCL=on";

/// What the library is called.
const NAMES: &[&str] = if cfg!(windows) {
    &["nccl.dll"]
} else {
    &["libnccl.so.2", "libnccl.so"]
};

/// The package of the Python registry that has it.
const WHEELS: &[&str] = &["nccl"];

/// The oldest version that is used: groups can be given up while recordings of theirs are there.
const OLDEST: u32 = 21900;

/// What the library is told where the user tells it nothing: no NVLink multicast; all connections made when a group
/// is, so that no later call waits for another member's.
const DEFAULTS: &[(&str, &str)] = &[("NCCL_NVLS_ENABLE", "0"), ("NCCL_RUNTIME_CONNECT", "0")];

functions! {
    /// What any library has, however old.
    Entry, ncclResult_t, DriverError = check;
    ncclGetVersion(version: *mut c_int);
}

functions! {
    /// The functions that are used.
    Api, ncclResult_t, DriverError = check;
    ncclCommInitAll(made: *mut sys::ncclComm_t, count: c_int, devices: *const c_int);
    ncclCommDestroy(communicator: sys::ncclComm_t);
    ncclCommAbort(communicator: sys::ncclComm_t);
    ncclCommGetAsyncError(communicator: sys::ncclComm_t, code: *mut ncclResult_t);
    ncclAllReduce(
        from: *const c_void,
        to: *mut c_void,
        count: usize,
        dtype: sys::ncclDataType_t,
        op: sys::ncclRedOp_t,
        communicator: sys::ncclComm_t,
        stream: sys::cudaStream_t,
    );
}

/// The library's names for its codes.
const CODES: &[&str] = &[
    "ncclSuccess",
    "ncclUnhandledCudaError",
    "ncclSystemError",
    "ncclInternalError",
    "ncclInvalidArgument",
    "ncclInvalidUsage",
    "ncclRemoteError",
    "ncclInProgress",
];

/// The error of a call that gave this code.
pub(crate) fn error(call: &'static str, code: u32) -> DriverError {
    let name = CODES.get(code as usize).copied();
    DriverError {
        call,
        code: i64::from(code),
        name: name.unwrap_or("a code newer than this program").to_owned(),
        failure: DriverFailure::Other,
    }
}

/// A call's code as a result. What still goes on has not failed.
pub(crate) fn check(call: &'static str, code: u32) -> Result<(), DriverError> {
    let fine = [ncclResult_t::ncclSuccess, ncclResult_t::ncclInProgress];
    if fine.iter().any(|f| *f as u32 == code) {
        return Ok(());
    }
    Err(error(call, code))
}

/// Where it is to be.
enum Place {
    /// Where the system looks.
    System,
    /// In this folder.
    Folder(PathBuf),
    /// Nowhere: the user did not ask for it.
    Off,
}

/// NCCL, wherever it is; looked for when devices are first connected.
pub struct Nccl {
    place: Place,
    loaded: Mutex<Option<&'static Api>>,
}

impl Nccl {
    const fn at(place: Place) -> Self {
        Self {
            place,
            loaded: Mutex::new(None),
        }
    }

    /// None, unless `GGRS_NCCL=on` asks for [`Self::find`].
    pub fn from_env() -> Self {
        let switch = std::env::var(SWITCH_VARIABLE).unwrap_or_default();
        if switch.eq_ignore_ascii_case(ON) {
            return Self::find();
        }
        if !switch.is_empty() {
            tracing::warn!(switch, "{SWITCH_VARIABLE} knows nothing but \"{ON}\"");
        }
        Self::off()
    }

    /// The one in the folder that `GGRS_NCCL_DIR` names; without it, where the system looks.
    pub fn find() -> Self {
        match std::env::var_os(FOLDER_VARIABLE).filter(|f| !f.is_empty()) {
            Some(folder) => Self::in_folder(folder),
            None => Self::at(Place::System),
        }
    }

    /// The one in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self::at(Place::Folder(folder.into()))
    }

    /// None.
    pub const fn off() -> Self {
        Self::at(Place::Off)
    }

    /// Its functions. A simulated device takes only a library that it was given with it: the system's is for real ones.
    pub(crate) fn api(&self, is_simulated: bool) -> Result<&'static Api, NoCommunicators> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = *loaded {
            return Ok(found);
        }
        let candidates = self.candidates(is_simulated)?;
        set_defaults();
        let library = open_first(candidates).map_err(|error| match error {
            NotLoaded::Absent { tried } => NoCommunicators::Absent { tried },
            NotLoaded::Refused { file, cause } => NoCommunicators::Refused { file, cause },
        })?;
        let lacking = |function| NoCommunicators::Incomplete { function };
        let entry = Entry::load(library).map_err(lacking)?;
        let mut number = 0;
        // SAFETY: the number outlives the call.
        unsafe { entry.ncclGetVersion(&raw mut number) }?;
        let number = u32::try_from(number).unwrap_or(0);
        if number < OLDEST {
            return Err(NoCommunicators::TooOld {
                found: version(number),
                oldest: version(OLDEST),
            });
        }
        let api: &'static Api = Box::leak(Box::new(Api::load(library).map_err(lacking)?));
        tracing::debug!(version = version(number), "NCCL found");
        *loaded = Some(api);
        Ok(api)
    }

    fn candidates(&self, is_simulated: bool) -> Result<Vec<String>, NoCommunicators> {
        match &self.place {
            Place::Off => Err(NoCommunicators::Off { setting: SETTING }),
            Place::System if is_simulated => Err(NoCommunicators::Absent {
                tried: vec![FOLDER_VARIABLE.to_owned()],
            }),
            Place::System => Ok(NAMES.iter().map(|&name| name.to_owned()).collect()),
            Place::Folder(folder) => {
                let folders = with_wheels(folder, WHEELS);
                let found: Vec<String> = folders
                    .iter()
                    .flat_map(|f| files(f, "libnccl.so"))
                    .collect();
                if found.is_empty() {
                    let name = folder.join("libnccl.so.2");
                    return Ok(vec![name.to_string_lossy().into_owned()]);
                }
                Ok(found)
            }
        }
    }
}

/// Tells the library what it reads from the environment, once and before it is loaded.
fn set_defaults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, value) in DEFAULTS {
            if std::env::var_os(name).is_none() {
                // SAFETY: other Rust code takes the same lock. Code in C that reads the environment on another thread
                // at this very moment is the risk that remains; the library has no other way to be told.
                unsafe { std::env::set_var(name, value) };
            }
        }
    });
}

/// A version as people write it: 2.19.3 of 21903, and of 2708 before the fields were widened.
fn version(number: u32) -> String {
    let (major, rest) = if number < 10_000 {
        (number / 1000, number % 1000)
    } else {
        (number / 10_000, number % 10_000)
    };
    format!("{major}.{}.{}", rest / 100, rest % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_people_do() {
        assert_eq!(version(22809), "2.28.9");
        assert_eq!(version(21903), "2.19.3");
        assert_eq!(version(2708), "2.7.8");
    }

    #[test]
    fn codes_have_names() {
        check("ncclX", 0).unwrap();
        check("ncclX", 7).unwrap();
        let said = |code| check("ncclX", code).unwrap_err().to_string();
        assert_eq!(said(1), "ncclX failed: ncclUnhandledCudaError (1)");
        assert_eq!(
            said(99),
            "ncclX failed: a code newer than this program (99)"
        );
    }
}
