//! Reading a file's bytes in order, each read checked against what is left.
//!
//! The cursor knows the encoding of numbers, strings and metadata values. It does not know what comes in which order.

use super::error::{FormatError, Place};
use super::value::{Array, Value, ValueType};

/// Arrays nest at most this deep; no known file nests them at all, and recursion must end.
const MAX_ARRAY_DEPTH: usize = 8;

/// Something wrong with the bytes, and the offset where it begins.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) offset: usize,
    pub(super) error: FormatError,
}

/// A position in a file's bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
    place: Place,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            offset: 0,
            place: Place::Header,
        }
    }

    /// Says what is read from here on; errors repeat it.
    pub(super) fn enter(&mut self, place: Place) {
        self.place = place;
    }

    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes between here and the end.
    pub(super) const fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    fn fault(&self, offset: usize, error: impl FnOnce(Place) -> FormatError) -> Fault {
        Fault {
            offset,
            error: error(self.place.clone()),
        }
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let taken = usize::try_from(n).ok().and_then(|n| {
            let end = self.offset.checked_add(n)?;
            Some((self.bytes.get(self.offset..end)?, end))
        });
        let Some((bytes, end)) = taken else {
            let left = self.left() as u64;
            return Err(self.fault(self.offset, |place| FormatError::Truncated {
                place,
                needed: n,
                left,
            }));
        };
        self.offset = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `min_bytes` each, refused if the rest of the file cannot hold them.
    pub(super) fn count(&mut self, min_bytes: usize, what: &'static str) -> Result<usize, Fault> {
        let offset = self.offset;
        let count = self.u64()?;
        let max = self.left() / min_bytes;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= max)
            .ok_or_else(|| {
                let max = max as u64;
                self.fault(offset, |place| FormatError::CountTooLarge {
                    place,
                    what,
                    count,
                    max,
                })
            })
    }

    /// A string: `u64` length, then UTF-8.
    pub(super) fn string(&mut self) -> Result<&'a str, Fault> {
        let len = self.u64()?;
        let offset = self.offset;
        let bytes = self.take(len)?;
        str::from_utf8(bytes).map_err(|utf8| {
            let bad = offset.saturating_add(utf8.valid_up_to());
            self.fault(bad, |place| FormatError::NotUtf8 { place })
        })
    }

    /// The number of a value type.
    pub(super) fn value_type(&mut self) -> Result<ValueType, Fault> {
        let offset = self.offset;
        let found = self.u32()?;
        ValueType::from_id(found).ok_or_else(|| {
            self.fault(offset, |place| FormatError::UnknownValueType {
                place,
                found,
            })
        })
    }

    /// A value of the given type.
    pub(super) fn value(&mut self, value_type: ValueType) -> Result<Value<'a>, Fault> {
        self.value_at_depth(value_type, 0)
    }

    fn value_at_depth(&mut self, value_type: ValueType, depth: usize) -> Result<Value<'a>, Fault> {
        Ok(match value_type {
            ValueType::U8 => Value::U8(self.array().map(u8::from_le_bytes)?),
            ValueType::I8 => Value::I8(self.array().map(i8::from_le_bytes)?),
            ValueType::U16 => Value::U16(self.array().map(u16::from_le_bytes)?),
            ValueType::I16 => Value::I16(self.array().map(i16::from_le_bytes)?),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(self.array().map(i32::from_le_bytes)?),
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(self.array().map(i64::from_le_bytes)?),
            ValueType::F32 => Value::F32(self.array().map(f32::from_le_bytes)?),
            ValueType::F64 => Value::F64(self.array().map(f64::from_le_bytes)?),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::String => Value::Str(self.string()?),
            ValueType::Array => Value::Array(self.value_array(depth)?),
        })
    }

    fn bool(&mut self) -> Result<bool, Fault> {
        let offset = self.offset;
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(self.fault(offset, |place| FormatError::BadBool { place, found })),
        }
    }

    /// An array: element type, `u64` count, elements. Each element is checked; none is kept.
    fn value_array(&mut self, depth: usize) -> Result<Array<'a>, Fault> {
        if depth >= MAX_ARRAY_DEPTH {
            return Err(self.fault(self.offset, |place| FormatError::NestedTooDeep {
                place,
                max: MAX_ARRAY_DEPTH,
            }));
        }
        let element_type = self.value_type()?;
        let len = self.count(element_type.min_bytes(), "array elements")?;
        let payload = self.bytes.get(self.offset..).unwrap_or_default();
        let start = self.offset;
        match element_type {
            ValueType::String | ValueType::Bool | ValueType::Array => {
                for _ in 0..len {
                    self.value_at_depth(element_type, depth + 1)?;
                }
            }
            // Every bit pattern is a number, and `count` has checked that they fit.
            _ => {
                self.take(len.saturating_mul(element_type.min_bytes()) as u64)?;
            }
        }
        let payload = payload
            .get(..self.offset.saturating_sub(start))
            .unwrap_or_default();
        Ok(Array::new(element_type, len, payload))
    }
}
