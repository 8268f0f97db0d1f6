//! Zeroed memory of the system's, on huge pages where it has them. Pages that nobody writes take no memory.
//!
//! With pages of 4 KiB the hardware loses a stream at every page's end, which costs a quarter of the bandwidth of a
//! single thread, and who jumps from page to page waits for the address of nearly each of them.

use std::io;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};

/// Bytes of a huge page.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Whether the system has to have the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// It refuses what it could not give.
    Promised,
    /// It gives addresses, however many, and memory when it is written.
    WhenWritten,
}

/// A piece of memory that begins at a huge page. What may be done with its bytes is its owner's to say.
pub(crate) struct HugePages {
    map: MmapRaw,
    /// Bytes of the map in front of the first huge page.
    padding: usize,
    n_bytes: usize,
}

impl HugePages {
    /// `n_bytes` zeroes.
    ///
    /// # Errors
    /// The system has no memory or no addresses for them.
    pub(crate) fn zeroed(n_bytes: usize, backing: Backing) -> io::Result<HugePages> {
        // So much more that they fit wherever the map begins.
        let n_mapped = n_bytes.checked_add(HUGE_PAGE).filter(|n| *n <= isize::MAX as usize);
        let mut options = MmapOptions::new();
        options.len(n_mapped.ok_or_else(|| io::Error::other("too large"))?);
        if backing == Backing::WhenWritten {
            options.no_reserve_swap();
        }
        let map = options.map_anon()?;
        // With small pages it is only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let padding = map.as_ptr().align_offset(HUGE_PAGE);
        Ok(HugePages { map: MmapRaw::from(map), padding, n_bytes })
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        let start = self.map.as_mut_ptr().wrapping_add(self.padding);
        NonNull::new(start).expect("inside a map that does not end at the last address")
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_begin_at_a_huge_page_whatever_their_size() {
        for n_bytes in [0, 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, 300 << 20] {
            for backing in [Backing::Promised, Backing::WhenWritten] {
                let pages = HugePages::zeroed(n_bytes, backing).unwrap();
                assert!(pages.start().addr().get().is_multiple_of(HUGE_PAGE));
                assert!(pages.padding + n_bytes <= pages.map.len());
                assert_eq!(pages.n_bytes(), n_bytes);
            }
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        for backing in [Backing::Promised, Backing::WhenWritten] {
            assert!(HugePages::zeroed(usize::MAX, backing).is_err());
            assert!(HugePages::zeroed(isize::MAX as usize - HUGE_PAGE, backing).is_err());
        }
    }
}
