//! Reading past the page cache.
//!
//! A file that the system has nothing of in memory comes through its cache in steps that begin small, in single
//! pages, and go on beyond what is wanted. Asked for in large aligned pieces, straight into one huge page, the disk
//! gives what it can from the first byte on.

use std::io;
use std::ops::Range;

use memmap2::MmapMut;

use crate::disk::{ALIGNMENT, DiskFile};
use crate::format::Position;
use crate::place::Spot;

/// Bytes of a piece: a huge page.
const PIECE_BYTES: usize = 2 << 20;

/// A buffer that disks write into, and which bytes of which segment it holds.
#[derive(Default)]
pub(crate) struct DirectBuffer {
    /// Twice the size, so that a huge page fits wherever it begins; there once it was needed.
    memory: Option<MmapMut>,
    segment: u64,
    held: Range<u64>,
}

impl DirectBuffer {
    /// Nothing that was read before is to be found here any more.
    pub(crate) fn forget(&mut self) {
        self.held = 0..0;
    }

    /// Whether what begins there is here, or goes on from what is.
    pub(crate) fn reaches(&self, at: Position) -> bool {
        self.segment == at.segment && self.held.start <= at.offset && at.offset <= self.held.end
    }

    /// Whether all of a record is here.
    pub(crate) fn holds(&self, spot: Spot) -> bool {
        self.reaches(spot.at) && spot.at.offset + spot.n_bytes <= self.held.end
    }

    /// Fill `first` from `at` on and then `second`. What is not here is read from `file`, up to `end` if that is not
    /// too much.
    ///
    /// # Errors
    /// The file, or its file system, cannot be read so, or it ends before.
    pub(crate) fn read(
        &mut self,
        file: &dyn DiskFile,
        mut at: Position,
        first: &mut [u8],
        second: &mut [u8],
        end: u64,
    ) -> io::Result<()> {
        for mut part in [first, second] {
            while !part.is_empty() {
                if !self.reaches(at) || at.offset == self.held.end {
                    self.fetch(file, at, end)?;
                }
                let from = (at.offset - self.held.start) as usize;
                let n = part.len().min((self.held.end - at.offset) as usize);
                let (now, rest) = part.split_at_mut(n);
                now.copy_from_slice(&self.piece()?[from..from + n]);
                part = rest;
                at.offset += n as u64;
            }
        }
        Ok(())
    }

    /// Read a piece that has `at` in it and, if it fits, goes on to `end`.
    fn fetch(&mut self, file: &dyn DiskFile, at: Position, end: u64) -> io::Result<()> {
        self.forget();
        let align = ALIGNMENT as u64;
        let start = at.offset / align * align;
        let wanted = end.max(at.offset + 1) - start;
        // Two halves come faster than a whole and a small rest.
        let n_pieces = wanted.div_ceil(PIECE_BYTES as u64);
        let n_bytes = wanted.div_ceil(n_pieces).next_multiple_of(align) as usize;
        let n = file.read_direct(&mut self.piece()?[..n_bytes], start)?;
        let held = start..start + n as u64;
        if !held.contains(&at.offset) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.segment, self.held) = (at.segment, held);
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

    fn at(segment: u64, offset: u64) -> Position {
        Position { segment, offset }
    }

    fn check(file: &dyn DiskFile) {
        const N: usize = 5_000_000;
        let bytes = content(N);
        write_all(file, &bytes, 0).unwrap();
        file.sync().unwrap();
        let mut direct = DirectBuffer::default();
        let mut read = |n_first: usize, n_second: usize, offset: usize, end: usize| {
            let (mut first, mut second) = (vec![0; n_first], vec![0; n_second]);
            let done = direct.read(file, at(3, offset as u64), &mut first, &mut second, end as u64);
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
        check(&*SimDisk::default().create(Path::new("/file")).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn and_from_a_real_disk() {
        let path = std::env::current_exe().unwrap().with_extension(format!("direct-{}", std::process::id()));
        let file = crate::real_disk::RealDisk.create(&path).unwrap();
        // It is opened again by its number.
        std::fs::remove_file(path).unwrap();
        match DirectBuffer::default().read(&*file, at(1, 0), &mut [0], &mut [], 1).unwrap_err().kind() {
            // Not every file system reads directly: there it says so every time, also of a file that is not empty, and
            // a plain read gives what is there.
            io::ErrorKind::InvalidInput => {
                let bytes = content(10_000);
                write_all(&*file, &bytes, 0).unwrap();
                let mut direct = DirectBuffer::default();
                let error = direct.read(&*file, at(1, 0), &mut [0; 100], &mut [], 100).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(!direct.reaches(at(1, 1)), "nothing was read");
                let mut read = vec![0; bytes.len()];
                crate::disk::read_exact(&*file, &mut read, 0).unwrap();
                assert_eq!(read, bytes);
            }
            kind => {
                assert_eq!(kind, io::ErrorKind::UnexpectedEof, "it is empty");
                check(&*file);
            }
        }
    }

    #[test]
    fn a_piece_is_asked_for_once_and_holds_what_follows() {
        let disk = SimDisk::default();
        let file = disk.create(Path::new("/file")).unwrap();
        write_all(&*file, &content(3 << 20), 0).unwrap();
        let mut direct = DirectBuffer::default();
        let mut record = vec![0; 100_000];
        let before = disk.n_ops();
        for idx in 0..24 {
            let offset = 64 + idx * 100_000;
            direct.read(&*file, at(1, offset), &mut record, &mut [], 64 + 2_400_000).unwrap();
        }
        assert_eq!(disk.n_ops() - before, 2, "in two halves");
        let last = Spot { at: at(1, 2_300_064), n_bytes: 100_000 };
        assert!(direct.holds(last) && !direct.holds(Spot { n_bytes: 200_000, ..last }));
        assert!(!direct.holds(Spot { at: at(2, 2_300_064), ..last }));
        assert!(direct.reaches(at(1, 2_400_064)));
        direct.forget();
        assert!(!direct.reaches(last.at));
    }
}
