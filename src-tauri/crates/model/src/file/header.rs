//! The bounded parser of a GGUF header, versions 2 and 3. Our own although candle has one: that one makes room for
//! whatever a count in the file says.
//!
//! ```text
//! "GGUF" u32 version u64 n_tensors u64 n_keys
//! n_keys    x  string key, u32 type, value        string = u64 length, UTF-8 bytes
//! n_tensors x  string name, u32 n_dims, n_dims x u64, u32 type, u64 offset
//! padding to `general.alignment`, then the tensor data that the offsets count from
//! ```

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use kernels::ggml::GgmlType;

use super::metadata::{Array, Metadata, Strings, Value};
use super::model_file::ModelFile;
use crate::error::Cause;

const MAX_KEYS: u64 = 1 << 16;
pub(super) const MAX_TENSORS: u64 = 1 << 16;
const MAX_KEY_BYTES: usize = 1 << 16;
const MAX_NAME_BYTES: usize = 256;
const MAX_DIMS: u32 = 4;
const DEFAULT_ALIGNMENT: usize = 32;
const MAX_ALIGNMENT: usize = 1 << 16;

/// Bytes of a header at most; the largest vocabularies take a tenth of that.
pub(super) const MAX_HEADER_BYTES: u64 = 256 << 20;
/// What is read of a file at first.
const FIRST_BYTES: u64 = 1 << 20;

/// What stands in front of a file's tensor data.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) by_name: HashMap<String, usize>,
    /// Tensors of which nothing can be read.
    pub(crate) unknown: Vec<UnknownTensor>,
    /// Bytes of the file that it takes, without what pads it.
    pub(crate) n_bytes: usize,
}

/// A tensor of a type that is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTensor {
    /// Its name.
    pub name: String,
    /// What its type is called, or its number.
    pub ty: String,
    /// Bytes from its start to the next tensor's, or to the end of the file.
    pub n_bytes: usize,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Lengths of its dimensions, the fastest first: a matrix is `[n_in, n_out]`.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub ty: GgmlType,
    /// Index of the part that it lies in, of a model that was cut into several files; 0 otherwise.
    pub part_idx: usize,
    /// Where its bytes lie in that file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// How many values it has.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Header {
    /// Refuse tensors of which nothing can be read.
    pub(crate) fn refuse_unknown(&self) -> Result<(), Cause> {
        match self.unknown.first() {
            Some(UnknownTensor { name, ty, .. }) => {
                unsupported(format!("tensor `{}` is quantised as {ty}", shown(name)))
            }
            None => Ok(()),
        }
    }
}

/// Read the header of `file`, which may have `max_bytes`, and check that every tensor lies within the file.
pub(crate) fn read(file: &ModelFile, max_bytes: u64) -> Result<Header, Cause> {
    let most = file.n_bytes().min(max_bytes);
    let mut front = Vec::new();
    let mut n_bytes = FIRST_BYTES.min(most);
    loop {
        let n_before = front.len();
        front.resize(n_bytes as usize, 0);
        file.read(n_before as u64, &mut front[n_before..]).map_err(Cause::Unreadable)?;
        match parse(&front, file.n_bytes()) {
            Ok(Some(header)) => return Ok(header),
            Ok(None) if n_bytes == most => {
                return malformed(format!("its header does not end within {most} bytes"));
            }
            // Mostly there are enough; a vocabulary read in vain is read again.
            Ok(None) => n_bytes = (4 * n_bytes).min(most),
            Err(cause) => return Err(cause),
        }
    }
}

/// Read the header at the front of a file of `file_bytes`; nothing when more than this front of it is needed.
pub(crate) fn parse(front: &[u8], file_bytes: u64) -> Result<Option<Header>, Cause> {
    let n_bytes = usize::try_from(file_bytes).map_err(|_| Cause::Malformed("a vast file".to_owned()))?;
    let mut reader = Reader { file: front, n_bytes, at: 0, is_short: false };
    let found = parse_with(&mut reader);
    if reader.is_short { Ok(None) } else { found.map(Some) }
}

