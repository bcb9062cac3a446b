//! `ggrs inspect`: what a GGUF file contains, whether or not GGRS can run it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ggrs_model::gguf::{Array, GgmlType, GgufFile, TensorEntry, Value};
use serde_json::json;

use crate::console::Console;
use crate::error::CliError;
use crate::load::open_file;
use crate::units::{Bytes, Count};

/// Elements of an array that are shown.
const SHOWN_ELEMS: usize = 8;
/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 80;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file [default: the demo model that is part of the program]
    #[arg(value_name = "MODEL.gguf")]
    file: Option<PathBuf>,
    /// Show arrays and texts in full length
    #[arg(long)]
    full: bool,
    /// Print JSON; texts are whole there
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<(), CliError> {
    let file = open_file(args.file.as_deref())?;
    let limit = if args.full { usize::MAX } else { SHOWN_ELEMS };
    if args.json {
        return console.json(&file_json(&file, limit));
    }
    print_summary(&file, console)?;

    console.line(format_args!("\n{} metadata keys", file.metadata().len()))?;
    for (key, value) in file.metadata().iter() {
        let max_chars = if args.full { usize::MAX } else { SHOWN_CHARS };
        console.line(format_args!(
            "  {key} ({}) = {}",
            value.kind(),
            value_text(value, limit, max_chars)
        ))?;
    }

    let name_width = file.tensors().map(|t| t.name().len()).max().unwrap_or(0);
    console.line(format_args!(
        "\n{} tensors: dtype, shape (outermost axis first), offset, bytes",
        file.tensors().count()
    ))?;
    for tensor in file.tensors() {
        let bytes = tensor
            .n_bytes()
            .map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        console.line(format_args!(
            "  {:name_width$}  {:8} {:20} @ {:>12} {bytes:>12}",
            tensor.name(),
            type_name(tensor.ggml_type()),
            format!("{:?}", tensor.shape()),
            tensor.offset()
        ))?;
    }
    console.line("\nby dtype")?;
    for (name, sizes) in by_dtype(&file) {
        console.line(format_args!(
            "  {name:8} {:>5} tensors {:>12} elements {:>12}",
            sizes.n_tensors,
            Count(sizes.n_elems),
            sizes.bytes_text()
        ))?;
    }
    Ok(())
}

fn print_summary(file: &GgufFile, console: &mut Console) -> Result<(), CliError> {
    for path in file.paths() {
        console.line(path.display())?;
    }
    let n_elems = file
        .tensors()
        .map(|t| t.n_elems() as u64)
        .fold(0, u64::saturating_add);
    console.line(format_args!(
        "GGUF version {}, {} ({} bytes), {} parameters",
        file.version(),
        Bytes(file.file_bytes()),
        file.file_bytes(),
        Count(n_elems)
    ))
}

/// The type's name, or its number if it has none.
fn type_name(ggml_type: GgmlType) -> String {
    ggml_type
        .name()
        .map_or_else(|| format!("id {}", ggml_type.id()), str::to_owned)
}

/// What the tensors of one type amount to.
#[derive(Default, serde::Serialize)]
struct Sizes {
    n_tensors: usize,
    n_elems: u64,
    /// `None` if the size of the type is not known.
    bytes: Option<u64>,
}

impl Sizes {
    fn add(&mut self, tensor: &TensorEntry) {
        let before = if self.n_tensors == 0 {
            Some(0)
        } else {
            self.bytes
        };
        self.bytes = before
            .zip(tensor.n_bytes())
            .map(|(sum, n)| sum.saturating_add(n as u64));
        self.n_tensors += 1;
        self.n_elems = self.n_elems.saturating_add(tensor.n_elems() as u64);
    }

    fn bytes_text(&self) -> String {
        self.bytes.map_or_else(
            || "size unknown".to_owned(),
            |bytes| Bytes(bytes).to_string(),
        )
    }
}

fn by_dtype(file: &GgufFile) -> BTreeMap<String, Sizes> {
    let mut all = BTreeMap::<String, Sizes>::new();
    for tensor in file.tensors() {
        all.entry(type_name(tensor.ggml_type()))
            .or_default()
            .add(tensor);
    }
    all
}

fn file_json(file: &GgufFile, limit: usize) -> serde_json::Value {
    let paths: Vec<_> = file.paths().collect();
    let metadata = file
        .metadata()
        .iter()
        .map(|(key, value)| (key.to_owned(), value_json(value, limit)));
    let tensors = file.tensors().map(|t| {
        json!({
            "name": t.name(),
            "dtype": type_name(t.ggml_type()),
            "shape": t.shape(),
            "offset": t.offset(),
            "bytes": t.n_bytes(),
            "file": t.file_idx(),
        })
    });
    json!({
        "paths": paths,
        "version": file.version(),
        "bytes": file.file_bytes(),
        "metadata": metadata.collect::<serde_json::Map<_, _>>(),
        "tensors": tensors.collect::<Vec<_>>(),
        "by_dtype": by_dtype(file),
    })
}

/// A value as JSON. Arrays longer than `limit` become their length and first elements.
fn value_json(value: Value<'_>, limit: usize) -> serde_json::Value {
    if let Some(integer) = value.as_integer() {
        // Integers in files have at most 64 bits.
        return i64::try_from(integer)
            .map_or_else(|_| json!(integer as u64), |integer| json!(integer));
    }
    match value {
        // The shortest text that reads back, rather than the digits of its binary64.
        Value::F32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::Str(v) => json!(v),
        Value::Array(array) => {
            let elems: Vec<_> = array
                .iter()
                .take(limit)
                .map(|v| value_json(v, limit))
                .collect();
            if array.len() <= limit {
                json!(elems)
            } else {
                json!({ "len": array.len(), "first": elems })
            }
        }
        other => json!(other.as_float()),
    }
}

/// A value for people, on one line.
fn value_text(value: Value<'_>, max_elems: usize, max_chars: usize) -> String {
    match value {
        Value::Str(text) => quoted(text, max_chars),
        Value::Array(array) => array_text(&array, max_elems, max_chars),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        integer => integer.as_integer().unwrap_or_default().to_string(),
    }
}

fn array_text(array: &Array<'_>, max_elems: usize, max_chars: usize) -> String {
    let elems: Vec<String> = array
        .iter()
        .take(max_elems)
        .map(|v| value_text(v, max_elems, max_chars))
        .collect();
    let rest = if array.len() > max_elems { ", .." } else { "" };
    format!("[{}{rest}]", elems.join(", "))
}

fn quoted(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{:?}..", text.get(..end).unwrap_or(text)),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(quoted("äöü", 2), "\"äö\"..");
        assert_eq!(quoted("äöü", 3), "\"äöü\"");
    }
}
