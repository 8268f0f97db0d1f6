//! The one that writes: takes records off the queue, appends them, syncs them in groups, and gives up in good order.
//!
//! A record is in memory until its group is synced; only then does the index point to the disk and the listener
//! hear `Saved`. So a failed sync loses nothing: the group is written again to a new segment. What fails twice in a
//! row is given up, and nothing is taken until `retry_at`.
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use address::{BlockKey, ChainHash, GroupId};

use crate::block_store::{BlockRecord, FlushReport, StoreEvent, Trouble};
use crate::books::{Books, Job, Segment, Shared, Tombstone};
use crate::disk::{Disk, DiskFile, Lock, write_all};
use crate::format::{
    Kind, Position, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, encode_segment_header,
    token_bytes,
};
use crate::index::{Place, Spot};
use crate::open::{Opened, StoreConfig, segment_path, segments_dir};
use crate::room::Purpose;

const SECONDS_A_DAY: u64 = 86_400;
/// How often the meter is written when nothing else happens.
pub(crate) const METER_EVERY: Duration = Duration::from_secs(60);
/// How often in a row a record waits for readers, each time until the bell rings or 20 ms have passed.
const MAX_YIELDS: u32 = 10;
/// A segment that grows.
pub(crate) struct Active {
    pub(crate) id: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) end: u64,
    pub(crate) synced_end: u64,
    /// Written and not synced.
    pub(crate) unsynced: Vec<(Arc<BlockRecord>, Spot)>,
    moves: Vec<Move>,
    pub(crate) graves: Vec<Tombstone>,
}

/// Which of the segments that grow a record goes to. All records of a key are in segments of one lane, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Of what is read again as a whole.
    Whole,
    /// Of what is read again at its end only.
    Window,
}

impl Lane {
    pub(crate) const ALL: [Lane; 2] = [Lane::Whole, Lane::Window];

    pub(crate) fn of(key: &BlockKey) -> Lane {
        if key.group.is_window() { Lane::Window } else { Lane::Whole }
    }
}

/// A record that was copied, and is not synced at its new place.
pub(crate) struct Move {
    pub(crate) key: BlockKey,
    pub(crate) from: Spot,
    pub(crate) to: Spot,
}

pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: StoreConfig,
    pub(crate) shared: Arc<Shared>,
    /// What keeps other processes out of the directory.
    pub(crate) lock: Box<dyn Lock>,
    /// When it was last looked at what is still there.
    pub(crate) looked_at: Option<Instant>,
    /// By [`Lane`].
    pub(crate) active: [Option<Active>; Lane::ALL.len()],
    pub(crate) next_segment: u64,
    pub(crate) unsynced_since: Option<Instant>,
    /// Segments to cut off at an offset.
    pub(crate) to_cut: Vec<(u64, u64, Seal)>,
    /// Those of them that failed; tried again with the meter.
    pub(crate) uncut: Vec<(u64, u64, Seal)>,
    /// How often in a row a record waited for readers.
    n_yields: u32,
    pub(crate) n_failures: u32,
    pub(crate) n_retreats: u32,
    pub(crate) meter: (u64, u64),
    pub(crate) meter_saved: (u64, Instant),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    Wanted,
    Not,
}

impl Writer {
    pub(crate) fn new(disk: Arc<dyn Disk>, config: StoreConfig, opened: Opened) -> Writer {
        let mut books = opened.books;
        let today = disk.now() / SECONDS_A_DAY;
        let meter = if opened.meter.0 == today { opened.meter } else { (today, 0) };
        books.counters.written_today_bytes = meter.1;
        // What may wait to be saved comes again as long as streams run.
        let max_idle_bytes = usize::try_from(config.queue_bytes).unwrap_or(usize::MAX);
        Writer {
            disk,
            config,
            shared: Arc::new(Shared::new(books, max_idle_bytes)),
            lock: opened.lock,
            looked_at: None,
            active: [const { None }; Lane::ALL.len()],
            next_segment: opened.next_segment,
            unsynced_since: None,
            to_cut: opened.to_cut,
            uncut: Vec::new(),
            n_yields: 0,
            n_failures: 0,
            n_retreats: 0,
            meter,
            meter_saved: (meter.1, Instant::now()),
        }
    }

