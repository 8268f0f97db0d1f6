//! The memory of the KV pool: blocks of equal size, zero until written.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::huge_pages::{Backing, HugePages};

/// No system has smaller pages.
const SMALLEST_PAGE_BYTES: usize = 4096;

/// `n_blocks` blocks of `block_bytes` bytes, 64-byte aligned and zero at first.
///
/// The system gives each page when it is first written, so a large pool costs what of it is used.
pub struct KvArena {
    map: Arc<Mapping>,
    n_blocks: usize,
    block_bytes: usize,
    /// Distance of two blocks: `block_bytes` rounded up to whole cache lines.
    stride: usize,
}

/// The arena's memory, which stays as long as a block of it is lent.
///
/// What is reached through it is [`KvArena`]'s, by the rules for references to that, but for lent blocks, which are
/// [`LentBlock`]'s alone.
struct Mapping {
    /// A layer's part of a block is a few pages of 4 KiB far from the next: with such pages, decoding would wait for
    /// the address translation of nearly each of them.
    pages: HugePages,
    /// Blocks that somebody else fills: the arena does not touch them.
    lent: Box<[AtomicBool]>,
}

/// A block to be filled by another thread while the arena is in use. Until it is dropped, whoever touches that block
/// of the arena panics.
pub struct LentBlock {
    map: Arc<Mapping>,
    idx: usize,
    start: NonNull<u8>,
    n_bytes: usize,
}

// SAFETY: it is the only way to its block, as a `Box<[u8]>` would be.
unsafe impl Send for LentBlock {}
// SAFETY: as above; `&LentBlock` gives only `&[u8]`.
unsafe impl Sync for LentBlock {}

impl Deref for LentBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: initialised (zero pages) memory of the mapping that `map` holds; nobody else touches a lent block.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.n_bytes) }
    }
}

impl DerefMut for LentBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.n_bytes) }
    }
}

impl Drop for LentBlock {
    fn drop(&mut self) {
        // Release: what was written to the block is seen by whoever sees that it is back.
        self.map.lent[self.idx].store(false, Ordering::Release);
    }
}

/// The memory of a pool could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArenaError {
    /// Blocks asked for.
    pub n_blocks: usize,
    /// Bytes of each.
    pub block_bytes: usize,
    /// What the system said.
    pub cause: String,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for {} KV blocks of {} bytes: {}", self.n_blocks, self.block_bytes, self.cause)
    }
}

impl std::error::Error for ArenaError {}

impl KvArena {
    /// Reserves the blocks.
    ///
    /// # Errors
    /// The system refuses so much address space, or the size overflows.
    pub fn new(n_blocks: usize, block_bytes: usize) -> Result<KvArena, ArenaError> {
        let error = |cause: String| ArenaError { n_blocks, block_bytes, cause };
        let stride = block_bytes.checked_next_multiple_of(64).ok_or_else(|| error("too large".into()))?;
        let mapped_bytes = stride.checked_mul(n_blocks).ok_or_else(|| error("too large".into()))?;
        let pages = HugePages::zeroed(mapped_bytes, Backing::WhenWritten);
        let pages = pages.map_err(|cause| error(cause.to_string()))?;
        let lent = (0..n_blocks).map(|_| AtomicBool::new(false)).collect();
        let map = Arc::new(Mapping { pages, lent });
        Ok(KvArena { map, n_blocks, block_bytes, stride })
    }

    /// How many blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Take the memory of the first blocks, `n_bytes` of it or all there is, instead of when they are first written.
    /// What is in them stays.
    ///
    /// # Panics
    /// When a block is lent.
    pub fn take_memory(&mut self, n_bytes: u64) {
        assert!(!self.map.lent.iter().any(|lent| lent.load(Ordering::Acquire)), "a block is lent");
        let n_bytes = n_bytes.min(self.map.pages.n_bytes() as u64) as usize;
        for at in (0..n_bytes).step_by(SMALLEST_PAGE_BYTES) {
            // SAFETY: inside the mapping, which is borrowed exclusively; volatile, so that writing what was read is
            // not left out.
            unsafe {
                let byte = self.map.pages.start().as_ptr().add(at);
                byte.write_volatile(byte.read());
            }
        }
    }

    /// The bytes of block `i`.
    ///
    /// # Panics
    /// When there is no block `i`.
    pub fn block(&self, i: usize) -> &[u8] {
        // SAFETY: initialised (zero pages) memory of this arena, shared for as long as `self` is.
        unsafe { std::slice::from_raw_parts(self.block_ptr(i), self.block_bytes) }
    }

