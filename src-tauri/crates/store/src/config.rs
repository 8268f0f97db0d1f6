//! Where the store is, what it may take, and what lies where.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the store is and what it may take.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its directory; nobody else's files belong there.
    pub dir: PathBuf,
    /// Bytes that the directory takes at most, temporary files and room for compaction included.
    pub max_bytes: u64,
    /// Bytes of the disk that stay free.
    pub free_space_floor: u64,
    /// Bytes of records in memory that are not durable yet, at most.
    pub queue_bytes: u64,
    /// Bytes of a segment at most, unless a single record is larger.
    pub segment_bytes: u64,
    /// A record is durable this long after it was queued at the latest, as far as the disk keeps up.
    pub commit_after: Duration,
    /// Anonymous prompts of fewer tokens are not worth writing.
    pub min_anonymous_tokens: usize,
    /// Called once with the directory; on macOS it sets the attribute that keeps Time Machine away.
    pub exclude_from_backup: fn(&Path) -> io::Result<()>,
    /// Wait before the first attempt after a failure; it doubles up to 32 times that.
    pub retry_after: Duration,
}

impl StoreConfig {
    /// The defaults for a directory and a cap.
    pub fn new(dir: PathBuf, max_bytes: u64) -> StoreConfig {
        StoreConfig {
            dir,
            max_bytes,
            free_space_floor: 2 << 30,
            queue_bytes: 64 << 20,
            segment_bytes: (max_bytes / 16).clamp(1 << 20, 64 << 20),
            commit_after: Duration::from_millis(500),
            min_anonymous_tokens: 256,
            exclude_from_backup: crate::backup::exclude,
            retry_after: Duration::from_secs(1),
        }
    }
}

pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

pub(crate) fn agents_dir(dir: &Path) -> PathBuf {
    dir.join("agents")
}

pub(crate) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    segments_dir(dir).join(format!("{id:016x}.kv"))
}