    /// Work until the store is dropped, then make everything durable that can be.
    pub(crate) fn run(mut self) {
        loop {
            {
                let books = self.shared.books();
                if books.is_stopping && books.retry_at.is_some() {
                    break;
                }
            }
            if self.work() {
                continue;
            }
            let books = self.shared.books();
            let is_idle = books.queue.is_empty() && books.jobs.is_empty() && books.flushes.is_empty();
            if books.is_stopping && is_idle {
                break;
            }
            let wait = self.wait(&books, Instant::now());
            let _unused = self.shared.writer_bell.wait_timeout(books, wait);
        }
        self.close();
    }

    /// How long there is nothing to do unless the bell rings.
    fn wait(&self, books: &Books, now: Instant) -> Duration {
        let commit = self.unsynced_since.map(|since| since + self.config.commit_after);
        let look = self.look_due(books, now);
        let due = commit.into_iter().chain(books.retry_at).chain(look).min();
        let reads = (books.n_reading > 0).then_some(Duration::from_millis(20));
        let due = due.map_or(METER_EVERY, |due| due.saturating_duration_since(now));
        reads.map_or(due, |reads| reads.min(due)).max(Duration::from_millis(1))
    }

    pub(crate) fn active(&self, lane: Lane) -> Option<&Active> {
        self.active[lane as usize].as_ref()
    }

    pub(crate) fn active_mut(&mut self, lane: Lane) -> Option<&mut Active> {
        self.active[lane as usize].as_mut()
    }

    /// Whether a segment still grows.
    pub(crate) fn is_active(&self, id: u64) -> bool {
        self.active.iter().flatten().any(|active| active.id == id)
    }

    /// What is written and not synced.
    fn unsynced(&self) -> impl Iterator<Item = &Arc<BlockRecord>> {
        self.active.iter().flatten().flat_map(|active| &active.unsynced).map(|(record, _)| record)
    }

    /// The last commit; then the segments are sealed, so that the next start need not read them all.
    pub(crate) fn close(&mut self) {
        let seal_all = |writer: &mut Writer| Lane::ALL.into_iter().try_for_each(|lane| writer.seal(lane));
        let _ = self
            .look()
            .and_then(|()| self.commit())
            .and_then(|()| self.write_agents())
            .and_then(|()| seal_all(self));
        self.save_meter();
        self.shared.announce();
    }

    /// Do one thing; false when there is nothing to do now.
    pub(crate) fn work(&mut self) -> bool {
        let did = self.work_quietly();
        self.shared.announce();
        did
    }

