//! A file that appears under its name only when it is complete. What it holds is not known here.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Distinguishes the files that one process writes at once.
static N_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A file beside its destination, removed unless it is committed.
pub(super) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    destination: PathBuf,
}

impl AtomicFile {
    pub(super) fn create(destination: &Path) -> io::Result<Self> {
        let Some(name) = destination.file_name() else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let n = N_WRITTEN.fetch_add(1, Ordering::Relaxed);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{n}.tmp", std::process::id()));
        let temporary = destination.with_file_name(hidden);
        Ok(Self {
            file: OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&temporary)?,
            temporary,
            destination: destination.to_owned(),
        })
    }

    /// Gives the file its name, once its bytes are on the disk.
    pub(super) fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.destination)?;
        // The name itself is in the folder; only Unix lets one wait for that.
        #[cfg(unix)]
        {
            let folder = self
                .destination
                .parent()
                .filter(|f| !f.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a commit there is no such file.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot.state");
        fs::write(&path, "old").unwrap();

        let mut broken = AtomicFile::create(&path).unwrap();
        broken.write_all(b"half").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(broken);
        assert_eq!(names(folder.path()), ["slot.state"]);

        let mut whole = AtomicFile::create(&path).unwrap();
        whole.write_all(b"new").unwrap();
        whole.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["slot.state"]);
    }
}
