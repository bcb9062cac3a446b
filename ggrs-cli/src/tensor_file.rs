//! F32 matrices as `.npy` or `.safetensors` files, written row by row. What the numbers mean is not known here.
//!
//! Formats: NumPy's "NPY format" version 1.0 (magic, u16 header length, a Python dict padded so that the data begins at
//! a multiple of 64); safetensors (u64 header length, JSON with dtype, shape and offsets of each tensor, data).

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::CliError;

/// Where the data begins, as NumPy and safetensors pad it.
const ALIGNMENT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Npy,
    Safetensors,
}

/// A file whose name says in which format it is written.
#[derive(Clone, Debug)]
pub(crate) struct TensorPath {
    path: PathBuf,
    format: Format,
}

/// A name that says no format.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the file's name must end in .npy or .safetensors")]
pub(crate) struct UnknownFormat;

impl std::str::FromStr for TensorPath {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let path = PathBuf::from(text);
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => Format::Npy,
            Some("safetensors") => Format::Safetensors,
            _ => return Err(UnknownFormat),
        };
        Ok(Self { path, format })
    }
}

impl TensorPath {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a matrix `[n_rows, n_columns]` named `name` whose rows `fill` hands over in order. The file appears only
    /// once it is whole; what was there before stays until then.
    pub(crate) fn write(
        &self,
        name: &str,
        [n_rows, n_columns]: [usize; 2],
        fill: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<(), CliError>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut partial = self.path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |source| CliError::Write {
            path: self.path.clone(),
            source,
        };
        let header = match self.format {
            Format::Npy => npy_header(n_rows, n_columns),
            Format::Safetensors => safetensors_header(name, n_rows, n_columns),
        };
        let whole = || {
            let mut file = BufWriter::new(File::create(&partial).map_err(failed)?);
            file.write_all(&header).map_err(failed)?;
            fill(&mut |rows| write_numbers(&mut file, rows).map_err(failed))?;
            file.flush().map_err(failed)?;
            fs::rename(&partial, &self.path).map_err(failed)
        };
        let written = whole();
        if written.is_err() {
            // The first error is the one to report; a file left behind is harmless.
            let _ = fs::remove_file(&partial);
        }
        written
    }
}

fn write_numbers(sink: &mut impl Write, numbers: &[f32]) -> io::Result<()> {
    for number in numbers {
        sink.write_all(&number.to_le_bytes())?;
    }
    Ok(())
}

fn npy_header(n_rows: usize, n_columns: usize) -> Vec<u8> {
    let mut dict =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {n_columns}), }}");
    const PREFIX_BYTES: usize = 10;
    // One more for the newline that ends the header.
    let unpadded = PREFIX_BYTES + dict.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    dict.extend(std::iter::repeat_n(' ', padding));
    dict.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    // Two numbers never make a header of 64 KiB.
    out.extend_from_slice(&u16::try_from(dict.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(dict.as_bytes());
    out
}

fn safetensors_header(name: &str, n_rows: usize, n_columns: usize) -> Vec<u8> {
    let n_bytes = n_rows
        .saturating_mul(n_columns)
        .saturating_mul(size_of::<f32>());
    let tensor =
        json!({"dtype": "F32", "shape": [n_rows, n_columns], "data_offsets": [0, n_bytes]});
    let mut text = json!({ name: tensor }).to_string();
    let padding = text.len().next_multiple_of(ALIGNMENT) - text.len();
    text.extend(std::iter::repeat_n(' ', padding));
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}
