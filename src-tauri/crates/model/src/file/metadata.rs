//! The key-value part of a GGUF file as plain data, with getters that say what is wrong.

use std::collections::BTreeMap;

use crate::error::Cause;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is named by its type")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    /// A string whose bytes are no valid UTF-8; whoever needs it is told so.
    NotText,
    U64(u64),
    I64(i64),
    F64(f64),
    Array(Array),
}

/// A metadata array; GGUF arrays have one element type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is named by its element type")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Str(Strings),
    /// Strings of which the one with this index is no valid UTF-8.
    NotText(usize),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one piece of memory: a vocabulary has hundreds of thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    ends: Vec<u32>,
}

/// A key that is missing or holds something else than it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// No such key.
    #[error("metadata key `{key}` is missing")]
    Missing {
        /// The key asked for.
        key: String,
    },
    /// The key holds another type.
    #[error("metadata key `{key}` is {got} where {want} is needed")]
    WrongType {
        /// The key asked for.
        key: String,
        /// The type it should have.
        want: &'static str,
        /// The type it has.
        got: &'static str,
    },
    /// The number is out of the range that the asked-for type has.
    #[error("metadata key `{key}` is out of range: {value}")]
    OutOfRange {
        /// The key asked for.
        key: String,
        /// The value found.
        value: String,
    },
}

/// All keys and values of a GGUF file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// The raw value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Keys and values in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Add a key; `false` when it is there already, which leaves the old value.
    pub(crate) fn insert(&mut self, key: String, value: Value) -> bool {
        if self.values.contains_key(&key) {
            return false;
        }
        self.values.insert(key, value);
        true
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// Missing, or no string.
    pub fn str(&self, key: &str) -> Result<&str, MetadataError> {
        required(key, self.find_str(key)?)
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// No string.
    pub fn find_str(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.find(key, "a string", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that must be there and fit a `usize`.
    ///
    /// # Errors
    /// Missing, no integer, negative or too large.
    pub fn usize(&self, key: &str) -> Result<usize, MetadataError> {
        required(key, self.find_usize(key)?)
    }

    /// An integer of any width that must fit a `usize`, if the key is there.
    ///
    /// # Errors
    /// No integer, negative or too large.
    pub fn find_usize(&self, key: &str) -> Result<Option<usize>, MetadataError> {
        let wide = self.find(key, "an integer", Value::integer)?;
        wide.map(|v| usize::try_from(v).map_err(|_| out_of_range(key, v))).transpose()
    }

    /// A whole number of any width and sign, as some writers also store it as a float, if the key is there.
    ///
    /// # Errors
    /// No whole number, or too large.
    pub fn find_i64(&self, key: &str) -> Result<Option<i64>, MetadataError> {
        let wide = self.find(key, "an integer", |value| match *value {
            Value::F32(v) if v.fract() == 0.0 => Some(v as i128),
            Value::F64(v) if v.fract() == 0.0 => Some(v as i128),
            _ => value.integer(),
        })?;
        wide.map(|v| i64::try_from(v).map_err(|_| out_of_range(key, v))).transpose()
    }

    /// A finite float that must be there.
    ///
    /// # Errors
    /// Missing, no float or not finite.
    pub fn f32(&self, key: &str) -> Result<f32, MetadataError> {
        required(key, self.find_f32(key)?)
    }

    /// A finite float, if the key is there.
    ///
    /// # Errors
    /// No float, or not finite.
    pub fn find_f32(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        let float = self.find(key, "a float", |value| match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        })?;
        match float {
            Some(v) if !v.is_finite() => Err(out_of_range(key, v)),
            other => Ok(other),
        }
    }

    /// A truth value, if the key is there.
    ///
    /// # Errors
    /// No truth value.
    pub fn find_bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.find(key, "a bool", |value| match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// An array of strings, if the key is there.
    ///
    /// # Errors
    /// No array of strings.
    pub fn find_strings(&self, key: &str) -> Result<Option<&Strings>, MetadataError> {
        self.find(key, "an array of strings", |value| match value {
            Value::Array(Array::Str(strings)) => Some(strings),
            _ => None,
        })
    }

    /// An array of 32-bit floats, if the key is there.
    ///
    /// # Errors
    /// No array of 32-bit floats.
    pub fn find_f32s(&self, key: &str) -> Result<Option<&[f32]>, MetadataError> {
        self.find(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(values)) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width, each of which must fit a `usize`, if the key is there.
    ///
    /// # Errors
    /// No array of integers, or one that does not fit.
    pub fn find_usizes(&self, key: &str) -> Result<Option<Vec<usize>>, MetadataError> {
        fn all<T: Copy + TryInto<usize>>(values: &[T]) -> Option<Vec<usize>> {
            values.iter().map(|&v| v.try_into().ok()).collect()
        }
        self.find(key, "an array of non-negative integers", |value| match value {
            Value::Array(Array::U8(v)) => all(v),
            Value::Array(Array::I8(v)) => all(v),
            Value::Array(Array::U16(v)) => all(v),
            Value::Array(Array::I16(v)) => all(v),
            Value::Array(Array::U32(v)) => all(v),
            Value::Array(Array::I32(v)) => all(v),
            Value::Array(Array::U64(v)) => all(v),
            Value::Array(Array::I64(v)) => all(v),
            _ => None,
        })
    }

    fn find<'a, T>(
        &'a self,
        key: &str,
        want: &'static str,
        cast: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match cast(value) {
            Some(cast) => Ok(Some(cast)),
            None => Err(MetadataError::WrongType { key: key.to_owned(), want, got: value.type_name() }),
        }
    }
}

impl IntoIterator for Metadata {
    type Item = (String, Value);
    type IntoIter = std::collections::btree_map::IntoIter<String, Value>;

    /// Keys and values in key order.
    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

impl FromIterator<(String, Value)> for Metadata {
    /// The last value of a key counts.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Metadata {
        Metadata { values: values.into_iter().collect() }
    }
}

impl Value {
    fn integer(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// The value's type in words, with its article.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a bool",
            Value::Str(_) => "a string",
            Value::NotText => "a string of bytes that are no valid UTF-8",
            Value::F32(_) | Value::F64(_) => "a float",
            Value::Array(Array::Str(_)) => "an array of strings",
            Value::Array(Array::NotText(_)) => "an array with bytes that are no valid UTF-8",
            Value::Array(Array::F32(_) | Array::F64(_)) => "an array of floats",
            Value::Array(Array::Bool(_)) => "an array of bools",
            Value::Array(_) => "an array of integers",
            _ => "an integer",
        }
    }
}

impl Strings {
    /// The `i`-th string.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        self.text.get(start..end)
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// Append a string; `false` when 4 GiB of text would be passed.
    pub(crate) fn push(&mut self, text: &str) -> bool {
        let Ok(end) = u32::try_from(self.text.len() + text.len()) else { return false };
        self.text.push_str(text);
        self.ends.push(end);
        true
    }
}

fn required<T>(key: &str, found: Option<T>) -> Result<T, MetadataError> {
    found.ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
}

fn out_of_range(key: &str, value: impl ToString) -> MetadataError {
    MetadataError::OutOfRange { key: key.to_owned(), value: value.to_string() }
}

impl From<MetadataError> for Cause {
    fn from(error: MetadataError) -> Cause {
        Cause::Malformed(error.to_string())
    }
}
