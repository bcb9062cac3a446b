//! Models split over several files: finding the other files and checking that all belong together.
//!
//! The convention is that of llama-gguf-split: files are named `X-00001-of-00003.gguf`, every file has the keys
//! `split.no` (from 0), `split.count` and `split.tensors.count` (of the whole model), and only the first has the rest
//! of the metadata. What one file contains is not checked here.

use std::collections::HashMap;
use std::iter;
use std::path::{Path, PathBuf};

use super::error::{GgufError, SplitError};
use super::file::Part;

/// What a file says about its place in a split model; parts are counted from 1.
struct Position {
    part: u32,
    count: u32,
}

impl Position {
    /// `None` for a model in one file.
    fn read(file: &Part) -> Result<Option<Self>, GgufError> {
        match file.metadata.get("split.count")? {
            None | Some(0..=1) => Ok(None),
            Some(count) => {
                let part: u32 = file.metadata.require("split.no")?;
                Ok(Some(Self {
                    part: part.saturating_add(1),
                    count,
                }))
            }
        }
    }
}

/// The end of a part's file name.
fn suffix(part: u32, count: u32) -> String {
    format!("-{part:05}-of-{count:05}.gguf")
}

/// Opens the other parts of a model, given its first; none for a model in one file.
pub(super) fn open_others(first: &Part) -> Result<Vec<Part>, GgufError> {
    let Some(place) = Position::read(first)? else {
        return Ok(Vec::new());
    };
    let split_error = |source| GgufError::Split {
        path: first.path.clone(),
        source,
    };
    let paths = part_paths(&first.path, &place).map_err(split_error)?;
    let mut others = Vec::new();
    for (part, path) in (2..).zip(paths) {
        others.push(open_part(&path, part, place.count).map_err(split_error)?);
    }
    check_distinct(first, &others).map_err(split_error)?;
    let found = others
        .iter()
        .fold(first.tensors.len(), |n, part| n + part.tensors.len()) as u64;
    match first.metadata.get("split.tensors.count")? {
        Some(expected) if expected != found => Err(split_error(SplitError::TensorCount {
            expected,
            count: place.count,
            found,
        })),
        _ => Ok(others),
    }
}

/// The names of the parts after the first.
fn part_paths(
    path: &Path,
    &Position { part, count }: &Position,
) -> Result<impl Iterator<Item = PathBuf>, SplitError> {
    let expected = suffix(part, count);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(&expected));
    let Some(name) = name.map(String::from) else {
        return Err(SplitError::FileName {
            part,
            count,
            suffix: expected,
        });
    };
    let named = move |part| path.with_file_name(format!("{name}{}", suffix(part, count)));
    if part != 1 {
        return Err(SplitError::NotFirst {
            part,
            count,
            first: named(1),
        });
    }
    Ok((2..=count).map(named))
}

fn open_part(path: &Path, expected: u32, count: u32) -> Result<Part, SplitError> {
    let unreadable = |source| SplitError::Part {
        part: expected,
        count,
        source: Box::new(source),
    };
    let part = Part::open(path).map_err(unreadable)?;
    let says = Position::read(&part)
        .map_err(unreadable)?
        .unwrap_or(Position { part: 1, count: 1 });
    if says.count != count {
        return Err(SplitError::PartCount {
            path: path.into(),
            expected: count,
            found: says.count,
        });
    }
    if says.part != expected {
        return Err(SplitError::PartNumber {
            path: path.into(),
            expected,
            found: says.part,
        });
    }
    Ok(part)
}

/// No tensor is in two files; that none is twice in one was checked when it was opened.
fn check_distinct(first: &Part, others: &[Part]) -> Result<(), SplitError> {
    let mut path_of = HashMap::new();
    for part in iter::once(first).chain(others) {
        for entry in &part.tensors {
            if let Some(earlier) = path_of.insert(entry.name(), &part.path) {
                let (first, second) = (earlier.clone(), part.path.clone());
                return Err(SplitError::DuplicateTensor {
                    tensor: entry.name().into(),
                    first,
                    second,
                });
            }
        }
    }
    Ok(())
}

/// A model given as bytes has no neighbours to look for.
pub(super) fn refuse_in_memory(first: &Part) -> Result<(), GgufError> {
    match Position::read(first)? {
        None => Ok(()),
        Some(Position { count, .. }) => Err(GgufError::Split {
            path: first.path.clone(),
            source: SplitError::InMemory { count },
        }),
    }
}
