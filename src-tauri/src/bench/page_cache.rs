//! The system's page cache: taken away from files, and files read without it, for figures that a disk can be
//! compared with.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of a sequential read.
const PIECE_BYTES: usize = 1 << 20;

/// The segment files somewhere in a folder, in order.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "kv") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Take files out of the page cache; false where the system has no way to ask for that.
#[cfg(target_os = "linux")]
pub(super) fn drop_from_cache(files: &[PathBuf]) -> io::Result<bool> {
    for path in files {
        let file = File::open(path)?;
        // Only what is on disk can be dropped.
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(true)
}

/// Take files out of the page cache; false where the system has no way to ask for that.
#[cfg(not(target_os = "linux"))]
pub(super) fn drop_from_cache(_files: &[PathBuf]) -> io::Result<bool> {
    Ok(false)
}

/// Read files one after the other without the page cache, as fast as plain reads go: bytes a second. `None` where the
/// cache cannot be taken away.
pub(super) fn cold_read_rate(files: &[PathBuf]) -> io::Result<Option<f64>> {
    if !drop_from_cache(files)? {
        return Ok(None);
    }
    let mut piece = vec![0; PIECE_BYTES];
    let mut n_bytes = 0;
    let start = Instant::now();
    for path in files {
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut piece)? {
                0 => break,
                n => n_bytes += n,
            }
        }
    }
    Ok(Some(n_bytes as f64 / start.elapsed().as_secs_f64()))
}
