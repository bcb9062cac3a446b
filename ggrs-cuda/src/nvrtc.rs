//! NVRTC as the compiler of kernel files: found at run time, asked for machine code of exactly the device's kind.

use core::ffi::{c_char, c_int};
use std::borrow::Cow;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cudarc::nvrtc::sys::{self, nvrtcResult};
use ggrs_simt::compile::{CompileError, Compiled, Compiler};

use crate::library::{NotLoaded, files, open_first, with_wheels};
use crate::table::functions;

/// The variable that names a folder with NVRTC's libraries, or one into which its wheel was installed.
pub const FOLDER_VARIABLE: &str = "GGRS_NVRTC_DIR";

const NAME: &str = "NVRTC";

/// How to get it: what stands after `pip install` in the message.
const PACKAGE: &str = "--target DIR nvidia-cuda-nvrtc, then set GGRS_NVRTC_DIR=DIR";

/// What the library is called.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
} else {
    &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
};

/// Packages of the Python registry that have it.
const WHEELS: &[&str] = &["cu13", "cuda_nvrtc"];

/// Variables that name a toolkit, and where one usually is.
const TOOLKITS: &[&str] = &["CUDA_HOME", "CUDA_PATH"];
const USUAL_TOOLKIT: &str = "/usr/local/cuda";

functions! {
    /// The functions of NVRTC that are used. All are of CUDA 12.0 or older.
    Api, nvrtcResult, Failed = check;
    nvrtcVersion(major: *mut c_int, minor: *mut c_int);
    nvrtcGetNumSupportedArchs(count: *mut c_int);
    nvrtcGetSupportedArchs(archs: *mut c_int);
    nvrtcCreateProgram(
        program: *mut sys::nvrtcProgram,
        source: *const c_char,
        name: *const c_char,
        n_headers: c_int,
        headers: *const *const c_char,
        header_names: *const *const c_char,
    );
    nvrtcDestroyProgram(program: *mut sys::nvrtcProgram);
    nvrtcCompileProgram(program: sys::nvrtcProgram, n_options: c_int, options: *const *const c_char);
    nvrtcGetProgramLogSize(program: sys::nvrtcProgram, bytes: *mut usize);
    nvrtcGetProgramLog(program: sys::nvrtcProgram, log: *mut c_char);
    nvrtcGetCUBINSize(program: sys::nvrtcProgram, bytes: *mut usize);
    nvrtcGetCUBIN(program: sys::nvrtcProgram, cubin: *mut c_char);
}

/// A call of NVRTC that failed.
pub(crate) struct Failed {
    call: &'static str,
    code: u32,
}

fn check(call: &'static str, code: u32) -> Result<(), Failed> {
    if code == nvrtcResult::NVRTC_SUCCESS as u32 {
        return Ok(());
    }
    Err(Failed { call, code })
}

impl Failed {
    fn is(&self, code: nvrtcResult) -> bool {
        self.code == code as u32
    }

    /// In words, for what is no fault of the source.
    fn words(&self) -> String {
        let (call, code) = (self.call, self.code);
        if self.is(nvrtcResult::NVRTC_ERROR_BUILTIN_OPERATION_FAILURE) {
            return format!("{call} did not find libnvrtc-builtins; it must lie beside libnvrtc");
        }
        format!("{call} failed with code {code}")
    }
}

/// A library that was found.
struct Loaded {
    api: Api,
    version: String,
    /// The architectures that it knows, as numbers: 90 is `sm_90` and `sm_90a`.
    archs: Vec<u32>,
}

/// NVRTC, wherever it is; looked for when it is first needed.
pub struct Nvrtc {
    folder: Option<PathBuf>,
    loaded: Mutex<Option<&'static Loaded>>,
}

impl Nvrtc {
    /// The one in the folder that `GGRS_NVRTC_DIR` names; without it, where the system looks, then in the toolkit's folder.
    pub fn from_env() -> Self {
        let folder = std::env::var_os(FOLDER_VARIABLE).filter(|f| !f.is_empty());
        Self {
            folder: folder.map(PathBuf::from),
            loaded: Mutex::default(),
        }
    }