    fn work_quietly(&mut self) -> bool {
        let now = Instant::now();
        {
            let mut books = self.shared.books();
            match books.retry_at {
                Some(retry_at) if now < retry_at && !books.is_stopping => {
                    drop(books);
                    return self.end_flushes();
                }
                _ => books.retry_at = None,
            }
        }
        if self.look_due(&self.shared.books(), now).is_some_and(|due| due <= now) {
            if let Err(trouble) = self.look() {
                self.fail(trouble);
            }
            return true;
        }
        let job = self.shared.books().jobs.pop_front();
        if let Some(job) = job {
            self.run_job(job);
            return true;
        }
        if let Some((id, end, seal)) = self.to_cut.pop() {
            if self.cut(id, end, seal).is_err() {
                // Whatever is behind the end was never promised to anybody, so there is time.
                self.uncut.push((id, end, seal));
            }
            return true;
        }
        if self.is_commit_due(now) {
            // A flush of nothing says nothing about the disk.
            let is_proof = self.unsynced().next().is_some() || !self.shared.books().dirty_agents.is_empty();
            match self.look().and_then(|()| self.commit()).and_then(|()| self.write_agents()) {
                Ok(()) if is_proof => self.recover(),
                Ok(()) => {}
                Err(trouble) => self.fail(trouble),
            }
            self.end_flushes();
            return true;
        }
        let record = {
            let mut books = self.shared.books();
            let is_urgent = !books.flushes.is_empty() || books.is_stopping;
            if books.n_reading > 0 && !is_urgent && self.n_yields < MAX_YIELDS {
                self.n_yields += 1;
                return false;
            }
            self.n_yields = 0;
            books.queue.pop_front()
        };
        let Some(record) = record else {
            if self.shared.books().trouble.is_some() {
                match self.probe() {
                    Ok(()) => self.recover(),
                    Err(trouble) => self.fail(trouble),
                }
                return true;
            }
            let did = self.tidy_up();
            self.save_meter_now_and_then(now);
            return did;
        };
        if !self.shared.books().is_queued(&record) {
            // It was deleted while it waited.
            self.shared.books().queued_bytes -= Books::queue_cost(&record);
            return true;
        }
        match self.append_block(&record) {
            Ok(spot) => {
                if let Some(active) = self.active_mut(Lane::of(&record.key)) {
                    active.unsynced.push((record, spot));
                }
                self.unsynced_since.get_or_insert(now);
            }
            Err(trouble) => {
                self.shared.books().queue.push_front(record);
                self.fail(trouble);
            }
        }
        true
    }

    fn is_commit_due(&self, now: Instant) -> bool {
        let books = self.shared.books();
        let n_bytes: u64 = self.unsynced().map(|record| Books::queue_cost(record)).sum();
        let is_settled = n_bytes == 0;
        let first = books.queue.front().map(|_| books.n_queued - books.queue.len() as u64 + 1);
        let is_flush_next =
            books.flushes.front().is_some_and(|flush| first.is_none_or(|first| first > flush.until));
        let is_last =
            books.is_stopping && books.queue.is_empty() && (!is_settled || !books.dirty_agents.is_empty());
        is_flush_next
            || is_last
            || n_bytes > self.config.queue_bytes / 2
            || self.unsynced_since.is_some_and(|since| now >= since + self.config.commit_after)
            || (is_settled && books.queue.is_empty() && !books.dirty_agents.is_empty())
    }

    /// Tell those whose records are all settled.
    fn end_flushes(&mut self) -> bool {
        let mut done = Vec::new();
        {
            let mut books = self.shared.books();
            let n_pending = (books.queue.len() + self.unsynced().count()) as u64;
            let n_settled = books.n_queued - n_pending;
            while books.flushes.front().is_some_and(|flush| flush.until <= n_settled) {
                done.extend(books.flushes.pop_front());
            }
        }
        let any = !done.is_empty();
        let counters = self.shared.books().counters;
        // The listener hears of the records before the flush is reported.
        self.shared.announce();
        for flush in done {
            (flush.done)(FlushReport {
                n_saved: (counters.n_saved - flush.saved_before) as usize,
                n_failed: (counters.n_not_saved - flush.not_saved_before) as usize,
            });
        }
        any
    }

    fn append_block(&mut self, record: &BlockRecord) -> Result<Spot, Trouble> {
        let header = RecordHeader::of_block(record, self.disk.now());
        let tokens = token_bytes(&record.tokens);
        self.append(&header, &tokens, &record.bytes, Purpose::Save)
    }

