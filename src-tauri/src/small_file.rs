//! Reads small files that somebody else wrote: never more than a bound, and never one that is no plain file. And writes
//! such files, whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opening must not wait for the other end of a pipe.
pub(crate) const OPEN_FLAGS: i32 = libc::O_NONBLOCK;

/// All of the plain file at `path`, which has `max_bytes` at most.
///
/// # Errors
/// It cannot be read, is no plain file, or is longer.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Error> {
    let file = OpenOptions::new().read(true).custom_flags(OPEN_FLAGS).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`]; it is not UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, Error> {
    String::from_utf8(read(path, max_bytes)?)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Put a file of `text` at `path`, which nobody else may read; whoever reads it meanwhile has the old one.
///
/// # Errors
/// It cannot be written; then the old one is still there.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(OPEN_FLAGS);
    options.open(&temporary)?.write_all(text.as_bytes())?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_within_the_bound_are_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("five"), b"12345").unwrap();
        assert_eq!(read(&path("five"), 5).unwrap(), b"12345");
        std::os::unix::fs::symlink(path("five"), path("link")).unwrap();
        assert_eq!(read_text(&path("link"), 5).unwrap(), "12345");
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        let vast = fs::File::create(path("vast")).unwrap();
        vast.set_len(1 << 40).unwrap();
        fs::write(path("binary"), [0xff, 0xfe]).unwrap();
        for (name, want) in [
            ("five", "it has more than 4 bytes"),
            ("vast", "it has more than 4 bytes"),
            ("pipe", "it is no plain file"),
            (".", "it is no plain file"),
            ("endless", "it is no plain file"),
            ("binary", "it is not UTF-8 text"),
        ] {
            assert_eq!(read_text(&path(name), 4).unwrap_err().to_string(), want, "{name}");
        }
        assert_eq!(read(&path("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
