//! Telling the disk what is about to be read, where it could not guess.
//!
//! Of the blocks of a window only the last are wanted, so what a restore reads has gaps. One record after the other,
//! each would wait for the disk on its own; told of all of them, the disk reads many at the same time.

use std::sync::Arc;

use crate::block_store::Wanted;
use crate::books::Books;
use crate::disk::DiskFile;
use crate::index::Place;

/// Bytes of one file without a gap.
pub(crate) struct Run {
    file: Arc<dyn DiskFile>,
    segment: u64,
    start: u64,
    end: u64,
}

impl Run {
    /// Say that it is about to be read.
    pub(crate) fn announce(&self) {
        self.file.will_read(self.start, self.end - self.start);
    }
}

/// A run of as many bytes is read ahead by any system, and better than when it is told.
const LONG_BYTES: u64 = 1 << 20;

/// Where `wanted` lie on disk in short runs.
pub(crate) fn runs<'a>(books: &Books, wanted: impl Iterator<Item = &'a Wanted>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Wanted { key, .. } in wanted {
        let Some(Place::Disk(spot)) = books.index.get(key) else { continue };
        let (segment, start, end) = (spot.at.segment, spot.at.offset, spot.at.offset + spot.n_bytes);
        match runs.last_mut() {
            Some(run) if run.segment == segment && run.end == start => run.end = end,
            _ => {
                let Some(found) = books.segments.get(&segment) else { continue };
                runs.push(Run { file: Arc::clone(&found.file), segment, start, end });
            }
        }
    }
    // One run is what any system reads ahead, however long it is.
    let is_told = runs.len() > 1;
    runs.retain(|run| is_told && run.end - run.start < LONG_BYTES);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::house::{config, key, open, record};
    use crate::testing::sim_disk::SimDisk;

    fn wanted(chain: u32, n: u32) -> Vec<Wanted> {
        (0..n).map(|idx| Wanted { key: key(chain, idx), room: None }).collect()
    }

    #[test]
    fn what_lies_between_other_blocks_is_announced_in_runs_and_what_has_no_gaps_is_not() {
        let mut house = open(&SimDisk::default(), &config(256 << 10)).unwrap();
        for (chain, idx) in [(0, 0), (0, 1), (2, 0), (0, 2), (2, 1), (0, 3), (4, 0), (4, 1)] {
            house.save(record(chain, idx));
        }
        let n_runs = |house: &crate::testing::house::House, wanted: &[Wanted]| {
            let runs = runs(&house.inner.shared.books(), wanted.iter());
            runs.iter().map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        assert!(n_runs(&house, &wanted(0, 4)).is_empty(), "not on disk yet");
        house.flush();
        let found = n_runs(&house, &wanted(0, 4));
        let n_bytes = found[1].1 - found[1].0;
        let lengths: Vec<u64> = found.iter().map(|(start, end)| (end - start) / n_bytes).collect();
        assert_eq!(lengths, [2, 1, 1]);
        assert!(found.windows(2).all(|two| two[1].0 == two[0].1 + n_bytes), "{found:?}");
        assert!(n_runs(&house, &wanted(4, 2)).is_empty(), "one after the other");
        assert!(n_runs(&house, &wanted(7, 3)).is_empty(), "not there");
    }
}