    /// Write a record at the end of its lane. It is not durable before the next commit.
    pub(crate) fn append(
        &mut self,
        header: &RecordHeader,
        tokens: &[u8],
        payload: &[u8],
        purpose: Purpose,
    ) -> Result<Spot, Trouble> {
        let n_bytes = header.record_bytes();
        let overhead = (SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES) as u64;
        self.make_room(n_bytes + overhead, purpose)?;
        let lane = Lane::of(&header.key);
        let is_too_full = |active: &Active| {
            active.end > SEGMENT_HEADER_BYTES as u64 && active.end + n_bytes > self.config.segment_bytes
        };
        if self.active(lane).is_some_and(is_too_full) {
            self.seal(lane)?;
        }
        if self.active(lane).is_none() {
            self.begin_segment(lane)?;
        }
        let Some(active) = self.active(lane) else { return Err(Trouble::Io) };
        // Behind the end of a file that somebody has cut there would be a hole.
        if active.file.len().map_err(|error| Trouble::of(&error))? < active.end {
            self.leave(lane);
            return Err(Trouble::Io);
        }
        let (id, end, file) = (active.id, active.end, Arc::clone(&active.file));
        let mut front = header.encode().to_vec();
        front.extend(tokens);
        // Booked before it is written, so that a failure leaves the bytes counted until they are cut off.
        self.grow(id, end + n_bytes);
        let written = file
            .set_aside(n_bytes, end)
            .and_then(|()| write_all(&*file, &front, end))
            .and_then(|()| write_all(&*file, payload, end + front.len() as u64));
        if let Err(error) = written {
            return Err(Trouble::of(&error));
        }
        self.count(n_bytes);
        if let Some(active) = self.active_mut(lane) {
            active.end = end + n_bytes;
        }
        Ok(Spot { at: Position { segment: id, offset: end }, n_bytes })
    }

