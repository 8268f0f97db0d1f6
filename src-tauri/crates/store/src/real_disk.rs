//! The file system of the machine.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, IoSliceMut, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::disk::{Disk, DiskFile, Patience};
use crate::free_space;

/// Nobody but the owner may read what users said.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Files on the machine's own disks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
        if fs::metadata(dir)?.permissions().mode() & 0o777 != DIR_MODE {
            fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let data = entry.metadata()?;
            if data.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), data.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                File::open(path)?
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

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(error) => error,
        })?;
        // For the message that a second process shows; a full disk must not keep the store shut.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(file))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        free_space::free_bytes(dir)
    }

    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
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
        use rustix::fs::{Mode, OFlags, open};
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
