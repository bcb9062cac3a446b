//! One pass over a file's header that checks everything in it and keeps where things are.
//!
//! After `parse` succeeds every offset in its result lies within the bytes. Split models and the meaning of keys are
//! not known here.

use std::collections::HashMap;
use std::ops::Range;

use super::cursor::{Cursor, Fault};
use super::error::{FormatError, Place};
use super::ggml_type::GgmlType;
use super::tensor::TensorEntry;
use super::value::{Value, ValueType};

/// The key that says how tensor data is aligned.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment of files that don't say.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// Axes of a tensor (`GGML_MAX_DIMS`).
pub(super) const MAX_AXES: u32 = 4;

/// Bytes of the shortest key: name length, type, one byte of value.
const MIN_KEY_BYTES: usize = 8 + 4 + 1;
/// Bytes of the shortest tensor description: name length, axes, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;

/// What a file's header says.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) keys: Vec<KeyEntry>,
    pub(super) tensors: Vec<TensorEntry>,
}

/// A key, and where its value is.
#[derive(Debug)]
pub(super) struct KeyEntry {
    pub(super) name: String,
    pub(super) value_type: ValueType,
    pub(super) value: Range<usize>,
}

/// Checks a file's header and all that it points to.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(bytes);
    let version = parse_version(&mut cursor, bytes)?;
    let n_tensors = cursor.count(MIN_TENSOR_BYTES, "tensors")?;
    let n_keys = cursor.count(MIN_KEY_BYTES, "metadata keys")?;
    let (keys, alignment) = parse_keys(&mut cursor, n_keys)?;
    let infos = parse_tensor_infos(&mut cursor, n_tensors)?;
    let tensors = place_tensors(infos, cursor.offset(), alignment, bytes.len())?;
    Ok(Header {
        version,
        keys,
        tensors,
    })
}

fn fault(offset: usize, error: FormatError) -> Fault {
    Fault { offset, error }
}

