//! Those that read: they take what somebody waits for, piece by piece, verify it and hand it over.
//!
//! What the system has in memory, two of them read faster than one, wherever it lies. What it has to fetch comes
//! fastest when a file is read by one, from front to end: so the second, when it meets something that is not there
//! yet, gives its piece back and looks for one in another file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError};

use crate::block_store::{BlockKey, BlockRecord, Deliver, MissReason, Wanted};
use crate::books::{Books, Shared};
use crate::disk::{DiskFile, Patience, read_two_exact};
use crate::format::{
    BodyDigest, HeaderError, Kind, MAX_TOKENS, Position, RECORD_HEADER_BYTES, RecordHeader, tokens_of,
};
use crate::index::{Place, Spot};
use crate::read_ahead::{Run, runs};
use crate::spares::{BlockBytes, Spares};

/// Threads that read: one alone copies and verifies more slowly than disks, and the page cache, give.
pub(crate) const N_READERS: usize = 2;
/// What can stand before a payload.
const MAX_FRONT_BYTES: u64 = (RECORD_HEADER_BYTES + 4 * MAX_TOKENS as usize) as u64;

/// A piece: blocks to read, and who waits for them.
pub(crate) struct Read {
    wanted: VecDeque<Wanted>,
    /// What became of those before.
    found: Vec<Result<BlockRecord, MissReason>>,
    /// Whether the disk knows.
    is_announced: bool,
    deliver: Deliver,
}

impl Read {
    pub(crate) fn new(wanted: Vec<Wanted>, deliver: Deliver) -> Read {
        Read { found: Vec::with_capacity(wanted.len()), wanted: wanted.into(), is_announced: false, deliver }
    }
}

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    at: Position,
    /// Whether it has waited for the disk, in this piece or the one before.
    is_waiting: bool,
}

/// Why a record is not there.
enum Failure {
    /// The disk would have to be waited for.
    NotYet,
    Miss(MissReason),
}

/// A reader's thread: one piece after the other, until the store is dropped.
pub(crate) fn read_all(shared: &Shared, reader: usize) {
    loop {
        let (read, runs) = {
            let mut books = shared.books();
            loop {
                let runs = to_announce(&mut books);
                if let Some(read) = books.pick_read(reader) {
                    break (read, runs);
                }
                books.reading[reader] = None;
                if books.is_stopping && books.reads.is_empty() {
                    return;
                }
                books = shared.reader_bell.wait(books).unwrap_or_else(PoisonError::into_inner);
            }
        };
        runs.iter().for_each(Run::announce);
        serve(shared, reader, read);
    }
}

/// What of the reads that wait the disk should know of, and does not.
fn to_announce(books: &mut Books) -> Vec<Run> {
    let mut reads = std::mem::take(&mut books.reads);
    let mut found = Vec::new();
    for read in reads.iter_mut().filter(|read| !read.is_announced) {
        read.is_announced = true;
        found.extend(runs(books, read.wanted.iter()));
    }
    books.reads = reads;
    found
}

impl Books {
    /// The next piece for a reader: not in a file in which another waits for the disk.
    pub(crate) fn pick_read(&mut self, reader: usize) -> Option<Read> {
        let is_free = |read: &Read| {
            let first = read.wanted.front().and_then(|wanted| self.index.get(&wanted.key));
            let Some(Place::Disk(spot)) = first else { return true };
            let mut others = self.reading.iter().enumerate().filter(|(idx, _)| *idx != reader);
            !others.any(|(_, other)| {
                other.is_some_and(|other| other.is_waiting && other.at.segment == spot.at.segment)
            })
        };
        let found = self.reads.iter().position(is_free)?;
        self.reads.remove(found)
    }

    /// A reader goes on at a place.
    fn move_to(&mut self, reader: usize, at: Position) {
        let before = self.reading[reader].filter(|reading| reading.at.segment == at.segment);
        self.reading[reader] =
            Some(Reading { at, is_waiting: before.is_some_and(|before| before.is_waiting) });
    }

    /// A reader met something that is not in memory: true when it is to wait for it, false when another comes by
    /// there, from front to end.
    fn may_wait(&mut self, reader: usize, at: Position) -> bool {
        let is_before = |other: &Reading| other.at.segment == at.segment && other.at.offset < at.offset;
        let others = self.reading.iter_mut().enumerate().filter(|(idx, _)| *idx != reader);
        let before = others.filter_map(|(_, other)| other.as_mut()).find(|other| is_before(other));
        if let Some(before) = before {
            // It will have to, and until then there is nothing to do for others.
            before.is_waiting = true;
            return false;
        }
        self.reading[reader] = Some(Reading { at, is_waiting: true });
        true
    }
}