    /// The one in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            loaded: Mutex::default(),
        }
    }

    /// Is it there?
    ///
    /// # Errors
    /// [`CompileError::NoCompiler`] if it is not.
    pub fn probe(&self) -> Result<(), CompileError> {
        self.loaded().map(|_| ())
    }

    fn loaded(&self) -> Result<&'static Loaded, CompileError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = *loaded {
            return Ok(found);
        }
        let found: &'static Loaded = Box::leak(Box::new(self.search()?));
        tracing::debug!(version = found.version, archs = ?found.archs, "NVRTC found");
        *loaded = Some(found);
        Ok(found)
    }

    fn search(&self) -> Result<Loaded, CompileError> {
        let library = open_first(self.candidates()).map_err(|error| match error {
            NotLoaded::Absent { tried } => absent(tried),
            NotLoaded::Refused { file, cause } => absent(vec![format!("{file}: {cause}")]),
        })?;
        let lacking = |function| absent(vec![format!("a library without {function}")]);
        let api = Api::load(library).map_err(lacking)?;
        let failed = |failed: Failed| absent(vec![failed.words()]);
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the places outlive the calls.
        unsafe { api.nvrtcVersion(&raw mut major, &raw mut minor) }.map_err(failed)?;
        // SAFETY: as above.
        unsafe { api.nvrtcGetNumSupportedArchs(&raw mut count) }.map_err(failed)?;
        let mut archs = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the place has room for as many as the library said.
        unsafe { api.nvrtcGetSupportedArchs(archs.as_mut_ptr()) }.map_err(failed)?;
        Ok(Loaded {
            api,
            version: format!("{major}.{minor}"),
            archs: archs
                .into_iter()
                .filter_map(|a| u32::try_from(a).ok())
                .collect(),
        })
    }

    /// The files to try. Of a folder, the builtins are loaded first: the library asks for them by name, and the system
    /// does not look there.
    fn candidates(&self) -> Vec<String> {
        if let Some(folder) = &self.folder {
            let found = in_folders(&with_wheels(folder, WHEELS));
            return if found.is_empty() {
                vec![folder.join("libnvrtc.so").to_string_lossy().into_owned()]
            } else {
                found
            };
        }
        let mut all: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
        let named = TOOLKITS
            .iter()
            .filter_map(std::env::var_os)
            .map(PathBuf::from);
        let toolkits = named.chain([PathBuf::from(USUAL_TOOLKIT)]);
        let folders: Vec<PathBuf> = toolkits.map(|t| t.join("lib64")).collect();
        all.extend(in_folders(&folders));
        all
    }
}

/// The library's files in these folders. Their builtins are loaded on the way.
fn in_folders(folders: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    for folder in folders {
        let found = files(folder, "libnvrtc.so");
        if !found.is_empty() {
            // Without them compiling fails, and says so.
            let _ = open_first(files(folder, "libnvrtc-builtins.so"));
        }
        all.extend(found);
    }
    all
}

fn absent(tried: Vec<String>) -> CompileError {
    CompileError::NoCompiler {
        compiler: NAME,
        package: PACKAGE,
        tried,
    }
}

impl Compiler for Nvrtc {
    fn version(&self) -> String {
        match self.loaded() {
            Ok(found) => format!("{NAME} {}", found.version),
            Err(_) => format!("no {NAME}"),
        }
    }

