//! Memory for packed weights: many matrices next to each other on huge pages.
//!
//! With 4 KB pages the hardware loses the stream at every page end, which costs a quarter of the bandwidth of
//! a single thread. A page of 2 MB for each matrix would waste more than small models are large, so matrices
//! share chunks.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::aligned::LINE;

const HUGE_PAGE: usize = 2 << 20;

/// Address space taken at once. Pages that are not written take no memory.
const CHUNK_BYTES: usize = 256 << 20;

/// The chunk that has room. The lock guards its fill level and is held for an addition, or for asking the
/// system for address space.
static CURRENT: Mutex<Option<(Weak<Chunk>, usize)>> = Mutex::new(None);

/// A piece of zeroed memory at the start of a cache line, on huge pages where the system has them.
pub(super) struct WeightBytes {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory; it goes back to the system with the last piece of it.
    _chunk: Arc<Chunk>,
}

// SAFETY: it owns plain bytes that no other piece overlaps.
unsafe impl Send for WeightBytes {}
// SAFETY: as above.
unsafe impl Sync for WeightBytes {}

struct Chunk {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the chunk itself never touches its bytes.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl WeightBytes {
    /// `len` zeroes; `None` when there is no memory for them.
    pub(super) fn zeroed(len: usize) -> Option<WeightBytes> {
        let room = len.checked_next_multiple_of(LINE)?;
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let open = current.take().and_then(|(chunk, used)| Some((chunk.upgrade()?, used)));
        let (chunk, used) = match open.filter(|(chunk, used)| room <= chunk.usable() - used) {
            Some(open) => open,
            None => (Arc::new(Chunk::new(room.max(CHUNK_BYTES))?), 0),
        };
        *current = Some((Arc::downgrade(&chunk), used + room));
        // SAFETY: `used + room` bytes are inside the chunk, and these are given to nobody else: the fill level
        // only grows.
        let start = unsafe { chunk.first_page().add(used) };
        Some(WeightBytes { start, len, _chunk: chunk })
    }
}

impl Chunk {
    fn new(usable: usize) -> Option<Chunk> {
        let bytes = usable.checked_next_multiple_of(HUGE_PAGE)?.checked_add(HUGE_PAGE)?;
        let layout = Layout::from_size_align(bytes, 8).ok()?;
        // SAFETY: the size is not zero. A request of this size is address space, not memory yet.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let chunk = Chunk { base, layout };
        #[cfg(target_os = "linux")]
        // SAFETY: whole pages of our own allocation. It is advice: a refusal changes nothing.
        unsafe {
            libc::madvise(chunk.first_page().as_ptr().cast(), chunk.usable(), libc::MADV_HUGEPAGE);
        }
        Some(chunk)
    }

    fn first_page(&self) -> NonNull<u8> {
        // SAFETY: the chunk is a huge page longer than what is used of it.
        unsafe { self.base.add(self.base.align_offset(HUGE_PAGE)) }
    }

    fn usable(&self) -> usize {
        self.layout.size() - HUGE_PAGE
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout; no piece is left.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
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
        assert!(WeightBytes::zeroed(isize::MAX as usize - HUGE_PAGE * 2).is_none());
    }
}