/// Read what somebody waits for and hand it over, unless it is to be read by another.
pub(crate) fn serve(shared: &Shared, reader: usize, mut read: Read) {
    let mut has_waited = false;
    while let Some(wanted) = read.wanted.pop_front() {
        match read_block(shared, reader, wanted, &mut has_waited) {
            Ok(found) => read.found.push(found),
            Err(wanted) => {
                read.wanted.push_front(wanted);
                shared.books().reads.push_front(read);
                return;
            }
        }
    }
    {
        let mut books = shared.books();
        books.n_reading -= 1;
        if let Some(reading) = &mut books.reading[reader] {
            reading.is_waiting = has_waited;
        }
        if !books.reads.is_empty() {
            shared.reader_bell.notify_all();
        }
    }
    shared.writer_bell.notify_one();
    (read.deliver)(read.found);
}

/// Read and verify one block; `Err` when another is to do it.
fn read_block(
    shared: &Shared,
    reader: usize,
    wanted: Wanted,
    has_waited: &mut bool,
) -> Result<Result<BlockRecord, MissReason>, Wanted> {
    let Wanted { key, mut room } = wanted;
    // A block may be moved between the look into the index and the read; then it is looked up again, once.
    let mut tried = None;
    loop {
        let (spot, file, model) = {
            let mut books = shared.books();
            let model = books.model;
            match books.index.get(&key).cloned() {
                None => return Ok(Err(books.index.why_missing(&key))),
                Some(Place::Queued(record)) => {
                    if model.is_some_and(|model| model != record.fingerprint) {
                        return Ok(Err(MissReason::Foreign));
                    }
                    books.index.touch(&key.hash);
                    books.counters.n_restored += 1;
                    drop(books);
                    let n_bytes = record.bytes.len();
                    let room = room.filter(|room| room.len() == n_bytes);
                    let mut bytes = room.unwrap_or_else(|| shared.spares.take(n_bytes));
                    bytes.copy_from_slice(&record.bytes);
                    return Ok(Ok(BlockRecord { bytes, tokens: record.tokens.clone(), ..*record }));
                }
                Some(Place::Disk(spot)) => {
                    books.move_to(reader, spot.at);
                    let file = books.segments.get(&spot.at.segment).map(|segment| Arc::clone(&segment.file));
                    let Some(file) = file else { return Ok(Err(MissReason::Absent)) };
                    (spot, file, model)
                }
            }
        };
        let mut read = |patience| read_record(&*file, &key, spot, &mut room, &shared.spares, patience);
        let mut found = read(Patience::NoWait);
        if matches!(found, Err(Failure::NotYet)) {
            if !shared.books().may_wait(reader, spot.at) {
                return Err(Wanted { key, room });
            }
            *has_waited = true;
            found = read(Patience::Wait);
        }
        let mut books = shared.books();
        let is_same = matches!(books.index.get(&key), Some(Place::Disk(now)) if *now == spot);
        match found {
            Ok(record) if model.is_some_and(|model| model != record.fingerprint) => {
                return Ok(Err(MissReason::Foreign));
            }
            Ok(record) if is_same => {
                books.index.touch(&key.hash);
                books.counters.n_restored += 1;
                return Ok(Ok(record));
            }
            // Erased, or moved, while it was read.
            _ if !is_same && tried.is_none() => tried = Some(spot),
            Ok(_) => return Ok(Err(MissReason::Absent)),
            Err(Failure::Miss(MissReason::Corrupt)) if is_same => {
                books.quarantine(&key);
                shared.writer_bell.notify_one();
                return Ok(Err(MissReason::Corrupt));
            }
            Err(Failure::Miss(why)) => return Ok(Err(why)),
            // Asked to wait, a file that does not is no better than one that fails.
            Err(Failure::NotYet) => return Ok(Err(MissReason::Io)),
        }
    }
}

