//! A model's files, opened: mostly one, or the parts that it was cut into, of which the first has the metadata.
//!
//! ```text
//! NAME-00001-of-00003.gguf   all keys, and split.no 0, split.count 3, split.tensors.count
//! NAME-00002-of-00003.gguf   split.no 1 and the other two, tensors
//! NAME-00003-of-00003.gguf   split.no 2 and the other two, tensors
//! ```
//!
//! What a part is stands in its name and in its keys; both have to say the same.

use std::fs::Metadata as FileMetadata;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::header::{self, Header, MAX_HEADER_BYTES, MAX_TENSORS};
use super::metadata::Metadata;
use super::model_file::ModelFile;
use super::part_name::{PartName, ending_of};
use crate::error::{Cause, LoadError};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
/// Each file has its own.
const ALIGNMENT: &str = "general.alignment";

/// Parts of a model at most: each is a file that stays open while the model loads.
const MAX_PARTS: usize = 512;

/// What is read at a time where all of a file is read.
const PIECE_BYTES: usize = 1 << 20;

/// An open file with some of a model, or with all of it.
#[derive(Debug)]
pub struct ModelPart {
    path: PathBuf,
    file: ModelFile,
}

impl ModelPart {
    fn open(path: &Path, max_header_bytes: u64) -> Result<(ModelPart, Header), LoadError> {
        let file = ModelFile::open(path).map_err(|cause| Cause::Unreadable(cause).in_file(path))?;
        let header = header::read(&file, max_header_bytes).map_err(|cause| cause.in_file(path))?;
        Ok((ModelPart { path: path.to_path_buf(), file }, header))
    }

    /// The file's path as given, or beside the one that was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size.
    pub fn n_bytes(&self) -> u64 {
        self.file.n_bytes()
    }

    /// What the system said of the file when it was opened.
    pub fn opened(&self) -> &FileMetadata {
        self.file.opened()
    }

    /// What it says of the same file now, whatever the path leads to.
    ///
    /// # Errors
    /// The system does not say.
    pub fn now(&self) -> Result<FileMetadata, Error> {
        self.file.now()
    }

    /// BLAKE3 of the whole file.
    ///
    /// Reads it once; callers keep the digest with the file's inode, size and times.
    ///
    /// # Errors
    /// The file cannot be read, or was cut or changed since it was opened.
    pub fn digest(&self) -> Result<[u8; 32], LoadError> {
        let unreadable = |cause: Error| Cause::Unreadable(cause).in_file(&self.path);
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < self.n_bytes() {
            let n = (self.n_bytes() - at).min(PIECE_BYTES as u64) as usize;
            self.file.read(at, &mut piece[..n]).map_err(unreadable)?;
            hasher.update(&piece[..n]);
            at += n as u64;
        }
        self.file.check_unchanged().map_err(unreadable)?;
        Ok(*hasher.finalize().as_bytes())
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.file.read(offset, out)
    }

    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        self.file.check_unchanged()
    }
}

/// What a part's keys say.
struct SplitKeys {
    /// The first part is number 1.
    number: usize,
    count: usize,
    /// In all parts together.
    n_tensors: usize,
}

impl SplitKeys {
    /// What a header says; nothing where it is that of a whole model.
    fn of(metadata: &Metadata) -> Result<Option<SplitKeys>, Cause> {
        // A model in one piece may say so, and a key of another kind is somebody else's.
        let Some(count) = metadata.find_usize(COUNT).ok().flatten().filter(|&count| count > 1) else {
            return Ok(None);
        };
        let number = metadata.usize(NUMBER)?.saturating_add(1);
        let n_tensors = metadata.usize(TENSORS)?;
        if number > count {
            return Err(Cause::Malformed(format!("it is part {number} of {count} of a split model")));
        }
        Ok(Some(SplitKeys { number, count, n_tensors }))
    }
}

/// Open the model whose only file, or first part, lies at `path`.
///
/// # Errors
/// As [`super::gguf::Gguf::open`]; the path is that of the part at fault.
pub(super) fn open(path: &Path) -> Result<(Vec<ModelPart>, Header), LoadError> {
    let (first, mut header) = ModelPart::open(path, MAX_HEADER_BYTES)?;
    let Some(keys) = SplitKeys::of(&header.metadata).map_err(|cause| cause.in_file(path))? else {
        return Ok((vec![first], header));
    };
    let name = name_of_first(path, &keys).map_err(|cause| cause.in_file(path))?;
    let mut parts = vec![first];
    for number in 2..=keys.count {
        let path = name.sibling(path, number);
        let left = MAX_HEADER_BYTES.saturating_sub(header.n_bytes as u64);
        let (part, more) = ModelPart::open(&path, left).map_err(|error| missing(error, number, &keys))?;
        add(&mut header, more, number, &keys).map_err(|cause| cause.in_file(&path))?;
        parts.push(part);
    }
    let n_tensors = header.tensors.len() + header.unknown.len();
    if n_tensors != keys.n_tensors {
        let cause = format!(
            "its {} parts have {n_tensors} tensors together, not the {} that they claim: one is of another model",
            keys.count, keys.n_tensors
        );
        return Err(Cause::Malformed(cause).in_file(path));
    }
    Ok((parts, header))
}

