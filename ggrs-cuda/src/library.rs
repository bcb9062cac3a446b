//! Finding shared libraries: by name where the system looks, or in a folder that the user gives. Nothing here panics.

use std::fs;
use std::path::{Path, PathBuf};

use libloading::Library;

/// Why a library was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotLoaded {
    /// None of these is there.
    Absent { tried: Vec<String> },
    /// One is there and the system refuses it.
    Refused { file: String, cause: String },
}

/// Loads the first of these files or names that can be loaded.
///
/// The library stays loaded until the process ends: drivers do not survive being unloaded.
pub(crate) fn open_first(candidates: Vec<String>) -> Result<&'static Library, NotLoaded> {
    let mut refused = None;
    for candidate in &candidates {
        // SAFETY: the library's initialisers run. It is the vendor's driver or compiler, which the user asked for.
        match unsafe { Library::new(candidate) } {
            Ok(library) => return Ok(Box::leak(Box::new(library))),
            Err(error) => {
                let cause = cause(&error);
                tracing::debug!(candidate, cause, "not loaded");
                if refused.is_none() && !is_absent(candidate, &cause) {
                    let file = candidate.clone();
                    refused = Some(NotLoaded::Refused { file, cause });
                }
            }
        }
    }
    Err(refused.unwrap_or(NotLoaded::Absent { tried: candidates }))
}

/// Is the candidate itself not there? A library that it needs may also be what is missing, which is worth telling.
fn is_absent(candidate: &str, cause: &str) -> bool {
    let is_path = candidate.contains(std::path::MAIN_SEPARATOR);
    if is_path {
        return !Path::new(candidate).exists();
    }
    !cfg!(target_os = "linux") || cause.starts_with(&format!("{candidate}: cannot open"))
}

fn cause(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Files of a folder whose name begins so, `libX.so` before `libX.so.13`; nothing if there is no such folder.
pub(crate) fn files(folder: &Path, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter(|e| e.file_name().to_string_lossy().starts_with(beginning))
        .map(|e| e.path().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// A folder, and those under it in which these packages of the Python registry keep their libraries.
pub(crate) fn with_wheels(folder: &Path, packages: &[&str]) -> Vec<PathBuf> {
    let wheel = |package| folder.join("nvidia").join(package).join("lib");
    let wheels = packages.iter().map(wheel);
    std::iter::once(folder.to_owned()).chain(wheels).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told() {
        let candidates = vec![
            "libggrs-no-such.so.1".to_owned(),
            "/nowhere/libx.so".to_owned(),
        ];
        let error = open_first(candidates.clone()).unwrap_err();
        assert_eq!(error, NotLoaded::Absent { tried: candidates });
        assert!(files(Path::new("/nowhere"), "lib").is_empty());
    }

    #[test]
    fn a_file_that_is_no_library_is_told() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned();
        let error = open_first(vec![file.clone()]).unwrap_err();
        assert!(matches!(error, NotLoaded::Refused { file: f, .. } if f == file));
    }
}