fn parse_version(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, Fault> {
    if bytes.is_empty() {
        return Err(fault(0, FormatError::Empty));
    }
    let magic = cursor.take(4)?;
    if let Ok(found) = <[u8; 4]>::try_from(magic)
        && &found != b"GGUF"
    {
        return Err(fault(0, FormatError::NotGguf { found }));
    }
    let offset = cursor.offset();
    match cursor.u32()? {
        version @ 2..=3 => Ok(version),
        // A version below 65536 written for a big-endian machine.
        found if found != 0 && found & 0xffff == 0 => Err(fault(
            offset,
            FormatError::BigEndian {
                version: found.swap_bytes(),
            },
        )),
        found => Err(fault(offset, FormatError::UnsupportedVersion { found })),
    }
}

/// The keys, and the alignment that they set.
fn parse_keys(cursor: &mut Cursor<'_>, n_keys: usize) -> Result<(Vec<KeyEntry>, u32), Fault> {
    // Grown as keys are read: a count alone must not make us allocate.
    let mut keys = Vec::new();
    let mut first_offset = HashMap::new();
    let mut alignment = DEFAULT_ALIGNMENT;
    for key_idx in 0..n_keys {
        let key_offset = cursor.offset();
        cursor.enter(Place::KeyName(key_idx));
        let name = cursor.string()?;
        if let Some(first) = first_offset.insert(name, key_offset) {
            return Err(fault(
                key_offset,
                FormatError::DuplicateKey {
                    key: name.into(),
                    first: first as u64,
                },
            ));
        }
        cursor.enter(Place::Value(name.into()));
        let value_type = cursor.value_type()?;
        let begin = cursor.offset();
        let value = cursor.value(value_type)?;
        if name == ALIGNMENT_KEY {
            alignment = check_alignment(value).map_err(|error| fault(begin, error))?;
        }
        keys.push(KeyEntry {
            name: name.into(),
            value_type,
            value: begin..cursor.offset(),
        });
    }
    Ok((keys, alignment))
}

fn check_alignment(value: Value<'_>) -> Result<u32, FormatError> {
    match value {
        Value::U32(found) if found.is_power_of_two() => Ok(found),
        Value::U32(found) => Err(FormatError::AlignmentValue { found }),
        other => Err(FormatError::AlignmentType {
            found: other.kind(),
        }),
    }
}

/// A tensor's description, and where in the file it stands.
struct TensorInfo {
    info_offset: usize,
    name: String,
    ggml_type: GgmlType,
    shape: Vec<usize>,
    n_bytes: Option<usize>,
    data_offset: u64,
}

fn parse_tensor_infos(cursor: &mut Cursor<'_>, n_tensors: usize) -> Result<Vec<TensorInfo>, Fault> {
    let mut infos = Vec::new();
    let mut first_offset = HashMap::new();
    for tensor_idx in 0..n_tensors {
        let info_offset = cursor.offset();
        cursor.enter(Place::TensorName(tensor_idx));
        let name = cursor.string()?;
        if let Some(first) = first_offset.insert(name, info_offset) {
            let error = FormatError::DuplicateTensor {
                tensor: name.into(),
                first: first as u64,
            };
            return Err(fault(info_offset, error));
        }
        infos.push(parse_tensor_info(cursor, info_offset, name)?);
    }
    Ok(infos)
}

fn parse_tensor_info(
    cursor: &mut Cursor<'_>,
    info_offset: usize,
    name: &str,
) -> Result<TensorInfo, Fault> {
    cursor.enter(Place::TensorInfo(name.into()));
    let axes_offset = cursor.offset();
    let found = cursor.u32()?;
    if found > MAX_AXES {
        let error = FormatError::TooManyAxes {
            tensor: name.into(),
            found,
            max: MAX_AXES,
        };
        return Err(fault(axes_offset, error));
    }
    let shape_offset = cursor.offset();
    let mut shape = Vec::with_capacity(MAX_AXES as usize);
    for _ in 0..found {
        shape.push(cursor.u64()?);
    }
    shape.reverse();
    let ggml_type = GgmlType::from_id(cursor.u32()?);
    let data_offset = cursor.u64()?;

    let (shape, n_bytes) =
        measure(name, shape, ggml_type).map_err(|error| fault(shape_offset, error))?;
    Ok(TensorInfo {
        info_offset,
        name: name.into(),
        ggml_type,
        shape,
        n_bytes,
        data_offset,
    })
}

/// The shape in the machine's own integers, and the tensor's bytes if its type has a known size.
fn measure(
    tensor: &str,
    shape: Vec<u64>,
    ggml_type: GgmlType,
) -> Result<(Vec<usize>, Option<usize>), FormatError> {
    let block = ggml_type.block();
    let row_elems = shape.last().copied().unwrap_or(1);
    if let Some((block_elems, _)) = block
        && !row_elems.is_multiple_of(block_elems as u64)
    {
        return Err(FormatError::PartialBlock {
            tensor: tensor.into(),
            ggml_type,
            row_elems,
            block_elems,
        });
    }
    // Axes of zero count as one here, so that a huge axis beside a zero cannot pass.
    let sizes = || {
        let axes = shape
            .iter()
            .map(|len| usize::try_from(*len).ok())
            .collect::<Option<Vec<_>>>()?;
        let elems_bound = axes
            .iter()
            .try_fold(1usize, |n, len| n.checked_mul((*len).max(1)))?;
        let n_elems: usize = axes.iter().product();
        let n_bytes = match block {
            Some((block_elems, block_bytes)) => {
                (elems_bound / block_elems).checked_mul(block_bytes)?;
                Some(n_elems / block_elems * block_bytes)
            }
            None => None,
        };
        Some((axes, n_bytes))
    };
    match sizes() {
        Some(measured) => Ok(measured),
        None => Err(FormatError::ShapeOverflow {
            tensor: tensor.into(),
            shape,
        }),
    }
}

/// Finds each tensor's data in the file: aligned, inside, and apart from all others.
fn place_tensors(
    infos: Vec<TensorInfo>,
    infos_end: usize,
    alignment: u32,
    file_bytes: usize,
) -> Result<Vec<TensorEntry>, Fault> {
    let data_begin = (infos_end as u64).checked_next_multiple_of(alignment.into());
    let mut tensors = Vec::with_capacity(infos.len());
    let mut spans = Vec::with_capacity(infos.len());
    for TensorInfo {
        info_offset,
        name,
        ggml_type,
        shape,
        n_bytes,
        data_offset,
    } in infos
    {
        if !data_offset.is_multiple_of(alignment.into()) {
            let error = FormatError::Misaligned {
                tensor: name,
                data_offset,
                alignment,
            };
            return Err(fault(info_offset, error));
        }
        let begin = data_begin.and_then(|base| base.checked_add(data_offset));
        let end = begin.and_then(|begin| begin.checked_add(n_bytes.unwrap_or(0) as u64));
        let inside = |at: Option<u64>| {
            at.and_then(|at| usize::try_from(at).ok())
                .filter(|at| *at <= file_bytes)
        };
        let (Some(offset), Some(end)) = (inside(begin), inside(end)) else {
            let end = end.unwrap_or(u64::MAX);
            let error = FormatError::OutsideFile {
                tensor: name,
                end,
                file_bytes: file_bytes as u64,
            };
            return Err(fault(info_offset, error));
        };
        spans.push(Span {
            begin: offset,
            end,
            tensor_idx: tensors.len(),
            info_offset,
        });
        tensors.push(TensorEntry {
            name,
            ggml_type,
            shape,
            offset,
            n_bytes,
            file_idx: 0,
        });
    }
    check_overlap(spans, &tensors)?;
    Ok(tensors)
}

/// Where a tensor's data is.
struct Span {
    begin: usize,
    end: usize,
    tensor_idx: usize,
    info_offset: usize,
}

fn check_overlap(mut spans: Vec<Span>, tensors: &[TensorEntry]) -> Result<(), Fault> {
    spans.retain(|span| span.begin < span.end);
    spans.sort_by_key(|span| (span.begin, span.tensor_idx));
    for (first, second) in spans.iter().zip(spans.iter().skip(1)) {
        if second.begin < first.end {
            let name = |span: &Span| {
                tensors
                    .get(span.tensor_idx)
                    .map(|t| t.name.clone())
                    .unwrap_or_default()
            };
            let error = FormatError::Overlap {
                tensor: name(second),
                other: name(first),
                other_end: first.end as u64,
            };
            return Err(fault(second.info_offset, error));
        }
    }
    Ok(())
}
