//! The ends of the segments that grow: records are appended, made durable, and a segment is completed.
//!
//! What saving costs is nearly all the writing thread's processor time, so a record's room is asked of the file
//! system at once.

use std::io;
use std::sync::Arc;

use address::{BlockKey, ChainHash, GroupId};

use crate::block_store::{StoreEvent, Trouble};
use crate::config::{segment_path, segments_dir};
use crate::disk::{DiskFile, write_all};
use crate::format::{
    Kind, Position, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, encode_segment_header,
};
use crate::place::{Place, Spot};
use crate::segment::{Active, Lane, Move, Purpose, Seal, Segment};
use crate::state::StoreState;
use crate::writer::Writer;

impl Writer {
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
            lane,
            is_other_version: false,
        };
        self.shared.state().segments.insert(id, segment);
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
            tombstones: Vec::new(),
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
    pub(crate) fn cut(&mut self, id: u64, end: u64, seal: Seal) -> io::Result<()> {
        let Some(file) = self.shared.state().segments.get(&id).map(|segment| Arc::clone(&segment.file))
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
        if let Some(segment) = self.shared.state().segments.get_mut(&id) {
            segment.n_bytes = n_bytes;
        }
        Ok(())
    }

    /// Make what was written durable, and only then point to it. No state becomes so before the blocks it stands on.
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
        let mut state = self.shared.state();
        for (record, spot) in active.unsynced.drain(..) {
            state.queued_bytes -= StoreState::queue_cost(&record);
            state.counters.n_saved += 1;
            // It may have been deleted meanwhile.
            if state.is_queued(&record) {
                state.put(record.key, record.parent, record.reason.n_pieces(), Place::Disk(spot));
                keys.push(record.key);
            } else {
                state.note_dead(&record.key, spot);
            }
        }
        for Move { key, from, to } in active.moves.drain(..) {
            if matches!(state.index.get(&key), Some(Place::Disk(spot)) if *spot == from) {
                state.relocate(key, to);
            } else {
                state.note_dead(&key, to);
            }
        }
        if let Some(segment) = state.segments.get_mut(&active.id) {
            segment.tombstones.append(&mut active.tombstones);
        }
        if !keys.is_empty() {
            state.events.push(StoreEvent::Saved(keys));
        }
        Ok(())
    }

    /// The copy counts with the next commit.
    pub(crate) fn note_move(&mut self, copy: Move) {
        if let Some(active) = self.active_mut(Lane::of(&copy.key)) {
            active.moves.push(copy);
        }
    }

    fn grow(&self, id: u64, n_bytes: u64) {
        if let Some(segment) = self.shared.state().segments.get_mut(&id) {
            segment.n_bytes = n_bytes;
        }
    }

    /// Whether a segment's end is not settled yet.
    pub(crate) fn is_uncut(&self, id: u64) -> bool {
        self.to_cut.iter().chain(&self.uncut).any(|(other, ..)| *other == id)
    }
}