    fn compile(
        &self,
        module: &str,
        source: &str,
        defines: &[(&'static str, Cow<'static, str>)],
        arch: &str,
    ) -> Result<Compiled, CompileError> {
        let Loaded {
            api,
            version,
            archs,
        } = self.loaded()?;
        if !arch_number(arch).is_some_and(|number| archs.contains(&number)) {
            return Err(CompileError::Arch {
                compiler: NAME,
                version: version.clone(),
                arch: arch.to_owned(),
            });
        }
        let refused = |log: String| CompileError::Source {
            compiler: NAME,
            version: version.clone(),
            module: module.to_owned(),
            arch: arch.to_owned(),
            log,
        };
        let text = |text: &str| {
            CString::new(text).map_err(|_| refused("the text has a zero character".to_owned()))
        };
        let mut options = vec![
            text(&format!("--gpu-architecture={arch}"))?,
            text("--std=c++17")?,
            text("--ptxas-options=-v")?,
            // Functions of the prelude that a module does not use.
            text("-diag-suppress=177")?,
        ];
        for (name, value) in defines {
            options.push(text(&format!("-D{name}={value}"))?);
        }
        let failed = |failed: Failed| refused(failed.words());
        let program = Program::new(api, &text(source)?, &text(module)?).map_err(failed)?;
        let compiled = program.compile(&options);
        let log = program.log().map_err(failed)?;
        compiled.map_err(
            |error| match error.is(nvrtcResult::NVRTC_ERROR_COMPILATION) {
                true => refused(log.clone()),
                false => refused(format!("{}\n{log}", error.words())),
            },
        )?;
        let image = program.image().map_err(failed)?;
        Ok(Compiled { image, log })
    }
}

/// 90 of `sm_90a`.
fn arch_number(arch: &str) -> Option<u32> {
    let number = arch.strip_prefix("sm_")?;
    number
        .trim_end_matches(|c: char| c.is_ascii_lowercase())
        .parse()
        .ok()
}

/// A program of NVRTC.
struct Program<'a> {
    api: &'a Api,
    raw: sys::nvrtcProgram,
}

impl<'a> Program<'a> {
    fn new(api: &'a Api, source: &CString, name: &CString) -> Result<Self, Failed> {
        let mut raw = std::ptr::null_mut();
        let none = std::ptr::null();
        // SAFETY: both texts end with 0, and are copied; there are no headers; the place outlives the call.
        unsafe {
            api.nvrtcCreateProgram(&raw mut raw, source.as_ptr(), name.as_ptr(), 0, none, none)
        }?;
        Ok(Self { api, raw })
    }

    fn compile(&self, options: &[CString]) -> Result<(), Failed> {
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
        // SAFETY: the program is whole; there are as many options as is said, and they outlive the call.
        unsafe {
            self.api
                .nvrtcCompileProgram(self.raw, count, pointers.as_ptr())
        }
    }

    fn log(&self) -> Result<String, Failed> {
        let mut size = 0;
        // SAFETY: the program is whole; the place outlives the call.
        unsafe { self.api.nvrtcGetProgramLogSize(self.raw, &raw mut size) }?;
        let mut log = vec![0u8; size];
        // SAFETY: the place is as long as the library said.
        unsafe {
            self.api
                .nvrtcGetProgramLog(self.raw, log.as_mut_ptr().cast())
        }?;
        let log = String::from_utf8_lossy(&log);
        Ok(log.trim_end_matches('\0').to_owned())
    }

    fn image(&self) -> Result<Vec<u8>, Failed> {
        let mut size = 0;
        // SAFETY: the program is compiled; the place outlives the call.
        unsafe { self.api.nvrtcGetCUBINSize(self.raw, &raw mut size) }?;
        let mut image = vec![0u8; size];
        // SAFETY: the place is as long as the library said.
        unsafe { self.api.nvrtcGetCUBIN(self.raw, image.as_mut_ptr().cast()) }?;
        Ok(image)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the program is whole and used no more.
        let _ = unsafe { self.api.nvrtcDestroyProgram(&raw mut self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_by_their_number() {
        assert_eq!(arch_number("sm_90a"), Some(90));
        assert_eq!(arch_number("sm_120"), Some(120));
        assert_eq!(arch_number("gfx1100"), None);
    }

    #[test]
    fn no_compiler_is_an_error_with_a_way_out() {
        let nvrtc = Nvrtc::in_folder("/nowhere");
        assert_eq!(nvrtc.version(), "no NVRTC");
        let error = nvrtc.compile("m", "", &[], "sm_90a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no NVRTC was found (tried /nowhere/libnvrtc.so); install it (pip install --target DIR nvidia-cuda-nvrtc, then set GGRS_NVRTC_DIR=DIR), or use a build with a kernel pack"
        );
    }
}
