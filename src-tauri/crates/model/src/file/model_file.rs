//! A model file, read piece by piece. It is never mapped: a map of a file that somebody cuts short ends the process.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Opening must not wait for the other end of a pipe.
const OPEN_FLAGS: i32 = libc::O_NONBLOCK;

/// An open file whose content has to stay what it is while it is read.
#[derive(Debug)]
pub(crate) struct ModelFile {
    file: File,
    opened: Metadata,
}

impl ModelFile {
    /// Open the plain, non-empty file at `path`.
    pub(crate) fn open(path: &Path) -> Result<ModelFile, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(OPEN_FLAGS).open(path)?;
        let opened = file.metadata()?;
        if !opened.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if opened.len() == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "the file is empty"));
        }
        Ok(ModelFile { file, opened })
    }

    /// Its length when it was opened.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.opened.len()
    }

    /// What the system said of it when it was opened.
    pub(crate) fn opened(&self) -> &Metadata {
        &self.opened
    }

    /// What the system says of it now, whatever its path leads to.
    pub(crate) fn now(&self) -> Result<Metadata, Error> {
        self.file.metadata()
    }

    /// Fill `out` with what stands from `offset` on.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        match self.file.read_exact_at(out, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.cut_short()),
            other => other,
        }
    }

    /// Hold that nobody has changed it since it was opened: what was read may be of two files otherwise.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        let now = self.now()?;
        if now.len() < self.n_bytes() {
            return Err(self.cut_short());
        }
        // Where the file system knows when.
        if now.len() != self.n_bytes() || now.modified().ok() != self.opened.modified().ok() {
            return Err(Error::new(ErrorKind::InvalidData, "the file was changed while it was read"));
        }
        Ok(())
    }

    fn cut_short(&self) -> Error {
        let left = self.now().map_or_else(|_| "?".to_owned(), |now| now.len().to_string());
        let cause =
            format!("the file was cut short while it was read: it has {left} of {} bytes", self.n_bytes());
        Error::new(ErrorKind::UnexpectedEof, cause)
    }
}

#[cfg(test)]
mod tests;
