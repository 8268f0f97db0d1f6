//! Those that read: they take what somebody waits for, piece by piece, verify it and hand it over.
//!
//! What the system has in memory is copied from there; what it does not have comes past its cache, which is faster.
//! But what is fetched like that a second time is better kept in that cache, and read through it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};

use address::BlockKey;

use crate::block_store::{MissReason, Wanted};
use crate::direct_buffer::DirectBuffer;
use crate::disk::{DiskFile, Patience, read_two_exact};
use crate::format::{
    BodyDigest, HeaderError, Kind, MAX_TOKENS, Position, RECORD_HEADER_BYTES, RecordHeader, tokens_of,
};
use crate::idle_buffers::{BlockBytes, IdleBuffers};
use crate::jobs::Read;
use crate::place::{Place, Spot};
use crate::record::BlockRecord;
use crate::state::{Shared, StoreState};

/// Threads that read: one alone copies and verifies more slowly than disks, and the page cache, give.
pub(crate) const N_READERS: usize = 2;
/// What can stand before a payload.
const MAX_FRONT_BYTES: u64 = (RECORD_HEADER_BYTES + 4 * MAX_TOKENS as usize) as u64;

/// Why a record is not there.
enum Failure {
    /// It is not to be had this way.
    NotSo,
    Miss(MissReason),
}

/// How bytes are got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// If the system has them in memory.
    Memory,
    /// Past the page cache.
    Direct,
    Cache,
}

/// One that reads.
#[derive(Default)]
pub(crate) struct Reader {
    direct: DirectBuffer,
    /// Whether a direct read of this piece has failed; then no other is tried in it.
    has_failed: bool,
}

