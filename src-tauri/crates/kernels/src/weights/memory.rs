//! Memory for packed weights: many matrices next to each other on huge pages.
//!
//! A page of 2 MB for each matrix would waste more than small models are large, so matrices share chunks.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::aligned::LINE;
use crate::huge_pages::{Backing, HugePages};

/// Address space taken at once. Pages that are not written take no memory.
const CHUNK_BYTES: usize = 256 << 20;

/// The chunk that has room. The lock guards its fill level and is held for an addition, or for asking the
/// system for address space.
static CURRENT: Mutex<Option<(Weak<HugePages>, usize)>> = Mutex::new(None);

/// Bytes of all pieces.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of all packed weights in this process. They are mapped, so the allocator knows nothing of them.
pub fn allocated_bytes() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

/// A piece of zeroed memory at the start of a cache line, on huge pages where the system has them.
pub(super) struct WeightBytes {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory; it goes back to the system with the last piece of it.
    _chunk: Arc<HugePages>,
}

// SAFETY: it owns plain bytes that no other piece overlaps.
unsafe impl Send for WeightBytes {}
// SAFETY: as above.
unsafe impl Sync for WeightBytes {}

impl WeightBytes {
    /// `len` zeroes; `None` when there is no memory for them.
    pub(super) fn zeroed(len: usize) -> Option<WeightBytes> {
        let room = len.checked_next_multiple_of(LINE)?;
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let open = current.take().and_then(|(chunk, used)| Some((chunk.upgrade()?, used)));
        let (chunk, used) = match open.filter(|(chunk, used)| room <= chunk.n_bytes() - used) {
            Some(open) => open,
            None => (Arc::new(HugePages::zeroed(room.max(CHUNK_BYTES), Backing::Promised).ok()?), 0),
        };
        *current = Some((Arc::downgrade(&chunk), used + room));
        // SAFETY: `used + room` bytes are inside the chunk, and these are given to nobody else: the fill level
        // only grows.
        let start = unsafe { chunk.start().add(used) };
        ALLOCATED.fetch_add(len, Ordering::Relaxed);
        Some(WeightBytes { start, len, _chunk: chunk })
    }
}

impl Drop for WeightBytes {
    fn drop(&mut self) {
        ALLOCATED.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Deref for WeightBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes of a chunk that this piece keeps.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for WeightBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and no other piece overlaps.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_aligned_and_apart() {
        let mut pieces: Vec<WeightBytes> =
            [1, 64, 1000, 0, 300 << 20, 5].map(|len| WeightBytes::zeroed(len).unwrap()).into();
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.start.addr().get().is_multiple_of(LINE));
            assert!(piece.iter().take(4096).all(|byte| *byte == 0));
            let n = piece.len().min(4096);
            piece[..n].fill(i as u8 + 1);
        }
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().take(4096).all(|byte| usize::from(*byte) == i + 1));
        }
        assert!(WeightBytes::zeroed(usize::MAX - 10).is_none());
        assert!(WeightBytes::zeroed(isize::MAX as usize - (4 << 20)).is_none());
    }
}
