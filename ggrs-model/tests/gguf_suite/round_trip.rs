//! What the writer writes, the reader reads: all value types, dtypes, shapes and alignments, generated.

use ggrs_core::DType;
use ggrs_model::gguf::writer::{Encode, GgufHeader, WriteError};
use ggrs_model::gguf::{GgufFile, Value};
use proptest::prelude::*;

/// A metadata value of any type.
#[derive(Clone, Debug)]
enum Any {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(String),
    Bytes(Vec<u8>),
    Shorts(Vec<i16>),
    Ints(Vec<i32>),
    Longs(Vec<u64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Bools(Vec<bool>),
    Strs(Vec<String>),
    NestedInts(Vec<Vec<i32>>),
    NestedStrs(Vec<Vec<Vec<String>>>),
}

fn any_value() -> impl Strategy<Value = Any> {
    let text = || "\\PC{0,12}";
    let many = || 0..20usize;
    prop_oneof![
        any::<u8>().prop_map(Any::U8),
        any::<i8>().prop_map(Any::I8),
        any::<u16>().prop_map(Any::U16),
        any::<i16>().prop_map(Any::I16),
        any::<u32>().prop_map(Any::U32),
        any::<i32>().prop_map(Any::I32),
        any::<u64>().prop_map(Any::U64),
        any::<i64>().prop_map(Any::I64),
        any::<f32>().prop_map(Any::F32),
        any::<f64>().prop_map(Any::F64),
        any::<bool>().prop_map(Any::Bool),
        text().prop_map(Any::Str),
        prop::collection::vec(any::<u8>(), many()).prop_map(Any::Bytes),
        prop::collection::vec(any::<i16>(), many()).prop_map(Any::Shorts),
        prop::collection::vec(any::<i32>(), many()).prop_map(Any::Ints),
        prop::collection::vec(any::<u64>(), many()).prop_map(Any::Longs),
        prop::collection::vec(any::<f32>(), many()).prop_map(Any::Floats),
        prop::collection::vec(any::<f64>(), many()).prop_map(Any::Doubles),
        prop::collection::vec(any::<bool>(), many()).prop_map(Any::Bools),
        prop::collection::vec(text(), many()).prop_map(Any::Strs),
        prop::collection::vec(prop::collection::vec(any::<i32>(), 0..4), 0..4)
            .prop_map(Any::NestedInts),
        prop::collection::vec(
            prop::collection::vec(prop::collection::vec(text(), 0..3), 0..3),
            0..3
        )
        .prop_map(Any::NestedStrs),
    ]
}

impl Any {
    fn set(&self, key: &str, header: &mut GgufHeader) -> Result<(), WriteError> {
        fn set<T: Encode>(header: &mut GgufHeader, key: &str, value: T) -> Result<(), WriteError> {
            header.set(key, value)
        }
        match self {
            Self::U8(v) => set(header, key, v),
            Self::I8(v) => set(header, key, v),
            Self::U16(v) => set(header, key, v),
            Self::I16(v) => set(header, key, v),
            Self::U32(v) => set(header, key, v),
            Self::I32(v) => set(header, key, v),
            Self::U64(v) => set(header, key, v),
            Self::I64(v) => set(header, key, v),
            Self::F32(v) => set(header, key, v),
            Self::F64(v) => set(header, key, v),
            Self::Bool(v) => set(header, key, v),
            Self::Str(v) => set(header, key, v),
            Self::Bytes(v) => set(header, key, v),
            Self::Shorts(v) => set(header, key, v),
            Self::Ints(v) => set(header, key, v),
            Self::Longs(v) => set(header, key, v),
            Self::Floats(v) => set(header, key, v),
            Self::Doubles(v) => set(header, key, v),
            Self::Bools(v) => set(header, key, v),
            Self::Strs(v) => set(header, key, v),
            Self::NestedInts(v) => set(header, key, v),
            Self::NestedStrs(v) => set(header, key, v),
        }
    }