fn parse_with(reader: &mut Reader<'_>) -> Result<Header, Cause> {
    if reader.take(4, "the magic number")? != b"GGUF" {
        return malformed("it does not begin with `GGUF`");
    }
    let version = reader.u32("the version")?;
    if version.swap_bytes() <= 3 && version > 3 {
        return unsupported("a big-endian GGUF");
    }
    if !(2..=3).contains(&version) {
        return unsupported(format!("GGUF version {version}; versions 2 and 3 are"));
    }
    let n_tensors = reader.u64("the number of tensors")?;
    let n_keys = reader.u64("the number of keys")?;
    if n_tensors > MAX_TENSORS || n_keys > MAX_KEYS {
        return malformed(format!("it claims {n_tensors} tensors and {n_keys} keys"));
    }

    let mut metadata = Metadata::default();
    for _ in 0..n_keys {
        let key = reader.bytes(MAX_KEY_BYTES, "a metadata key")?;
        // No key that is looked for has such bytes.
        let key = std::str::from_utf8(key).map_or_else(|_| key.escape_ascii().to_string(), str::to_owned);
        let value = reader.value(&key)?;
        if !metadata.insert(key.clone(), value) {
            return malformed(format!("metadata key `{key}` occurs twice"));
        }
    }
    let alignment = metadata
        .find_usize("general.alignment")
        .map_err(|e| Cause::Malformed(e.to_string()))?
        .unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return malformed(format!("an alignment of {alignment} bytes"));
    }

    let mut header = Header { metadata, ..Header::default() };
    let mut names = HashSet::new();
    let mut unknown = Vec::new();
    for _ in 0..n_tensors {
        let entry = reader.entry(alignment)?;
        if !names.insert(entry.name.clone()) {
            return malformed(format!("tensor `{}` occurs twice", shown(&entry.name)));
        }
        match GgmlType::from_gguf_id(entry.type_id) {
            Some(ty) => header.tensors.push(entry.tensor(ty)?),
            None => unknown.push(entry),
        }
    }
    header.n_bytes = reader.at;
    let data_start = reader.at.next_multiple_of(alignment);
    place(&mut header.tensors, data_start, reader.n_bytes)?;
    header.unknown = place_unknown(unknown, &header.tensors, data_start, reader.n_bytes)?;
    let by_name = header.tensors.iter().enumerate().map(|(idx, tensor)| (tensor.name.clone(), idx));
    header.by_name = by_name.collect();
    Ok(header)
}

/// Turn offsets from the start of the data into offsets from the start of the file, none outside or overlapping.
fn place(tensors: &mut [TensorInfo], data_start: usize, file_bytes: usize) -> Result<(), Cause> {
    for tensor in tensors.iter_mut() {
        let range = data_start
            .checked_add(tensor.range.start)
            .zip(data_start.checked_add(tensor.range.end))
            .filter(|&(_, end)| end <= file_bytes);
        let Some((start, end)) = range else {
            let Range { start, end } = tensor.range;
            return malformed(format!(
                "tensor `{}` needs bytes {start}..{end} of the data, the file has {} (is it cut off?)",
                tensor.name,
                file_bytes.saturating_sub(data_start),
            ));
        };
        tensor.range = start..end;
    }
    let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| tensor.range.start);
    match by_start.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        Some(pair) => malformed(format!("tensors `{}` and `{}` overlap", pair[0].name, pair[1].name)),
        None => Ok(()),
    }
}