    /// The bytes of block `i`, to write.
    ///
    /// # Panics
    /// When there is no block `i`.
    pub fn block_mut(&mut self, i: usize) -> &mut [u8] {
        // SAFETY: as in `block`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.block_ptr(i), self.block_bytes) }
    }

    /// Lends block `i` to be filled elsewhere; until it comes back, nobody may touch it here.
    ///
    /// # Panics
    /// When there is no block `i`, or it is lent.
    pub fn lend(&mut self, i: usize) -> LentBlock {
        let start = NonNull::new(self.block_ptr(i)).expect("inside a mapping that does not start at 0");
        // `self` is borrowed exclusively: nobody looks at the block, or lends it, at the same time.
        self.map.lent[i].store(true, Ordering::Relaxed);
        LentBlock { map: Arc::clone(&self.map), idx: i, start, n_bytes: self.block_bytes }
    }

    /// Copies the bytes of one block over another.
    ///
    /// # Panics
    /// When one of them does not exist.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let (source, target) = (self.block_ptr(from), self.block_ptr(to));
        // SAFETY: both are whole blocks of this arena, which is borrowed exclusively; `copy` allows `from == to`.
        unsafe { std::ptr::copy(source, target, self.block_bytes) };
    }

    /// The address of block `i`; what may be done with it follows from how `self` is borrowed.
    ///
    /// # Panics
    /// When there is no block `i`, or it is lent.
    pub(crate) fn block_ptr(&self, i: usize) -> *mut u8 {
        assert!(i < self.n_blocks, "block {i} of {}", self.n_blocks);
        // Acquire: what its borrower wrote is there.
        assert!(!self.map.lent[i].load(Ordering::Acquire), "block {i} is lent");
        // SAFETY: inside the mapping by the assertion.
        unsafe { self.map.pages.start().as_ptr().add(i * self.stride) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_zero_and_apart() {
        let mut arena = KvArena::new(5, 100).unwrap();
        for i in 0..5 {
            assert_eq!(arena.block(i), [0; 100]);
            assert_eq!(arena.block(i).as_ptr() as usize % 64, 0);
            arena.block_mut(i).fill(i as u8 + 1);
        }
        arena.copy_block(3, 1);
        arena.copy_block(2, 2);
        let firsts: Vec<u8> = (0..5).map(|i| arena.block(i)[99]).collect();
        assert_eq!(firsts, [1, 4, 3, 4, 5]);
    }

    #[test]
    fn taking_memory_changes_nothing_and_ends_with_the_pool() {
        let mut arena = KvArena::new(3, 5000).unwrap();
        (0..3).for_each(|i| arena.block_mut(i).fill(7 + i as u8));
        arena.take_memory(9000);
        arena.take_memory(u64::MAX);
        assert!((0..3).all(|i| arena.block(i).iter().all(|byte| *byte == 7 + i as u8)));
    }

    #[test]
    fn a_lent_block_is_filled_by_another_thread_and_outlives_the_arena() {
        let mut arena = KvArena::new(3, 5000).unwrap();
        let (mut lent, mut forgotten) = (arena.lend(1), arena.lend(2));
        arena.block_mut(0).fill(1);
        let lent = std::thread::spawn(move || {
            lent.fill(7);
            lent
        });
        drop(lent.join().unwrap());
        assert!(arena.block(1).iter().all(|byte| *byte == 7) && arena.block(0)[4999] == 1);
        drop(arena.lend(1));
        drop(arena);
        forgotten.fill(9);
        assert_eq!((forgotten[0], forgotten.len()), (9, 5000));
    }

    #[test]
    #[should_panic(expected = "block 1 is lent")]
    fn a_lent_block_is_not_touched() {
        let mut arena = KvArena::new(3, 64).unwrap();
        let _lent = arena.lend(1);
        arena.copy_block(0, 1);
    }

    #[test]
    #[should_panic(expected = "block 1 is lent")]
    fn a_block_is_lent_once() {
        let mut arena = KvArena::new(3, 64).unwrap();
        let _lent = (arena.lend(1), arena.lend(1));
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        assert!(KvArena::new(usize::MAX, 64).is_err());
        let error = KvArena::new(1 << 40, 1 << 20).err().unwrap();
        assert!(error.to_string().starts_with("no memory for 1099511627776 KV blocks of 1048576 bytes: "));
    }

    #[test]
    #[should_panic(expected = "block 2 of 2")]
    fn a_block_that_does_not_exist_is_refused() {
        KvArena::new(2, 64).unwrap().block(2);
    }
}