/// A reader's thread: one piece after the other, until the store is dropped.
pub(crate) fn read_all(shared: &Shared) {
    let mut reader = Reader::default();
    loop {
        let read = {
            let mut state = shared.state();
            loop {
                if let Some(read) = state.reads.pop_front() {
                    break read;
                }
                if state.is_stopping {
                    return;
                }
                state = shared.reader_bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        reader.serve(shared, read);
    }
}

impl StoreState {
    /// Where the bytes end that are wanted from `spot` on without a gap.
    fn end_of_run<'a>(&self, spot: Spot, ahead: impl Iterator<Item = &'a Wanted>) -> u64 {
        let mut spots: Vec<Spot> = ahead
            .filter_map(|wanted| match self.index.get(&wanted.key) {
                Some(Place::Disk(next)) if next.at.segment == spot.at.segment => Some(*next),
                _ => None,
            })
            .collect();
        spots.sort_unstable_by_key(|next| next.at.offset);
        let end = spot.at.offset + spot.n_bytes;
        spots.iter().fold(end, |end, next| if next.at.offset == end { end + next.n_bytes } else { end })
    }
}

impl Reader {
    /// Read what somebody waits for and hand it over.
    pub(crate) fn serve(&mut self, shared: &Shared, mut read: Read) {
        let mut found = Vec::with_capacity(read.wanted.len());
        while let Some(wanted) = read.wanted.pop_front() {
            found.push(self.read_block(shared, wanted, &read.wanted));
        }
        self.direct.forget();
        self.has_failed = false;
        shared.state().n_reading -= 1;
        shared.writer_bell.notify_one();
        (read.deliver)(found);
    }

    /// Read and verify one block; those `ahead` are wanted next.
    fn read_block(
        &mut self,
        shared: &Shared,
        wanted: Wanted,
        ahead: &VecDeque<Wanted>,
    ) -> Result<BlockRecord, MissReason> {
        let Wanted { key, fingerprint, mut room } = wanted;
        // A block may be moved between the look into the index and the read; then it is looked up again, once.
        let mut tried = None;
        loop {
            let (spot, file, was_fetched) = {
                let mut state = shared.state();
                match state.index.find(&key).cloned() {
                    None => return Err(state.index.why_missing(&key)),
                    Some(Place::Queued(record)) => {
                        if fingerprint != record.fingerprint {
                            return Err(MissReason::Foreign);
                        }
                        state.index.touch(&key.hash);
                        state.counters.n_restored += 1;
                        drop(state);
                        let n_bytes = record.bytes.len();
                        let room = room.filter(|room| room.len() == n_bytes);
                        let mut bytes = room.unwrap_or_else(|| shared.buffers.take(n_bytes));
                        bytes.copy_from_slice(&record.bytes);
                        return Ok(BlockRecord { bytes, tokens: record.tokens.clone(), ..*record });
                    }
                    Some(Place::Disk(spot)) => {
                        let segment = state.segments.get(&spot.at.segment);
                        let file = segment.map(|segment| Arc::clone(&segment.file));
                        let Some(file) = file else { return Err(MissReason::Absent) };
                        (spot, file, state.fetched.contains(&key))
                    }
                }
            };
            let ways: &[Way] = if was_fetched || self.has_failed {
                &[Way::Cache]
            } else if self.direct.reaches(spot.at) {
                &[Way::Direct, Way::Cache]
            } else {
                &[Way::Memory, Way::Direct, Way::Cache]
            };
            let mut found = Err(Failure::NotSo);
            let mut is_fetched = false;
            for way in ways {
                found = match way {
                    Way::Direct => self.fetch(shared, &*file, &key, spot, &mut room, ahead),
                    Way::Memory if !begins_in_memory(&*file, spot) => Err(Failure::NotSo),
                    Way::Memory => {
                        read_through_cache(shared, &*file, &key, spot, &mut room, Patience::NoWait)
                    }
                    Way::Cache => read_through_cache(shared, &*file, &key, spot, &mut room, Patience::Wait),
                };
                if !matches!(found, Err(Failure::NotSo)) {
                    is_fetched = *way == Way::Direct;
                    break;
                }
            }
            let mut state = shared.state();
            let is_same = matches!(state.index.get(&key), Some(Place::Disk(now)) if *now == spot);
            match found {
                Ok(record) if fingerprint != record.fingerprint => {
                    return Err(MissReason::Foreign);
                }
                Ok(record) if is_same => {
                    state.index.touch(&key.hash);
                    state.counters.n_restored += 1;
                    match is_fetched {
                        true => state.note_fetched(key),
                        false if was_fetched => drop(state.fetched.remove(&key)),
                        false => {}
                    }
                    return Ok(record);
                }
                // Erased, or moved, while it was read.
                _ if !is_same && tried.is_none() => tried = Some(spot),
                Ok(_) => return Err(MissReason::Absent),
                Err(Failure::Miss(MissReason::Corrupt)) if is_same => {
                    state.quarantine(&key);
                    shared.writer_bell.notify_one();
                    return Err(MissReason::Corrupt);
                }
                Err(Failure::Miss(why)) => return Err(why),
                // A file that does not wait when asked to is no better than one that fails.
                Err(Failure::NotSo) => return Err(MissReason::Io),
            }
        }
    }

    /// Read a record past the page cache, with what is wanted behind it. Whatever is wrong with it is for a plain
    /// read to say.
    fn fetch(
        &mut self,
        shared: &Shared,
        file: &dyn DiskFile,
        key: &BlockKey,
        spot: Spot,
        room: &mut Option<BlockBytes>,
        ahead: &VecDeque<Wanted>,
    ) -> Result<BlockRecord, Failure> {
        let end = match self.direct.holds(spot) {
            true => 0,
            false => shared.state().end_of_run(spot, ahead.iter()),
        };
        let direct = &mut self.direct;
        let fill = |first: &mut [u8], second: &mut [u8], offset: u64| {
            direct.read(file, Position { offset, ..spot.at }, first, second, end)
        };
        let found = read_record(fill, key, spot, room, &shared.buffers);
        self.has_failed = found.is_err();
        found.map_err(|_| Failure::NotSo)
    }
}

/// Whether the system has the first byte in memory. Asked for all of a record, it begins to fetch all of it.
fn begins_in_memory(file: &dyn DiskFile, spot: Spot) -> bool {
    let found = file.read_at(&mut [0], &mut [], spot.at.offset, Patience::NoWait);
    !found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn read_through_cache(
    shared: &Shared,
    file: &dyn DiskFile,
    key: &BlockKey,
    spot: Spot,
    room: &mut Option<BlockBytes>,
    patience: Patience,
) -> Result<BlockRecord, Failure> {
    let fill = |first: &mut [u8], second: &mut [u8], offset: u64| {
        read_two_exact(file, first, second, offset, patience)
    };
    read_record(fill, key, spot, room, &shared.buffers)
}

/// Read the record at `spot` into `room`, which stays when it is not to be had this way. `fill` fills two buffers from
/// an offset on.
fn read_record(
    mut fill: impl FnMut(&mut [u8], &mut [u8], u64) -> io::Result<()>,
    key: &BlockKey,
    spot: Spot,
    room: &mut Option<BlockBytes>,
    buffers: &Arc<IdleBuffers>,
) -> Result<BlockRecord, Failure> {
    let corrupt = Failure::Miss(MissReason::Corrupt);
    // Who has room knows the payload's length, and the index the record's: one read gets all.
    let fits = |room: &BlockBytes| {
        let n_front = spot.n_bytes.saturating_sub(room.len() as u64);
        (RECORD_HEADER_BYTES as u64..=MAX_FRONT_BYTES).contains(&n_front)
    };
    let (mut front, mut payload) = match room.take().filter(fits) {
        Some(room) => (vec![0; spot.n_bytes as usize - room.len()], room),
        None => (vec![0; RECORD_HEADER_BYTES], buffers.take(0)),
    };
    if let Err(error) = fill(&mut front, &mut payload, spot.at.offset) {
        *room = Some(payload).filter(|payload| !payload.is_empty());
        return Err(failure(&error));
    }
    let bytes = front.first_chunk().ok_or(corrupt)?;
    let header = RecordHeader::decode(bytes).map_err(|error| match error {
        HeaderError::Damaged => Failure::Miss(MissReason::Corrupt),
        HeaderError::Version => Failure::Miss(MissReason::Version),
    })?;
    let Kind::Block(reason) = header.kind else { return Err(Failure::Miss(MissReason::Corrupt)) };
    if header.key != *key || header.record_bytes() != spot.n_bytes {
        return Err(Failure::Miss(MissReason::Corrupt));
    }
    if payload.len() as u64 != u64::from(header.payload_bytes) {
        // The header has matched its digest when the index was made, and the file was that long then.
        payload = buffers.take(header.payload_bytes as usize);
        front.resize(RECORD_HEADER_BYTES + 4 * header.n_tokens as usize, 0);
        let body = spot.at.offset + RECORD_HEADER_BYTES as u64;
        fill(&mut front[RECORD_HEADER_BYTES..], &mut payload, body).map_err(|error| failure(&error))?;
    }
    let tokens = &front[RECORD_HEADER_BYTES..];
    if BodyDigest::of(tokens, &payload) != header.body_digest {
        return Err(Failure::Miss(MissReason::Corrupt));
    }
    Ok(BlockRecord {
        key: *key,
        parent: header.parent,
        fingerprint: header.fingerprint,
        tokens: tokens_of(tokens),
        reason,
        bytes: payload,
    })
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::NotSo,
        io::ErrorKind::UnexpectedEof => Failure::Miss(MissReason::Corrupt),
        _ => Failure::Miss(MissReason::Io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rig::{MODEL, Rig, config, key, open, record};
    use crate::testing::sim_disk::{DirectReads, Fault, SimDisk};

    /// Some blocks of chain 0 in one file, with one of chain 2 in the middle.
    fn some_blocks(disk: &SimDisk) -> Rig {
        let mut rig = open(disk, &config(256 << 10)).unwrap();
        (0..3).for_each(|idx| rig.save(record(0, idx)));
        rig.save(record(2, 0));
        (3..6).for_each(|idx| rig.save(record(0, idx)));
        rig.flush();
        rig
    }

    fn wanted(blocks: impl Iterator<Item = u32>) -> Vec<Wanted> {
        blocks.map(|idx| Wanted { key: key(0, idx), fingerprint: MODEL, room: None }).collect()
    }

    fn right(blocks: impl Iterator<Item = u32>) -> Vec<Result<BlockRecord, MissReason>> {
        blocks.map(|idx| Ok(record(0, idx))).collect()
    }

    /// Disk operations of a restore of all of chain 0, which is right.
    fn n_ops(disk: &SimDisk, rig: &Rig) -> usize {
        let before = disk.n_ops();
        assert_eq!(rig.restore_all(wanted(0..6)), right(0..6));
        disk.n_ops() - before
    }

    #[test]
    fn what_is_not_in_memory_comes_in_runs_past_the_cache_and_through_it_in_turns() {
        let disk = SimDisk::default();
        let rig = some_blocks(&disk);
        // Header, tokens and payload apart, and a look before.
        let (each, runs) = (3 * 6, 2);
        assert_eq!(n_ops(&disk, &rig), each + 6);
        disk.set_cold(true);
        assert_eq!([(); 4].map(|()| n_ops(&disk, &rig)), [runs, each, runs, each]);
        disk.set_direct_reads(DirectReads::None);
        assert_eq!([(); 2].map(|()| n_ops(&disk, &rig)), [each, each], "not on this file system");
    }

    #[test]
    fn the_order_of_a_piece_need_not_be_that_of_the_file() {
        let disk = SimDisk::default();
        let rig = some_blocks(&disk);
        disk.set_cold(true);
        let order = [4, 0, 5, 2, 1, 3];
        assert_eq!(rig.restore_all(wanted(order.into_iter())), right(order.into_iter()));
    }

    #[test]
    fn a_read_that_fails_once_is_a_miss_or_was_not_needed() {
        for is_cold in [false, true] {
            let disk = SimDisk::default();
            let rig = some_blocks(&disk);
            disk.set_cold(is_cold);
            let mut n_missed = 0;
            for at in 0..n_ops(&disk, &rig) {
                rig.inner.shared.state().fetched.clear();
                disk.set_fault(Some(Fault::Once(disk.n_ops() + at)));
                let found = rig.restore_all(wanted(0..6));
                let n_right = found.iter().zip(right(0..6)).filter(|(found, right)| *found == right).count();
                let n_io = found.iter().filter(|found| **found == Err(MissReason::Io)).count();
                assert!(n_io <= 1 && n_right + n_io == 6, "read {at}: {found:?}");
                n_missed += n_io;
                assert_eq!(rig.restore_all(wanted(0..6)), right(0..6), "and the next time it is there");
            }
            // Looks, and direct reads, say nothing of the file.
            assert_eq!(n_missed, if is_cold { 0 } else { 3 * 6 });
        }
    }

    #[test]
    fn what_a_direct_read_makes_of_a_record_is_no_damage() {
        let disk = SimDisk::default();
        let rig = some_blocks(&disk);
        disk.set_cold(true);
        disk.set_direct_reads(DirectReads::Wrong);
        assert_eq!(n_ops(&disk, &rig), 1 + 3 * 6, "one is tried");
        assert_eq!(rig.inner.stats().n_quarantined, 0);
    }
}