    /// Is this what was read? Floats are compared by their bits.
    fn is(&self, value: Value<'_>) -> bool {
        fn all<'a, T>(
            value: Value<'a>,
            expected: &[T],
            is: impl Fn(&T, Value<'a>) -> bool,
        ) -> bool {
            let array = value.as_array().unwrap();
            array.len() == expected.len()
                && expected.iter().zip(array.iter()).all(|(e, v)| is(e, v))
        }
        match self {
            Self::U8(v) => value == Value::U8(*v),
            Self::I8(v) => value == Value::I8(*v),
            Self::U16(v) => value == Value::U16(*v),
            Self::I16(v) => value == Value::I16(*v),
            Self::U32(v) => value == Value::U32(*v),
            Self::I32(v) => value == Value::I32(*v),
            Self::U64(v) => value == Value::U64(*v),
            Self::I64(v) => value == Value::I64(*v),
            Self::F32(v) => matches!(value, Value::F32(x) if x.to_bits() == v.to_bits()),
            Self::F64(v) => matches!(value, Value::F64(x) if x.to_bits() == v.to_bits()),
            Self::Bool(v) => value == Value::Bool(*v),
            Self::Str(v) => value == Value::Str(v),
            Self::Bytes(v) => all(value, v, |e, v| v == Value::U8(*e)),
            Self::Shorts(v) => all(value, v, |e, v| v == Value::I16(*e)),
            Self::Ints(v) => all(value, v, |e, v| v == Value::I32(*e)),
            Self::Longs(v) => all(value, v, |e, v| v == Value::U64(*e)),
            Self::Floats(v) => all(value, v, |e, v| Self::F32(*e).is(v)),
            Self::Doubles(v) => all(value, v, |e, v| Self::F64(*e).is(v)),
            Self::Bools(v) => all(value, v, |e, v| v == Value::Bool(*e)),
            Self::Strs(v) => all(value, v, |e, v| v == Value::Str(e)),
            Self::NestedInts(v) => all(value, v, |e, v| Self::Ints(e.clone()).is(v)),
            Self::NestedStrs(v) => all(value, v, |e, v| {
                all(v, e, |e, v| Self::Strs(e.clone()).is(v))
            }),
        }
    }
}

/// A tensor that fits in a file: dtype, shape with whole blocks, and a byte to fill it with.
fn any_tensor() -> impl Strategy<Value = (DType, Vec<usize>, u8)> {
    let outer = prop::collection::vec(0usize..4, 0..4);
    (
        prop::sample::select(&DType::ALL[..]),
        outer,
        0usize..3,
        any::<u8>(),
    )
        .prop_map(|(dtype, mut shape, row_blocks, byte)| {
            shape.push(row_blocks * dtype.block_elems());
            (dtype, shape, byte)
        })
}

fn n_bytes(dtype: DType, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() / dtype.block_elems() * dtype.block_bytes()
}

proptest! {
    #[test]
    fn all_values_and_tensors_come_back(
        values in prop::collection::vec(any_value(), 0..12),
        tensors in prop::collection::vec(any_tensor(), 0..6),
        alignment in prop::sample::select(vec![None, Some(1u32), Some(8), Some(32), Some(4096)]),
    ) {
        let mut header = match alignment {
            None => GgufHeader::new(),
            Some(alignment) => GgufHeader::with_alignment(alignment).unwrap(),
        };
        for (i, value) in values.iter().enumerate() {
            value.set(&format!("key.{i}"), &mut header).unwrap();
        }
        for (i, (dtype, shape, _)) in tensors.iter().enumerate() {
            let declared = header.tensor(&format!("tensor.{i}"), *dtype, shape).unwrap();
            prop_assert_eq!(declared, n_bytes(*dtype, shape) as u64);
        }
        let file_bytes = header.file_bytes();
        let mut writer = header.write_to(Vec::new()).unwrap();
        for (dtype, shape, byte) in &tensors {
            // In two pieces, to show that pieces may be of any size.
            let data = vec![*byte; n_bytes(*dtype, shape)];
            let (head, tail) = data.split_at(data.len() / 3);
            writer.write(head).unwrap();
            writer.write(tail).unwrap();
        }
        let bytes = writer.finish().unwrap();
        prop_assert_eq!(bytes.len() as u64, file_bytes);

        let file = GgufFile::from_bytes("written.gguf", bytes).unwrap();
        prop_assert_eq!(file.metadata().len(), values.len() + usize::from(alignment.is_some()));
        for (i, value) in values.iter().enumerate() {
            let read = file.metadata().value(&format!("key.{i}")).unwrap();
            prop_assert!(value.is(read), "{value:?} came back as {read:?}");
        }
        prop_assert_eq!(file.tensors().count(), tensors.len());
        for (i, (dtype, shape, byte)) in tensors.iter().enumerate() {
            let tensor = file.tensor(&format!("tensor.{i}")).unwrap();
            prop_assert_eq!((tensor.dtype, tensor.shape), (*dtype, &shape[..]));
            prop_assert_eq!(tensor.bytes.len(), n_bytes(*dtype, shape));
            prop_assert!(tensor.bytes.iter().all(|b| b == byte));
        }

        // Copied values are the same bytes again.
        let copy = |file: &GgufFile| {
            let mut header = GgufHeader::new();
            for (key, value) in file.metadata().iter().filter(|(key, _)| *key != "general.alignment") {
                header.copy(key, value).unwrap();
            }
            header.write_to(Vec::new()).unwrap().finish().unwrap()
        };
        let once = copy(&file);
        prop_assert_eq!(copy(&GgufFile::from_bytes("copied.gguf", once.clone()).unwrap()), once);
    }
}
