//! Zeroed memory of our own that starts at a cache line.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The size of a cache line and of the widest vector register.
pub(crate) const LINE: usize = 64;

/// Types for which all bits zero are a value, and which need no drop.
///
/// # Safety
/// Both must hold.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: numbers.
unsafe impl Zeroable for u8 {}
// SAFETY: numbers.
unsafe impl Zeroable for i8 {}
// SAFETY: numbers.
unsafe impl Zeroable for f32 {}

/// A slice of `T` aligned to [`LINE`], zeroed when made; pages that nobody touched take no memory.
pub(crate) struct AlignedBuf<T: Zeroable> {
    /// What the allocator gave, up to a line before `start`. Asking it for the alignment would make it fill
    /// the zeroes in by hand instead of taking fresh pages.
    base: *mut u8,
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it owns plain numbers, like a `Vec`.
unsafe impl<T: Zeroable + Send> Send for AlignedBuf<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroable + Sync> Sync for AlignedBuf<T> {}

impl<T: Zeroable> AlignedBuf<T> {
    /// `len` zeroes; `None` when there is no memory for them.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        // SAFETY: the size is at least a line.
        let base = unsafe { alloc_zeroed(Self::layout(len)?) };
        let padding = base.align_offset(LINE);
        // SAFETY: the allocation is a line longer than the slice, and the padding shorter than a line.
        let start = NonNull::new(base).map(|base| unsafe { base.add(padding) })?.cast();
        Some(AlignedBuf { base, start, len })
    }

    /// No elements, no memory.
    pub(crate) const fn empty() -> Self {
        AlignedBuf { base: std::ptr::null_mut(), start: NonNull::dangling(), len: 0 }
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = Layout::array::<T>(len).ok()?.size();
        Layout::from_size_align(bytes.checked_add(LINE)?, 8).ok()
    }
}

impl<T: Zeroable> Drop for AlignedBuf<T> {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len).filter(|_| !self.base.is_null()) {
            // SAFETY: allocated in `zeroed` with this very layout.
            unsafe { dealloc(self.base, layout) }
        }
    }
}

impl<T: Zeroable> Deref for AlignedBuf<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised elements, owned by this buffer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for AlignedBuf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes it the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}
