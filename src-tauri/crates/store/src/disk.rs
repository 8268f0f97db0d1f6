//! The file system as the store uses it, so that tests can put a failing one in its place.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// Directories and names. Every file is readable and writable by its owner alone, every directory likewise.
pub(crate) trait Disk: Send + Sync {
    /// Create a directory and its parents; one that exists is made private.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The plain files of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// A new file; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// A file where nothing is.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// An existing file; for reading only when it cannot be opened for writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Put `from` in the place of `to`, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Remove a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Make names created, renamed and removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Hold a directory until the guard drops. `WouldBlock` when another process holds it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Lock>>;

    /// Bytes that may still be written.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Seconds since 1970, by the wall clock.
    fn now(&self) -> u64;
}

/// A plain file in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Its length.
    pub(crate) n_bytes: u64,
    /// What it takes of the disk: a file with holes takes less than its length.
    pub(crate) allocated_bytes: u64,
}

impl Listed {
    /// What of its length is on the disk.
    pub(crate) fn real_bytes(&self) -> u64 {
        self.n_bytes.min(self.allocated_bytes)
    }
}

/// A directory that is held.
pub(crate) trait Lock: Send + Sync {
    /// Whether `dir` still leads to the directory that is held: it may have been removed, or moved away.
    fn is_of(&self, dir: &Path) -> io::Result<bool>;
}

/// Whether a read waits for the disk, or takes only what the system has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    NoWait,
}

/// What direct reads are aligned to.
pub(crate) const ALIGNMENT: usize = 4096;

/// An open file, read and written by position from any thread.
pub(crate) trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Its length in bytes if `path` leads to it; nothing when it has been removed, or another stands there.
    fn len_at(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Read into `first` and then into `second`, up to the bytes of both; 0 at the end. Without patience
    /// `WouldBlock` may say that the disk has to be waited for.
    fn read_at(
        &self,
        first: &mut [u8],
        second: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> io::Result<usize>;

    /// Read past the system's cache, up to the buffer's bytes. Offset, length and address are multiples of
    /// [`ALIGNMENT`].
    ///
    /// # Errors
    /// Besides the disk's own: the system, or this file system, has no such reads.
    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Find room on the disk for `n_bytes` from `offset` on at once, instead of page by page as they are written. The
    /// file is as long afterwards; what is new reads as zeros.
    ///
    /// # Errors
    /// The disk is full or refused. A system that cannot do this does nothing, which is none.
    fn set_aside(&self, n_bytes: u64, offset: u64) -> io::Result<()>;

    /// Write some of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cut it off.
    fn truncate(&self, n_bytes: u64) -> io::Result<()>;

    /// Make what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Fill `buffer` from `offset` on.
///
/// # Errors
/// `UnexpectedEof` when the file ends before.
pub(crate) fn read_exact(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    read_two_exact(file, buffer, &mut [], offset, Patience::Wait)
}

/// Fill `first` from `offset` on, and then `second`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; `WouldBlock` when the disk has to be waited for.
pub(crate) fn read_two_exact(
    file: &dyn DiskFile,
    first: &mut [u8],
    second: &mut [u8],
    offset: u64,
    patience: Patience,
) -> io::Result<()> {
    let mut n_done = 0;
    while n_done < first.len() + second.len() {
        let n_first = n_done.min(first.len());
        let (first, second) = (&mut first[n_first..], &mut second[n_done - n_first..]);
        match file.read_at(first, second, offset + n_done as u64, patience) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n_done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Write all of `bytes` at `offset`.
///
/// # Errors
/// The disk refused; some of the bytes may be written.
pub(crate) fn write_all(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut n_done = 0;
    while n_done < bytes.len() {
        match file.write_at(&bytes[n_done..], offset + n_done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => n_done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