/// Read the record at `spot` into `room`, which stays when the disk would have to be waited for.
fn read_record(
    file: &dyn DiskFile,
    key: &BlockKey,
    spot: Spot,
    room: &mut Option<BlockBytes>,
    spares: &Arc<Spares>,
    patience: Patience,
) -> Result<BlockRecord, Failure> {
    let corrupt = Failure::Miss(MissReason::Corrupt);
    // Who has room knows the payload's length, and the index the record's: one read gets all.
    let fits = |room: &BlockBytes| {
        let n_front = spot.n_bytes.saturating_sub(room.len() as u64);
        (RECORD_HEADER_BYTES as u64..=MAX_FRONT_BYTES).contains(&n_front)
    };
    let (mut front, mut payload) = match room.take().filter(fits) {
        Some(room) => (vec![0; spot.n_bytes as usize - room.len()], room),
        None => (vec![0; RECORD_HEADER_BYTES], spares.take(0)),
    };
    if let Err(error) = read_two_exact(file, &mut front, &mut payload, spot.at.offset, patience) {
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
        payload = spares.take(header.payload_bytes as usize);
        front.resize(RECORD_HEADER_BYTES + 4 * header.n_tokens as usize, 0);
        let body = spot.at.offset + RECORD_HEADER_BYTES as u64;
        read_two_exact(file, &mut front[RECORD_HEADER_BYTES..], &mut payload, body, Patience::Wait)
            .map_err(|error| failure(&error))?;
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
        io::ErrorKind::WouldBlock => Failure::NotYet,
        io::ErrorKind::UnexpectedEof => Failure::Miss(MissReason::Corrupt),
        _ => Failure::Miss(MissReason::Io),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::house::{House, config, key, open, record};
    use crate::testing::sim_disk::SimDisk;

    type Answer = Arc<Mutex<Option<Vec<Result<BlockRecord, MissReason>>>>>;

    /// Chain 0 and chain 1 in a file each.
    fn two_files(disk: &SimDisk) -> House {
        let mut house = open(disk, &config(256 << 10)).unwrap();
        for chain in [0, 1] {
            (0..6).for_each(|idx| house.save(record(chain, idx)));
        }
        house.flush();
        house
    }

    fn ask(house: &House, chain: u32, blocks: std::ops::Range<u32>) -> Answer {
        let answer = Answer::default();
        let slot = Arc::clone(&answer);
        let wanted = blocks.map(|idx| Wanted { key: key(chain, idx), room: None }).collect();
        house.inner.restore(wanted, Box::new(move |found| *slot.lock().unwrap() = Some(found)));
        answer
    }

    fn pick(house: &House, reader: usize) -> Option<Read> {
        house.inner.shared.books().pick_read(reader)
    }

    fn is_answered(answer: &Answer, chain: u32, blocks: std::ops::Range<u32>) -> bool {
        let right: Vec<_> = blocks.map(|idx| Ok(record(chain, idx))).collect();
        answer.lock().unwrap().as_ref().is_some_and(|found| *found == right)
    }

    #[test]
    fn a_file_that_has_to_be_fetched_is_read_by_one_from_front_to_end() {
        let disk = SimDisk::default();
        let house = two_files(&disk);
        let shared = &house.inner.shared;
        let (first, second, other) = (ask(&house, 0, 0..3), ask(&house, 0, 3..6), ask(&house, 1, 0..6));
        disk.set_cold(true);
        let (read_first, read_second) = (pick(&house, 0).unwrap(), pick(&house, 1).unwrap());
        let start = |reader: usize, idx: u32| {
            let mut books = shared.books();
            let Some(Place::Disk(spot)) = books.index.get(&key(0, idx)).cloned() else {
                panic!("not on disk")
            };
            books.move_to(reader, spot.at);
        };
        start(0, 0);
        serve(shared, 1, read_second);
        assert!(second.lock().unwrap().is_none(), "it is the first reader's");
        let read_other = pick(&house, 1).unwrap();
        serve(shared, 1, read_other);
        assert!(is_answered(&other, 1, 0..6), "the other file meanwhile");
        assert!(pick(&house, 1).is_none(), "nothing to do beside the first");
        serve(shared, 0, read_first);
        assert!(is_answered(&first, 0, 0..3));
        assert!(pick(&house, 1).is_none(), "the first has waited and goes on");
        let read_second = pick(&house, 0).unwrap();
        serve(shared, 0, read_second);
        assert!(is_answered(&second, 0, 3..6));
        assert_eq!(shared.books().n_reading, 0);
    }

    #[test]
    fn what_is_in_memory_is_read_by_two_and_one_that_is_alone_waits() {
        let disk = SimDisk::default();
        let house = two_files(&disk);
        let shared = &house.inner.shared;
        let (first, second) = (ask(&house, 0, 0..2), ask(&house, 0, 2..6));
        let (read_first, read_second) = (pick(&house, 0).unwrap(), pick(&house, 1).unwrap());
        serve(shared, 1, read_second);
        assert!(is_answered(&second, 0, 2..6), "ahead of the first");
        serve(shared, 0, read_first);
        assert!(is_answered(&first, 0, 0..2));
        let third = ask(&house, 0, 4..6);
        disk.set_cold(true);
        shared.books().reading[0] = None;
        let read_third = pick(&house, 1).unwrap();
        serve(shared, 1, read_third);
        assert!(is_answered(&third, 0, 4..6), "nobody else is there: it waits");
    }
}
