//! How the files of a model are called that was cut into several: `NAME-00001-of-00003.gguf`, `NAME-00002-of-00003.gguf`
//! and so on.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const ENDING: &[u8] = b".gguf";
const BETWEEN: &[u8] = b"-of-";
const DIGITS: usize = 5;

/// What a file's name says of the part of a model that is in it. A model in one part is not cut, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    model: Vec<u8>,
    number: usize,
    count: usize,
    /// As it is written, `.gguf` or `.GGUF`.
    ending: Vec<u8>,
}

impl PartName {
    /// What the name at the end of `path` says; nothing where it is not that of a part.
    pub fn of(path: &Path) -> Option<PartName> {
        let name = path.file_name()?.as_bytes();
        let (name, ending) = name.split_at_checked(name.len().checked_sub(ENDING.len())?)?;
        let (name, count) = split_digits(name)?;
        let (model, number) = split_digits(name.strip_suffix(BETWEEN)?)?;
        let model = model.strip_suffix(b"-").filter(|model| !model.is_empty())?;
        let is_part = ending.eq_ignore_ascii_case(ENDING) && count > 1 && (1..=count).contains(&number);
        is_part.then(|| PartName { model: model.to_vec(), number, count, ending: ending.to_vec() })
    }

    /// What all parts of the model have in common.
    pub fn model(&self) -> String {
        String::from_utf8_lossy(&self.model).into_owned()
    }

    /// Which part it is; the first is number 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where part `number` lies of the model of which a part with this name lies at `path`.
    pub fn sibling(&self, path: &Path, number: usize) -> PathBuf {
        let mut name = self.model.clone();
        name.extend_from_slice(ending_of(number, self.count).as_bytes());
        name.extend_from_slice(&self.ending);
        path.with_file_name(OsString::from_vec(name))
    }
}

/// What stands between a model's name and `.gguf` in the name of a part.
pub(crate) fn ending_of(number: usize, count: usize) -> String {
    format!("-{number:0DIGITS$}-of-{count:0DIGITS$}")
}

/// The number that `name` ends in, and what stands before it.
fn split_digits(name: &[u8]) -> Option<(&[u8], usize)> {
    let (before, digits) = name.split_at_checked(name.len().checked_sub(DIGITS)?)?;
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| (before, digits.iter().fold(0, |n, digit| 10 * n + usize::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_which_of_how_many_it_is_and_where_the_others_lie() {
        let path = Path::new("models/Big-Q4.gguf-x-00002-of-00003.GGUF");
        let part = PartName::of(path).unwrap();
        assert_eq!((part.model().as_str(), part.number(), part.count()), ("Big-Q4.gguf-x", 2, 3));
        assert_eq!(part.sibling(path, 2), path);
        assert_eq!(part.sibling(path, 1), Path::new("models/Big-Q4.gguf-x-00001-of-00003.GGUF"));
    }

    #[test]
    fn a_name_that_is_not_utf8_leads_to_its_siblings_too() {
        let name = OsString::from_vec(b"mod\xe9le-00001-of-00002.gguf".to_vec());
        let sibling = PartName::of(Path::new(&name)).unwrap().sibling(Path::new(&name), 2);
        assert_eq!(sibling.as_os_str().as_bytes(), b"mod\xe9le-00002-of-00002.gguf");
    }

    #[test]
    fn other_names_are_those_of_whole_models() {
        for name in [
            "",
            "/",
            ".gguf",
            "model.gguf",
            "model-00001-of-00001.gguf",
            "model-00000-of-00002.gguf",
            "model-00003-of-00002.gguf",
            "model-1-of-2.gguf",
            "model-000001-of-000002.gguf.part",
            "model_00001-of-00002.gguf",
            "-00001-of-00002.gguf",
            "00001-of-00002.gguf",
            "model-00001-of-00002.bin",
            "model-0000१-of-00002.gguf",
        ] {
            assert_eq!(PartName::of(Path::new(name)), None, "{name}");
        }
    }
}