/// The name of the file at `path`, of which the keys say that it is a part: it must be the first one's.
fn name_of_first(path: &Path, keys: &SplitKeys) -> Result<PartName, Cause> {
    let SplitKeys { number, count, .. } = *keys;
    if count > MAX_PARTS {
        return Err(Cause::Unsupported(format!("a model in {count} parts; up to {MAX_PARTS} are")));
    }
    let is = format!("it is part {number} of {count} of a split model");
    let name = PartName::of(path).filter(|name| name.number() == number && name.count() == count);
    match (name, number) {
        (Some(name), 1) => Ok(name),
        (Some(name), _) => {
            let first = name.sibling(path, 1);
            let first = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Err(Cause::Unsupported(format!("{is}; name the first, `{first}`, and the others are found")))
        }
        (None, 1) => {
            let ending = ending_of(number, count);
            Err(Cause::Unsupported(format!("{is}, and its name must end in `{ending}.gguf` as theirs do")))
        }
        (None, _) => {
            let ending = ending_of(1, count);
            Err(Cause::Unsupported(format!("{is}; name the first, which ends in `{ending}.gguf`")))
        }
    }
}

/// The same error, with more to it where it is that there is no such file.
fn missing(error: LoadError, number: usize, keys: &SplitKeys) -> LoadError {
    match error {
        LoadError::Unreadable { path, cause } if cause.kind() == ErrorKind::NotFound => {
            let cause = format!("part {number} of {} of the model is missing", keys.count);
            LoadError::Unreadable { path, cause: Error::new(ErrorKind::NotFound, cause) }
        }
        other => other,
    }
}

/// Add what the header of part `number` says to that of the parts before it.
fn add(header: &mut Header, more: Header, number: usize, first: &SplitKeys) -> Result<(), Cause> {
    let malformed = |cause: String| Err(Cause::Malformed(cause));
    let by_name = format!("by its name it is part {number} of {}", first.count);
    match SplitKeys::of(&more.metadata)? {
        None => return malformed(format!("{by_name}, by its keys a model of its own")),
        Some(keys) if keys.number != number || keys.count != first.count => {
            return malformed(format!("{by_name}, by its keys part {} of {}", keys.number, keys.count));
        }
        Some(keys) if keys.n_tensors != first.n_tensors => {
            return malformed(format!(
                "it is a part of a model of {} tensors, and the first part of one of {}",
                keys.n_tensors, first.n_tensors
            ));
        }
        Some(_) => {}
    }
    for (key, value) in more.metadata.into_iter().filter(|(key, _)| !is_own(key)) {
        match header.metadata.get(&key) {
            Some(before) if *before != value => {
                let key = key.escape_debug();
                return malformed(format!("its `{key}` is not the first part's: it is of another model"));
            }
            Some(_) => {}
            None => {
                header.metadata.insert(key, value);
            }
        }
    }
    let n_before = header.tensors.len() + header.unknown.len();
    if n_before + more.tensors.len() + more.unknown.len() > MAX_TENSORS as usize {
        return malformed(format!("more than {MAX_TENSORS} tensors in all parts so far"));
    }
    for mut tensor in more.tensors {
        let idx = header.tensors.len();
        if let Some(before) = header.by_name.insert(tensor.name.clone(), idx) {
            let before = header.tensors[before].part_idx + 1;
            let name = tensor.name.escape_debug();
            return malformed(format!("tensor `{name}` is in part {before} too: one is of another model"));
        }
        tensor.part_idx = number - 1;
        header.tensors.push(tensor);
    }
    header.unknown.extend(more.unknown);
    header.n_bytes += more.n_bytes;
    Ok(())
}

/// Whether a key says something of its file alone.
fn is_own(key: &str) -> bool {
    [NUMBER, COUNT, TENSORS, ALIGNMENT].contains(&key)
}

#[cfg(test)]
mod tests;