/// Tensors of unknown length among the others: each goes as far as the next one.
fn place_unknown(
    entries: Vec<Entry>,
    known: &[TensorInfo],
    data_start: usize,
    file_bytes: usize,
) -> Result<Vec<UnknownTensor>, Cause> {
    let mut starts: Vec<usize> = known.iter().map(|tensor| tensor.range.start).collect();
    let start_of = |entry: &Entry| data_start.checked_add(entry.start).filter(|&at| at <= file_bytes);
    starts.extend(entries.iter().filter_map(start_of));
    starts.push(file_bytes);
    starts.sort_unstable();
    let place = |entry: Entry| {
        let Some(start) = start_of(&entry) else {
            return malformed(format!("tensor `{}` lies outside the file", shown(&entry.name)));
        };
        let next = starts[starts.partition_point(|&other| other <= start).min(starts.len() - 1)];
        Ok(UnknownTensor { name: entry.name, ty: type_name(entry.type_id), n_bytes: next - start })
    };
    entries.into_iter().map(place).collect()
}

/// What a header says of a tensor.
struct Entry {
    name: String,
    shape: Vec<usize>,
    type_id: u32,
    /// From the start of the data on.
    start: usize,
}

impl Entry {
    /// As a tensor of type `ty`, whose range still counts from the start of the data.
    fn tensor(self, ty: GgmlType) -> Result<TensorInfo, Cause> {
        let Entry { name, shape, start, .. } = self;
        if shape[0] % ty.block_elems() != 0 {
            return malformed(format!(
                "tensor `{}` has rows of {} values, no multiple of {}",
                shown(&name),
                shape[0],
                ty.block_elems()
            ));
        }
        let n_bytes = shape
            .iter()
            .try_fold(1_usize, |n, &length| n.checked_mul(length))
            .and_then(|n_values| (n_values / ty.block_elems()).checked_mul(ty.block_bytes()));
        match n_bytes.and_then(|n| start.checked_add(n)) {
            Some(end) => Ok(TensorInfo { name, shape, ty, part_idx: 0, range: start..end }),
            None => cannot_lie(&name, &shape, start as u64),
        }
    }
}

fn cannot_lie<T>(name: &str, shape: &[usize], offset: u64) -> Result<T, Cause> {
    malformed(format!("tensor `{}` of shape {shape:?} cannot lie at offset {offset}", shown(name)))
}

