//! A file's keys: looked up by name, converted to the type that the caller asks for, with errors that say which key.
//!
//! Which keys a model needs is the business of the model loaders.

use std::path::PathBuf;

use super::cursor::Cursor;
use super::error::{GgufError, MetadataError};
use super::file_bytes::FileBytes;
use super::parse::KeyEntry;
use super::value::{Array, Value, ValueType};

/// The metadata of a GGUF file. Values are read from the file when they are asked for.
///
/// ```no_run
/// # fn f(file: &ggrs_model::gguf::GgufFile) -> Result<(), ggrs_model::gguf::GgufError> {
/// let n_layers: u32 = file.metadata().require("qwen3moe.block_count")?;
/// let n_experts: Option<u32> = file.metadata().get("qwen3moe.expert_count")?;
/// let tokens: Vec<&str> = file.metadata().require("tokenizer.ggml.tokens")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    bytes: FileBytes,
    keys: Vec<KeyEntry>,
}

impl Metadata {
    pub(super) const fn new(path: PathBuf, bytes: FileBytes, keys: Vec<KeyEntry>) -> Self {
        Self { path, bytes, keys }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Does the file have no keys at all?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Every key with its value, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.keys
            .iter()
            .filter_map(|entry| Some((entry.name.as_str(), self.decode(entry)?)))
    }

    /// The value of a key as it stands in the file, or `None` if the key is absent.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.keys
            .iter()
            .find(|entry| entry.name == key)
            .and_then(|entry| self.decode(entry))
    }

    /// Reads a value again from bytes that were checked when the file was opened.
    fn decode(&self, entry: &KeyEntry) -> Option<Value<'_>> {
        Cursor::new(self.bytes.get(entry.value.clone())?)
            .value(entry.value_type)
            .ok()
    }

    /// The value of a key as a `T`, or `None` if the key is absent. Integers of any width convert if they fit, and so
    /// do both widths of floating-point numbers.
    ///
    /// # Errors
    /// [`MetadataError::WrongType`] or [`MetadataError::OutOfRange`] if the value is not a `T`.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        self.value(key)
            .map(|value| T::from_value(key, value))
            .transpose()
            .map_err(|source| self.error(source))
    }

    /// The value of a key that the caller cannot do without.
    ///
    /// # Errors
    /// [`MetadataError::Missing`] if the key is absent, and those of [`get`](Self::get).
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.get(key)?.ok_or_else(|| {
            self.error(MetadataError::Missing {
                key: key.into(),
                expected: T::expected(),
            })
        })
    }

    /// A key that holds one value for all layers, or an array with one for each: always one for each.
    ///
    /// # Errors
    /// [`MetadataError::WrongLength`] if it is an array of another length, and those of [`require`](Self::require).
    pub fn require_per_layer<'a, T: FromValue<'a> + Clone>(
        &'a self,
        key: &str,
        n_layers: usize,
    ) -> Result<Vec<T>, GgufError> {
        if !matches!(self.value(key), Some(Value::Array(_))) {
            return Ok(vec![self.require(key)?; n_layers]);
        }
        let values: Vec<T> = self.require(key)?;
        if values.len() != n_layers {
            let (key, found) = (key.into(), values.len());
            return Err(self.error(MetadataError::WrongLength {
                key,
                expected: n_layers,
                found,
            }));
        }
        Ok(values)
    }

    fn error(&self, source: MetadataError) -> GgufError {
        GgufError::Metadata {
            path: self.path.clone(),
            source,
        }
    }
}

/// A Rust type that metadata values convert to: numbers, `bool`, `&str`, `String`, [`Array`], [`Value`], and `Vec`s
/// of these.
pub trait FromValue<'a>: Sized {
    /// What error messages call this type.
    fn expected() -> String;

    /// Converts a value; `key` is what errors name.
    ///
    /// # Errors
    /// [`MetadataError::WrongType`] or [`MetadataError::OutOfRange`].
    fn from_value(key: &str, value: Value<'a>) -> Result<Self, MetadataError>;
}

fn wrong_type<'a, T: FromValue<'a>>(key: &str, value: Value<'a>) -> MetadataError {
    MetadataError::WrongType {
        key: key.into(),
        expected: T::expected(),
        found: value.kind(),
    }
}

/// Integers: any width converts if the value fits.
macro_rules! from_integer {
    ($($integer:ty => $value_type:ident),*) => {$(
        impl<'a> FromValue<'a> for $integer {
            fn expected() -> String {
                ValueType::$value_type.name().into()
            }

            fn from_value(key: &str, value: Value<'a>) -> Result<Self, MetadataError> {
                let integer = value.as_integer().ok_or_else(|| wrong_type::<Self>(key, value))?;
                let expected = ValueType::$value_type;
                Self::try_from(integer)
                    .map_err(|_| MetadataError::OutOfRange { key: key.into(), value: integer, expected })
            }
        }
    )*};
}

from_integer!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, usize => U64);

/// Types for which a value either is one or is not.
macro_rules! from_matching {
    ($lifetime:lifetime: $($rust:ty, $expected:expr, $value:ident => $converted:expr);* $(;)?) => {$(
        impl<$lifetime> FromValue<$lifetime> for $rust {
            fn expected() -> String {
                $expected.into()
            }

            fn from_value(key: &str, $value: Value<$lifetime>) -> Result<Self, MetadataError> {
                $converted.ok_or_else(|| wrong_type::<Self>(key, $value))
            }
        }
    )*};
}

from_matching! { 'a:
    f32, "f32", value => value.as_float().map(|v| v as f32);
    f64, "f64", value => value.as_float();
    bool, "bool", value => value.as_bool();
    &'a str, "string", value => value.as_str();
    String, "string", value => value.as_str().map(Into::into);
    Array<'a>, "array", value => value.as_array();
    Value<'a>, "any value", value => Some(value);
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn expected() -> String {
        format!("array of {}", T::expected())
    }

    fn from_value(key: &str, value: Value<'a>) -> Result<Self, MetadataError> {
        let array = value
            .as_array()
            .ok_or_else(|| wrong_type::<Self>(key, value))?;
        let mut out = Self::with_capacity(array.len());
        for element in array.iter() {
            out.push(T::from_value(key, element).map_err(|e| match e {
                // An element of the wrong type: all are, so the array is what was found.
                MetadataError::WrongType { .. } => wrong_type::<Self>(key, value),
                other => other,
            })?);
        }
        Ok(out)
    }
}