    pub(crate) fn begin_segment(&mut self, lane: Lane) -> Result<(), Trouble> {
        self.hold_home()?;
        let file = match self.create_segment() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.look()?;
                self.create_segment()
            }
            other => other,
        };
        let (id, file) = file.map_err(|error| Trouble::of(&error))?;
        let n_bytes = SEGMENT_HEADER_BYTES as u64;
        let segment = Segment {
            file: Arc::clone(&file),
            n_bytes,
            live_bytes: 0,
            tombstones: Vec::new(),
            is_other_version: false,
        };
        self.shared.books().segments.insert(id, segment);
        let begun = write_all(&*file, &encode_segment_header(id, self.disk.now()), 0)
            .and_then(|()| self.disk.sync_dir(&segments_dir(&self.config.dir)));
        if let Err(error) = begun {
            // Left behind, it is an empty segment, which goes as soon as the disk lets it.
            return Err(Trouble::of(&error));
        }
        self.count(n_bytes);
        self.active[lane as usize] = Some(Active {
            id,
            file,
            end: n_bytes,
            synced_end: n_bytes,
            unsynced: Vec::new(),
            moves: Vec::new(),
            graves: Vec::new(),
        });
        Ok(())
    }

    /// A file of the next id at whose place nothing is.
    fn create_segment(&mut self) -> io::Result<(u64, Arc<dyn DiskFile>)> {
        loop {
            let id = self.next_segment;
            let created = self.disk.create_new(&segment_path(&self.config.dir, id));
            self.next_segment += 1;
            match created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return Ok((id, created?)),
            }
        }
    }

    /// Complete a lane's segment.
    pub(crate) fn seal(&mut self, lane: Lane) -> Result<(), Trouble> {
        self.commit()?;
        let Some(active) = self.active[lane as usize].take() else { return Ok(()) };
        if self.cut(active.id, active.synced_end, Seal::Wanted).is_err() {
            self.uncut.push((active.id, active.synced_end, Seal::Wanted));
        }
        Ok(())
    }

    /// Cut a segment off at `end`, which also erases what a failed attempt left, and say that it is complete.
    fn cut(&mut self, id: u64, end: u64, seal: Seal) -> io::Result<()> {
        let Some(file) = self.shared.books().segments.get(&id).map(|segment| Arc::clone(&segment.file))
        else {
            return Ok(());
        };
        let len = file.len()?;
        // One that somebody has cut has no end to seal.
        let (end, seal) = if len < end {
            self.lose_beyond(id, len);
            (len, Seal::Not)
        } else {
            (end, seal)
        };
        if len != end {
            file.truncate(end)?;
        }
        let mut n_bytes = end;
        if seal == Seal::Wanted {
            let nobody = BlockKey { hash: ChainHash([0; 32]), group: GroupId::full(0) };
            let bytes = RecordHeader::without_body(Kind::Seal, nobody, self.disk.now()).encode();
            write_all(&*file, &bytes, end)?;
            file.sync()?;
            n_bytes += bytes.len() as u64;
            self.count(bytes.len() as u64);
        }
        if let Some(segment) = self.shared.books().segments.get_mut(&id) {
            segment.n_bytes = n_bytes;
        }
        Ok(())
    }

    /// Make what was written durable, and only then point to it.
    pub(crate) fn commit(&mut self) -> Result<(), Trouble> {
        Lane::ALL.into_iter().try_for_each(|lane| self.commit_lane(lane))?;
        self.unsynced_since = None;
        Ok(())
    }

    pub(crate) fn commit_lane(&mut self, lane: Lane) -> Result<(), Trouble> {
        let Some(active) = &mut self.active[lane as usize] else { return Ok(()) };
        if active.synced_end == active.end {
            return Ok(());
        }
        let path = segment_path(&self.config.dir, active.id);
        let is_there = active.file.len_at(&path).is_ok_and(|len| len.is_some_and(|len| len >= active.end));
        if !is_there {
            self.leave(lane);
            return Err(Trouble::Io);
        }
        if let Err(error) = active.file.sync() {
            // After a failed sync the system may have dropped the bytes and call the next sync a success: never
            // ask again, write elsewhere.
            self.leave(lane);
            return Err(Trouble::of(&error));
        }
        active.synced_end = active.end;
        let mut keys = Vec::new();
        let mut books = self.shared.books();
        for (record, spot) in active.unsynced.drain(..) {
            books.queued_bytes -= Books::queue_cost(&record);
            books.counters.n_saved += 1;
            // It may have been deleted meanwhile.
            if books.is_queued(&record) {
                books.put(record.key, record.parent, Place::Disk(spot));
                keys.push(record.key);
            }
        }
        for Move { key, from, to } in active.moves.drain(..) {
            if matches!(books.index.get(&key), Some(Place::Disk(spot)) if *spot == from) {
                books.relocate(key, to);
            }
        }
        if let Some(segment) = books.segments.get_mut(&active.id) {
            segment.tombstones.append(&mut active.graves);
        }
        if !keys.is_empty() {
            books.events.push(StoreEvent::Saved(keys));
        }
        Ok(())
    }

    fn run_job(&mut self, job: Job) {
        let done = match job {
            Job::Quarantine(key) => self.bury_corrupt(key),
            Job::Delete(mut deletion) => match self.erase(&mut deletion) {
                Ok(()) => {
                    deletion.done.into_iter().for_each(|done| done());
                    Ok(())
                }
                Err(trouble) => {
                    self.shared.books().jobs.push_front(Job::Delete(deletion));
                    Err(trouble)
                }
            },
        };
        match done {
            Ok(()) => self.recover(),
            Err(trouble) => self.fail(trouble),
        }
    }

    /// The copy counts with the next commit.
    pub(crate) fn note_move(&mut self, copy: Move) {
        if let Some(active) = self.active_mut(Lane::of(&copy.key)) {
            active.moves.push(copy);
        }
    }

    fn grow(&self, id: u64, n_bytes: u64) {
        if let Some(segment) = self.shared.books().segments.get_mut(&id) {
            segment.n_bytes = n_bytes;
        }
    }

    /// Whether a segment's end is not settled yet.
    pub(crate) fn is_uncut(&self, id: u64) -> bool {
        self.to_cut.iter().chain(&self.uncut).any(|(other, ..)| *other == id)
    }

    /// Count bytes written, for the meter.
    pub(crate) fn count(&mut self, n_bytes: u64) {
        let today = self.disk.now() / SECONDS_A_DAY;
        if self.meter.0 != today {
            self.meter = (today, 0);
        }
        self.meter.1 += n_bytes;
        let counters = &mut self.shared.books().counters;
        counters.written_today_bytes = self.meter.1;
        counters.written_bytes += n_bytes;
    }
}
