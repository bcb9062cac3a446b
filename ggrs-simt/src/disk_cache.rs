//! Compiled kernels on disk, named by everything that they depend on. A cache that cannot be read or written is none.

use std::fs;
use std::path::PathBuf;

use crate::kernel::ModuleKey;

/// The variable that names the folder, instead of `$XDG_CACHE_HOME/ggrs/kernels`; empty for no cache.
pub const VARIABLE: &str = "GGRS_KERNEL_CACHE";

/// A folder of compiled kernels, or none.
pub(crate) struct DiskCache {
    folder: Option<PathBuf>,
}

impl DiskCache {
    /// The folder that the environment names, or none.
    pub(crate) fn new(is_wanted: bool) -> Self {
        let chosen = std::env::var_os(VARIABLE).map(PathBuf::from);
        let usual = || {
            let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
            let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            Some(base.or_else(home)?.join("ggrs").join("kernels"))
        };
        let folder = chosen.or_else(usual);
        Self {
            folder: folder.filter(|f| is_wanted && !f.as_os_str().is_empty()),
        }
    }

    /// A file name for a module's machine code.
    pub(crate) fn name(key: &ModuleKey, source: &str, arch: &str, compiler: &str) -> String {
        let mut hash = blake3::Hasher::new();
        for part in [&key.to_string(), source, arch, compiler] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        format!("{}-{arch}-{}.bin", key.file, hash.finalize().to_hex())
    }

    /// What is kept under a name.
    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.folder.as_ref()?.join(name)).ok()?;
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Keeps machine code: whole or not at all, also if several processes write it at once.
    pub(crate) fn write(&self, name: &str, image: &[u8]) {
        let Some(folder) = &self.folder else { return };
        let part = folder.join(format!("{name}.{}.part", std::process::id()));
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&part, image))
            .and_then(|()| fs::rename(&part, folder.join(name)));
        if let Err(error) = written {
            tracing::debug!(folder = %folder.display(), %error, "the kernel cache cannot be written");
        }
    }
}
