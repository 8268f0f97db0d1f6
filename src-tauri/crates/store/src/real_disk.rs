//! The file system of the machine.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, IoSliceMut, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, statvfs};

use crate::disk::{Disk, DiskFile, Listed, Lock, Patience};

/// Nobody but the owner may read what users said.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// The file in a held directory that is held too, and says who holds it.
const LOCK_FILE: &str = "lock";
/// A link would lead out of the directory, and the end of a pipe that somebody put there would be waited for.
const OPEN_FLAGS: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits() as i32;

/// Files on the machine's own disks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
        if fs::metadata(dir)?.permissions().mode() & 0o777 == DIR_MODE {
            return Ok(());
        }
        match fs::set_permissions(dir, Permissions::from_mode(DIR_MODE)) {
            // Nothing is written there, and what is there can be read.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let data = match entry.metadata() {
                // It was removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if data.is_file() {
                files.push(Listed {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    n_bytes: data.len(),
                    allocated_bytes: data.blocks() * 512,
                });
            }
        }
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        options.custom_flags(OPEN_FLAGS);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(OPEN_FLAGS);
            options
        };
        let file = match options().write(true).open(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                options().open(path)?
            }
            other => other?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// The directory itself is locked, which no removal of a file in it undoes. The file in it is locked too: for
    /// versions that know no other lock, and for file systems that lock files only.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(RealLock::hold(dir)?))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        // What an unprivileged process may still write.
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// Lock an open file or directory; false where its file system has no such locks.
fn is_locked_now(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(_)) => Ok(false),
    }
}

/// What `path` leads to, if there is anything.
fn at(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// A directory that is held, and the file in it that says so, where the file system can lock each.
struct RealLock {
    dir: File,
    file: Option<File>,
}

impl RealLock {
    fn hold(dir: &Path) -> io::Result<RealLock> {
        let held = File::open(dir)?;
        let is_locked = is_locked_now(&held)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).custom_flags(OPEN_FLAGS);
        let opened = options.open(dir.join(LOCK_FILE));
        let file = match opened.and_then(|file| Ok(is_locked_now(&file)?.then_some(file))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if is_locked => None,
            Err(error) => return Err(error),
        };
        if !is_locked && file.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if let Some(mut file) = file.as_ref() {
            // For the message that a second process shows; a full disk must not keep the store shut.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        }
        Ok(RealLock { dir: held, file })
    }
}

impl Drop for RealLock {
    /// Closing does not do: a process that is being started has these descriptors too until its own program runs.
    fn drop(&mut self) {
        for held in [Some(&self.dir), self.file.as_ref()].into_iter().flatten() {
            let _ = held.unlock();
        }
    }
}

impl Lock for RealLock {
    fn is_of(&self, dir: &Path) -> io::Result<bool> {
        let held = self.dir.metadata()?;
        // The folder may be a link to where there is room.
        let found = match fs::metadata(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        Ok(is_same(&held, &found))
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn len_at(&self, path: &Path) -> io::Result<Option<u64>> {
        let own = self.0.metadata()?;
        Ok(at(path)?.filter(|found| is_same(&own, found)).map(|found| found.len()))
    }

    fn read_at(
        &self,
        first: &mut [u8],
        second: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> io::Result<usize> {
        let mut both = [IoSliceMut::new(first), IoSliceMut::new(second)];
        #[cfg(target_os = "linux")]
        if patience == Patience::NoWait {
            use rustix::io::{Errno, ReadWriteFlags, preadv2};
            match preadv2(&self.0, &mut both, offset, ReadWriteFlags::NOWAIT) {
                // Not every file system knows.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                other => return Ok(other?),
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = patience;
        Ok(rustix::io::preadv(&self.0, &mut both, offset)?)
    }

    #[cfg(target_os = "linux")]
    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use rustix::fs::{Mode, open};
        // Opened anew, for the flag is not for those that write; and by its number, for its name may be gone.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let file = open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::io::pread(&file, buffer, offset)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_direct(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(target_os = "linux")]
    fn set_aside(&self, n_bytes: u64, offset: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::{Errno, retry_on_intr};
        match retry_on_intr(|| fallocate(&self.0, FallocateFlags::empty(), offset, n_bytes)) {
            // Not every file system knows.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn set_aside(&self, _n_bytes: u64, _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn truncate(&self, n_bytes: u64) -> io::Result<()> {
        self.0.set_len(n_bytes)
    }

    /// On Apple's systems std asks the drive to empty its cache too, which plain `fsync` does not.
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_let_go_can_be_held_again_while_somebody_has_a_copy_of_its_descriptors() {
        let folder = std::env::temp_dir().join(format!("samovar-copies-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let lock = RealLock::hold(&folder).unwrap();
        let copies = (lock.dir.try_clone().unwrap(), lock.file.as_ref().unwrap().try_clone().unwrap());
        let error = RealLock::hold(&folder).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        assert!(RealLock::hold(&folder).is_ok());
        drop(copies);
        fs::remove_dir_all(&folder).unwrap();
    }
}
