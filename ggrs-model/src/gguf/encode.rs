//! Metadata values as bytes: the inverse of the cursor.
//!
//! Element types of arrays are fixed by Rust types, so an array of mixed types cannot be written.

use super::value::{Value, ValueType};

/// A value that can be stored under a key: numbers, `bool`, text, and slices, arrays and `Vec`s of these.
pub trait Encode {
    /// The type it is stored as.
    const TYPE: ValueType;

    /// Appends the value as it stands in a file.
    fn encode(&self, out: &mut Vec<u8>);
}

macro_rules! encode_numbers {
    ($($number:ty => $value_type:ident),*) => {$(
        impl Encode for $number {
            const TYPE: ValueType = ValueType::$value_type;

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

encode_numbers!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, u64 => U64, i64 => I64, f64 => F64);

impl Encode for bool {
    const TYPE: ValueType = ValueType::Bool;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Encode for str {
    const TYPE: ValueType = ValueType::String;

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Encode for String {
    const TYPE: ValueType = ValueType::String;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    const TYPE: ValueType = ValueType::Array;

    fn encode(&self, out: &mut Vec<u8>) {
        T::TYPE.id().encode(out);
        (self.len() as u64).encode(out);
        for element in self {
            element.encode(out);
        }
    }
}

impl<T: Encode, const N: usize> Encode for [T; N] {
    const TYPE: ValueType = ValueType::Array;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Encode> Encode for Vec<T> {
    const TYPE: ValueType = ValueType::Array;

    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    const TYPE: ValueType = T::TYPE;

    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

/// Appends a value read from another file.
pub(super) fn encode_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::U8(v) => v.encode(out),
        Value::I8(v) => v.encode(out),
        Value::U16(v) => v.encode(out),
        Value::I16(v) => v.encode(out),
        Value::U32(v) => v.encode(out),
        Value::I32(v) => v.encode(out),
        Value::F32(v) => v.encode(out),
        Value::Bool(v) => v.encode(out),
        Value::Str(v) => v.encode(out),
        Value::U64(v) => v.encode(out),
        Value::I64(v) => v.encode(out),
        Value::F64(v) => v.encode(out),
        Value::Array(array) => {
            array.element_type().id().encode(out);
            (array.len() as u64).encode(out);
            out.extend_from_slice(array.payload());
        }
    }
}