struct Reader<'a> {
    /// The front of the file.
    file: &'a [u8],
    /// Bytes of the whole file.
    n_bytes: usize,
    at: usize,
    /// Whether something lies in the file behind its front.
    is_short: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n_bytes: usize, what: &str) -> Result<&'a [u8], Cause> {
        let rest = self.n_bytes - self.at;
        if n_bytes > rest {
            return malformed(format!("{what} needs {n_bytes} bytes at {}, {rest} are left", self.at));
        }
        if n_bytes > self.file.len() - self.at {
            self.is_short = true;
            return malformed(format!("{what} is not in what has been read"));
        }
        let taken = &self.file[self.at..self.at + n_bytes];
        self.at += n_bytes;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Cause> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Cause> {
        self.number(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Cause> {
        self.number(what).map(u64::from_le_bytes)
    }

    /// A length or count that counts things of at least `unit` bytes, hence fits what is left of the file.
    fn length(&mut self, unit: usize, what: &str) -> Result<usize, Cause> {
        let count = self.u64(what)?;
        let rest = self.n_bytes - self.at;
        match usize::try_from(count).ok().filter(|&n| n <= rest / unit) {
            Some(count) => Ok(count),
            None => malformed(format!("{what} claims a length of {count} with {rest} bytes left")),
        }
    }

    /// The bytes of a string.
    fn bytes(&mut self, max_bytes: usize, what: &str) -> Result<&'a [u8], Cause> {
        let n_bytes = self.length(1, what)?;
        if n_bytes > max_bytes {
            return malformed(format!("{what} of {n_bytes} bytes"));
        }
        self.take(n_bytes, what)
    }

    fn string(&mut self, max_bytes: usize, what: &str) -> Result<&'a str, Cause> {
        let bytes = self.bytes(max_bytes, what)?;
        std::str::from_utf8(bytes).map_err(|_| Cause::Malformed(format!("{what} is no valid UTF-8")))
    }

    fn value(&mut self, key: &str) -> Result<Value, Cause> {
        let what = format!("metadata key `{}`", shown(key));
        let what = what.as_str();
        Ok(match self.u32(what)? {
            0 => Value::U8(u8::from_le_bytes(self.number(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.number(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.number(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.number(what)?)),
            4 => Value::U32(u32::from_le_bytes(self.number(what)?)),
            5 => Value::I32(i32::from_le_bytes(self.number(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.number(what)?)),
            7 => Value::Bool(self.number::<1>(what)? != [0]),
            8 => match std::str::from_utf8(self.bytes(usize::MAX, what)?) {
                Ok(text) => Value::Str(text.to_owned()),
                Err(_) => Value::NotText,
            },
            9 => Value::Array(self.array(what)?),
            10 => Value::U64(u64::from_le_bytes(self.number(what)?)),
            11 => Value::I64(i64::from_le_bytes(self.number(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.number(what)?)),
            other => return malformed(format!("{what} has the unknown type {other}")),
        })
    }

    fn array(&mut self, what: &str) -> Result<Array, Cause> {
        Ok(match self.u32(what)? {
            0 => Array::U8(self.numbers(what, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(what, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(what, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(what, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(what, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(what, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(what, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(what, |byte: [u8; 1]| byte != [0])?),
            8 => {
                let n_strings = self.length(8, what)?;
                let mut strings = Strings::default();
                let mut not_text = None;
                for idx in 0..n_strings {
                    let Ok(text) = std::str::from_utf8(self.bytes(usize::MAX, what)?) else {
                        not_text.get_or_insert(idx);
                        continue;
                    };
                    if !strings.push(text) {
                        return malformed(format!("{what} holds more than 4 GiB of text"));
                    }
                }
                not_text.map_or(Array::Str(strings), Array::NotText)
            }
            9 => return unsupported(format!("an array of arrays ({what})")),
            10 => Array::U64(self.numbers(what, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(what, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(what, f64::from_le_bytes)?),
            other => return malformed(format!("{what} is an array of the unknown type {other}")),
        })
    }

    fn numbers<const N: usize, T>(
        &mut self,
        what: &str,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Cause> {
        let count = self.length(N, what)?;
        let bytes = self.take(count * N, what)?;
        Ok(bytes.as_chunks().0.iter().map(|&chunk| from(chunk)).collect())
    }

    fn entry(&mut self, alignment: usize) -> Result<Entry, Cause> {
        let name = self.string(MAX_NAME_BYTES, "a tensor's name")?.to_owned();
        let what = format!("tensor `{}`", shown(&name));
        let n_dims = self.u32(&what)?;
        if !(1..=MAX_DIMS).contains(&n_dims) {
            return malformed(format!("{what} has {n_dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..n_dims {
            let length = self.u64(&what)?;
            let length = usize::try_from(length).ok().filter(|&n| n > 0);
            shape.push(
                length.ok_or_else(|| {
                    Cause::Malformed(format!("{what} has a dimension of no or vast length"))
                })?,
            );
        }
        let type_id = self.u32(&what)?;
        let offset = self.u64(&what)?;
        match usize::try_from(offset).ok().filter(|&at| at % alignment == 0) {
            Some(start) => Ok(Entry { name, shape, type_id, start }),
            None => cannot_lie(&name, &shape, offset),
        }
    }
}

/// The name of a GGUF tensor type that we cannot read, for the message.
fn type_name(id: u32) -> String {
    let known = match id {
        15 => "Q8_K",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return format!("type {id}"),
    };
    known.to_owned()
}

/// A name from the file, fit for a one-line message.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(80).collect();
    short.escape_debug().to_string()
}

fn malformed<T>(cause: impl Into<String>) -> Result<T, Cause> {
    Err(Cause::Malformed(cause.into()))
}

fn unsupported<T>(cause: impl Into<String>) -> Result<T, Cause> {
    Err(Cause::Unsupported(cause.into()))
}

#[cfg(test)]
mod tests;
