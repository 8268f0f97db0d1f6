//! Reading past the page cache.
//!
//! A file that the system has nothing of in memory comes through its cache in steps that begin small, in single
//! pages, and go on beyond what is wanted. Asked for in large aligned pieces, straight into one huge page, the disk
//! gives what it can from the first byte on.

use std::io;
use std::ops::Range;

use memmap2::MmapMut;

use crate::disk::DiskFile;

/// Bytes of a piece: a huge page.
const PIECE_BYTES: usize = 2 << 20;

/// What offsets, lengths and addresses of direct reads are multiples of.
pub(crate) const ALIGNMENT: usize = 4096;

/// A buffer that disks write into, and which bytes of which segment it holds.
#[derive(Default)]
pub(crate) struct Bounce {
    /// Twice the size, so that a huge page fits wherever it begins; there once it was needed.
    memory: Option<MmapMut>,
    segment: u64,
    held: Range<u64>,
}

impl Bounce {
    /// Nothing that was read before is to be found here any more.
    pub(crate) fn forget(&mut self) {
        self.held = 0..0;
    }

    /// Whether all of these bytes are here.
    pub(crate) fn holds(&self, segment: u64, bytes: &Range<u64>) -> bool {
        self.segment == segment && self.held.start <= bytes.start && bytes.end <= self.held.end
    }

    /// Fill `first` from `offset` on and then `second`. What is not here is read from `file`, up to `end` if that is
    /// not too much.
    ///
    /// # Errors
    /// The file, or its file system, cannot be read so, or it ends before.
    pub(crate) fn read(
        &mut self,
        file: &dyn DiskFile,
        segment: u64,
        first: &mut [u8],
        second: &mut [u8],
        offset: u64,
        end: u64,
    ) -> io::Result<()> {
        let mut at = offset;
        for mut part in [first, second] {
            while !part.is_empty() {
                if !self.holds(segment, &(at..at + 1)) {
                    self.fetch(file, segment, at, end)?;
                }
                let from = (at - self.held.start) as usize;
                let n = part.len().min((self.held.end - at) as usize);
                let (now, rest) = part.split_at_mut(n);
                now.copy_from_slice(&self.piece()?[from..from + n]);
                part = rest;
                at += n as u64;
            }
        }
        Ok(())
    }

    /// Read a piece that has `at` in it and, if it fits, goes on to `end`.
    fn fetch(&mut self, file: &dyn DiskFile, segment: u64, at: u64, end: u64) -> io::Result<()> {
        self.forget();
        let align = ALIGNMENT as u64;
        let start = at / align * align;
        let wanted = end.max(at + 1) - start;
        // Two halves come faster than a whole and a small rest.
        let n_pieces = wanted.div_ceil(PIECE_BYTES as u64);
        let n_bytes = wanted.div_ceil(n_pieces).next_multiple_of(align) as usize;
        let n = file.read_direct(&mut self.piece()?[..n_bytes], start)?;
        let held = start..start + n as u64;
        if !held.contains(&at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.segment, self.held) = (segment, held);
        Ok(())
    }

    fn piece(&mut self) -> io::Result<&mut [u8]> {
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => {
                let memory = MmapMut::map_anon(2 * PIECE_BYTES)?;
                // With small pages it is only slower.
                #[cfg(target_os = "linux")]
                let _ = memory.advise(memmap2::Advice::HugePage);
                memory
            }
        };
        let memory = self.memory.insert(memory);
        let start = memory.as_ptr().align_offset(PIECE_BYTES);
        memory.get_mut(start..start + PIECE_BYTES).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, write_all};
    use crate::testing::sim_disk::SimDisk;

    fn content(n: usize) -> Vec<u8> {
        (0..n).map(|idx| (idx / 3) as u8 ^ (idx >> 11) as u8).collect()
    }

    fn check(disk: &dyn Disk, path: &Path) {
        const N: usize = 5_000_000;
        let file = disk.create(path).unwrap();
        let bytes = content(N);
        write_all(&*file, &bytes, 0).unwrap();
        file.sync().unwrap();
        let mut bounce = Bounce::default();
        let mut read = |n_first: usize, n_second: usize, offset: usize, end: usize| {
            let (mut first, mut second) = (vec![0; n_first], vec![0; n_second]);
            let done = bounce.read(&*file, 3, &mut first, &mut second, offset as u64, end as u64);
            done.map(|()| [first, second].concat() == bytes[offset..offset + n_first + n_second])
        };
        for (n_first, n_second, offset, end) in [
            (320, 98_304, 64, 4_200_000),
            (320, 98_304, 98_688, 4_200_000),
            // Over the end of a piece, larger than one, before the piece, up to the file's end.
            (320, 98_304, 2_090_000, 4_200_000),
            (100, 3_000_000, 1_234_567, 0),
            (1, 1, 4095, 4097),
            (0, 1000, N - 1000, N + 5000),
        ] {
            assert!(read(n_first, n_second, offset, end).unwrap(), "{offset}");
        }
        let error = read(0, 1000, N - 999, N).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn any_bytes_of_a_file_come_as_they_are() {
        check(&SimDisk::default(), Path::new("/file"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn and_from_a_real_disk() {
        // Not every file system reads directly; the folder of the build is on one that does.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target");
        let path = folder.join(format!("direct-read-{}", std::process::id()));
        check(&crate::real_disk::RealDisk, &path);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_piece_is_asked_for_once_and_holds_what_follows() {
        let disk = SimDisk::default();
        let file = disk.create(Path::new("/file")).unwrap();
        write_all(&*file, &content(3 << 20), 0).unwrap();
        let mut bounce = Bounce::default();
        let mut record = vec![0; 100_000];
        let before = disk.n_ops();
        for idx in 0..24 {
            let offset = 64 + idx * 100_000;
            bounce.read(&*file, 1, &mut record, &mut [], offset, 64 + 2_400_000).unwrap();
        }
        assert_eq!(disk.n_ops() - before, 2, "in two halves");
        assert!(bounce.holds(1, &(2_300_064..2_400_064)));
        assert!(!bounce.holds(2, &(2_300_064..2_400_064)));
        bounce.forget();
        assert!(!bounce.holds(1, &(2_300_064..2_300_065)));
    }
}
