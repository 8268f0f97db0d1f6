//! A model file mapped read-only into memory; the only file of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, paged in as they are read.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Map the plain, non-empty file at `path`.
    pub(crate) fn open(path: &Path) -> Result<MappedFile, Error> {
        let file = File::open(path)?;
        let kind = file.metadata()?;
        if !kind.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "not a file"));
        }
        if kind.len() == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "the file is empty"));
        }
        // SAFETY: the map is read-only and every use of it checks its bounds, so that the only hazard left is a
        // file that another process shortens or rewrites while it is mapped. Model files are replaced by rename,
        // never in place, and the map lives only while a model is being loaded.
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile { map })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Let the system take back the memory behind `range`; reading it again reads the file again.
    ///
    /// What was packed need not stay resident beside its packed form. A hint: failure costs memory only.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if !range.is_empty() && range.end <= self.map.len() {
            // SAFETY: for a read-only map of a file, dropped pages come back with the file's bytes, so no slice
            // into the map changes its content.
            let dropped = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end - range.start,
                )
            };
            let _ = dropped;
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
