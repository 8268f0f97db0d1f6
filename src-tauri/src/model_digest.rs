//! Remembers the digests of model files, so that a file is read for its digest once and not at every start.
//!
//! A digest counts for as long as the file's device, inode, size, time of change and time of its node's change are
//! the same; the last one cannot be set by anybody.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::small_file;

/// Files that are remembered at most.
const MAX_FILES: usize = 1024;

/// Bytes that such a list has at most, with room to spare.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// A file changed less long ago may change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// A list of digests in a file of the data folder.
#[derive(Debug, Clone)]
pub(crate) struct DigestList {
    path: PathBuf,
}

impl DigestList {
    pub(crate) fn in_folder(data: &Path) -> DigestList {
        DigestList { path: data.join("model-digests") }
    }

    /// The digest of a file as it is now, if it is known.
    pub(crate) fn find(&self, file: &Metadata) -> Option<[u8; 32]> {
        let list = small_file::read_text(&self.path, MAX_LIST_BYTES).ok()?;
        let wanted = identity(file);
        let line = list.lines().rev().find_map(|line| line.strip_prefix(wanted.as_str()))?;
        parse(line.trim())
    }

    /// Remember the digest of a file, unless it has just been changed.
    ///
    /// # Errors
    /// The list cannot be written; then the next start reads the file again.
    pub(crate) fn remember(&self, file: &Metadata, digest: &[u8; 32]) -> io::Result<()> {
        let changed = UNIX_EPOCH + Duration::from_secs(file.ctime().max(0) as u64 + 1);
        if SystemTime::now().duration_since(changed).unwrap_or_default() < SETTLED {
            return Ok(());
        }
        let old = small_file::read_text(&self.path, MAX_LIST_BYTES).unwrap_or_default();
        let place = format!("{} {} ", file.dev(), file.ino());
        let others: Vec<&str> = old.lines().filter(|line| !line.starts_with(&place)).collect();
        let kept = &others[others.len().saturating_sub(MAX_FILES - 1)..];
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut text = kept.iter().fold(String::new(), |text, line| text + line + "\n");
        text += &format!("{}{hex}\n", identity(file));
        small_file::replace(&self.path, &text)
    }
}

/// Whether nothing has changed between two looks at a path.
pub(crate) fn is_same_file(before: &Metadata, now: &Metadata) -> bool {
    identity(before) == identity(now)
}

fn identity(file: &Metadata) -> String {
    format!(
        "{} {} {} {}.{:09} {}.{:09} ",
        file.dev(),
        file.ino(),
        file.len(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    )
}

fn parse(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_digest_is_known_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let list = DigestList::in_folder(folder.path());
        // Files that nobody has changed lately.
        let (old, other) = (fs::metadata("/bin/sh").unwrap(), fs::metadata("/bin/ls").unwrap());
        assert_eq!(list.find(&old), None);
        list.remember(&old, &[7; 32]).unwrap();
        assert_eq!(list.find(&old), Some([7; 32]));
        list.remember(&old, &[8; 32]).unwrap();
        assert_eq!(list.find(&old), Some([8; 32]));
        assert_eq!(fs::read_to_string(&list.path).unwrap().lines().count(), 1);
        list.remember(&other, &[9; 32]).unwrap();
        assert_eq!((list.find(&old), list.find(&other)), (Some([8; 32]), Some([9; 32])));
    }

    #[test]
    fn a_file_that_was_just_written_is_not_trusted_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let list = DigestList::in_folder(folder.path());
        let path = folder.path().join("new");
        fs::write(&path, b"weights").unwrap();
        let new = fs::metadata(&path).unwrap();
        list.remember(&new, &[7; 32]).unwrap();
        assert_eq!(list.find(&new), None);
    }

    #[test]
    fn a_damaged_list_is_no_digest() {
        let folder = tempfile::tempdir().unwrap();
        let list = DigestList::in_folder(folder.path());
        let old = fs::metadata("/bin/sh").unwrap();
        for rest in ["", "12", "zz", &"é".repeat(32), &"z".repeat(64)] {
            fs::write(&list.path, format!("{}{rest}\n", identity(&old))).unwrap();
            assert_eq!(list.find(&old), None, "{rest}");
        }
    }
}
