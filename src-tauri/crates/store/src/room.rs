//! Room to write in: the byte cap, the free-space floor, eviction and compaction.
//!
//! ```text
//!  0 ───────────────── saves ─────────────────┤ max - one segment ├── copies of compaction, tombstones ──┤ max
//! ```
//!
//! Space comes back when a segment is removed. A segment that is at least half dead is copied and removed; copies
//! of half a segment fit into the reserve. While there is none, blocks are given up until there is.
//!
//! What others put into the directory counts against the cap, but for a little that the reserve has room for. It may
//! keep new blocks from being written; nothing that is there is given up for it.

use std::sync::Arc;

use address::BlockKey;

use crate::block_store::{MissReason, Trouble};
use crate::config::{segment_path, segments_dir};
use crate::disk::read_exact;
use crate::format::{BodyDigest, Kind, Position, RECORD_HEADER_BYTES, RecordHeader};
use crate::index::Part;
use crate::place::{Place, Spot};
use crate::scan::scan;
use crate::segment::{Active, Lane, Move, Purpose};
use crate::segment::{Segment, Tombstone};
use crate::state::StoreState;
use crate::writer::Writer;

/// Small segments, each under a quarter of the full size, that are left alone.
const MAX_SMALL_SEGMENTS: usize = 8;

/// How something new fits under the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Fits,
    /// What is ours is in its way.
    TooMuch,
    /// What others put there has made the directory too large.
    ForeignInTheWay,
}

/// Whether `n_bytes` more fit under `limit` beside `own` bytes of ours and `foreign` ones of others.
///
/// Ours makes room for what is new, and for a cap that was lowered. A directory that was full already before this
/// without ours being too much is others' doing.
fn fit(own: u64, foreign: u64, n_bytes: u64, limit: u64) -> Fit {
    let used = own.saturating_add(foreign);
    if used.saturating_add(n_bytes) <= limit {
        Fit::Fits
    } else if own > limit || used <= limit {
        Fit::TooMuch
    } else {
        Fit::ForeignInTheWay
    }
}

/// A segment that can go.
enum Victim {
    Dead(u64),
    MostlyDead(u64),
}

impl Writer {
    /// See that `n_bytes` more fit under the cap and above the floor.
    pub(crate) fn make_room(&mut self, n_bytes: u64, purpose: Purpose) -> Result<(), Trouble> {
        // The last block of a file may be begun by this.
        let n_bytes = StoreState::footprint(n_bytes) + StoreState::footprint(1);
        match purpose {
            Purpose::Save => self.make_room_for_new(n_bytes)?,
            Purpose::Move if self.has_room_to_move(n_bytes) => {}
            Purpose::Move => return Err(Trouble::CapReached),
        }
        self.check_floor(n_bytes)
    }

    fn make_room_for_new(&mut self, n_bytes: u64) -> Result<(), Trouble> {
        let limit = self.config.max_bytes - self.config.segment_bytes;
        loop {
            let (own, foreign) = {
                let state = self.shared.state();
                (state.own_bytes(), state.foreign_bytes)
            };
            let is_more = match fit(own, foreign.saturating_sub(self.spared_bytes()), n_bytes, limit) {
                Fit::Fits => return Ok(()),
                Fit::TooMuch => self.reclaim()?,
                Fit::ForeignInTheWay => self.reclaim_dead()?,
            };
            if !is_more {
                return Err(Trouble::CapReached);
            }
        }
    }

    /// What others may put there without anybody's noticing: a note that a file browser leaves behind must not end
    /// saving. It lies in the reserve, whose copies need half a segment.
    fn spared_bytes(&self) -> u64 {
        self.config.segment_bytes / 4
    }

    /// Whether there is room for copies. They make room in the end, so that more foreign bytes than the reserve has
    /// room for do not stop them.
    fn has_room_to_move(&self, n_bytes: u64) -> bool {
        let state = self.shared.state();
        let foreign = state.foreign_bytes.min(self.spared_bytes());
        state.own_bytes() + foreign + n_bytes <= self.config.max_bytes
    }

    /// Nothing is given up for the floor: what fills the disk is somebody else's, and would have it back at once.
    fn check_floor(&self, n_bytes: u64) -> Result<(), Trouble> {
        let free = self.disk.free_bytes(&self.config.dir).map_err(|error| Trouble::of(&error))?;
        if free < self.config.free_space_floor.saturating_add(n_bytes) {
            return Err(Trouble::DiskFull);
        }
        Ok(())
    }

    /// One step towards more room that costs nothing which is there; false when there is none.
    fn reclaim_dead(&mut self) -> Result<bool, Trouble> {
        match self.victim(Wish::Dead) {
            Some(Victim::Dead(id)) => self.remove_segment(id)?,
            Some(Victim::MostlyDead(id)) if self.has_room_to_compact(id) => self.compact(id)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// One step towards more room; false when nothing more can go.
    fn reclaim(&mut self) -> Result<bool, Trouble> {
        match self.victim(Wish::Anything) {
            Some(Victim::Dead(id)) => self.remove_segment(id)?,
            Some(Victim::MostlyDead(id)) if self.has_room_to_compact(id) => self.compact(id)?,
            // Over a cap that was lowered there is no room for copies: whole segments must die first.
            _ => {
                if self.evict() {
                    return Ok(true);
                }
                // What is left to reclaim is in the segments that grow.
                let is_half_dead = |active: &Active| {
                    let state = self.shared.state();
                    state.segments.get(&active.id).is_some_and(|s| 2 * s.live_bytes <= s.n_bytes)
                };
                let is_worth_it = |active: &Active| active.end > 4096 && is_half_dead(active);
                let lane = Lane::ALL.into_iter().find(|lane| self.active(*lane).is_some_and(is_worth_it));
                let Some(lane) = lane else { return Ok(false) };
                self.seal(lane)?;
            }
        }
        Ok(true)
    }

    fn has_room_to_compact(&self, id: u64) -> bool {
        let n_live = {
            let state = self.shared.state();
            state.segments.get(&id).map_or(0, |segment| needed_bytes(&state, id, segment))
        };
        // The copies, the ends of as many segments as grow, and their last blocks.
        let ends = 2 * Lane::ALL.len() as u64 * StoreState::footprint(1);
        self.has_room_to_move(StoreState::footprint(n_live) + ends)
    }

    /// Give up the node used longest ago of those that nothing rests on, and first the state that rests on it.
    fn evict(&self) -> bool {
        let mut state = self.shared.state();
        let Some((hash, part)) = state.index.next_to_evict() else { return false };
        let n = match part {
            Part::State => state.forget_state(&hash, MissReason::Absent),
            Part::Blocks => state.forget_node(&hash).len(),
        };
        state.counters.n_evicted += n as u64;
        true
    }

    fn victim(&self, wish: Wish) -> Option<Victim> {
        let state = self.shared.state();
        let settled = state.segments.iter().filter(|(id, _)| !self.is_active(**id) && !self.is_uncut(**id));
        let mut best: Option<(u64, u64)> = None;
        for (id, segment) in settled {
            if segment.is_other_version {
                if wish == Wish::Anything {
                    return Some(Victim::Dead(*id));
                }
                continue;
            }
            let n_live = needed_bytes(&state, *id, segment);
            if n_live == 0 {
                return Some(Victim::Dead(*id));
            }
            let gain = segment.n_bytes.saturating_sub(n_live);
            // What a state's segment still has will soon be dead too, and need not be copied then.
            let at_least = if wish == Wish::Housekeeping && segment.lane == Lane::State { 4 } else { 2 };
            if at_least * n_live <= segment.n_bytes && best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, *id));
            }
        }
        best.map(|(_, id)| Victim::MostlyDead(id))
    }

    /// Copy what is alive in a segment to the end of the log, and remove it.
    pub(crate) fn compact(&mut self, id: u64) -> Result<(), Trouble> {
        let Some(file) = self.shared.state().segments.get(&id).map(|segment| Arc::clone(&segment.file))
        else {
            return Ok(());
        };
        let found = scan(&*file, id).map_err(|error| Trouble::of(&error))?;
        for (at, header) in found.records {
            match header.kind {
                Kind::Block(_) => self.copy_block(&*file, at, &header)?,
                Kind::Tombstone { why, raised_at } => {
                    let tombstone = Tombstone { key: header.key, why, raised_at };
                    if is_needed(&self.shared.state(), id, &tombstone) {
                        self.raise(tombstone)?;
                    }
                }
                Kind::Seal => {}
            }
        }
        self.commit()?;
        // What the index still points to stands behind a damaged header. The search looks at every block, so it is
        // made only when the sizes say that there is something.
        let n_left = self.shared.state().segments.get(&id).map_or(0, |segment| segment.live_bytes);
        let lost = if n_left == 0 { Vec::new() } else { self.shared.state().index.keys_in(id) };
        for key in lost {
            self.lose(&key);
        }
        self.remove_segment(id)
    }

    fn copy_block(
        &mut self,
        file: &dyn crate::disk::DiskFile,
        at: Position,
        header: &RecordHeader,
    ) -> Result<(), Trouble> {
        let from = Spot { at, n_bytes: header.record_bytes() };
        let is_here = |place: &Place| matches!(place, Place::Disk(spot) if *spot == from);
        if !self.shared.state().index.get(&header.key).is_some_and(is_here) {
            return Ok(());
        }
        let mut tokens = vec![0; 4 * header.n_tokens as usize];
        let mut payload = vec![0; header.payload_bytes as usize];
        let body = at.offset + RECORD_HEADER_BYTES as u64;
        read_exact(file, &mut tokens, body)
            .and_then(|()| read_exact(file, &mut payload, body + tokens.len() as u64))
            .map_err(|error| Trouble::of(&error))?;
        if BodyDigest::of(&tokens, &payload) != header.body_digest {
            self.lose(&header.key);
            return Ok(());
        }
        let to = self.append(header, &tokens, &payload, Purpose::Move)?;
        self.note_move(Move { key: header.key, from, to });
        Ok(())
    }

    fn lose(&self, key: &BlockKey) {
        let mut state = self.shared.state();
        // The state of another piece that was lost is gone already.
        if state.forget_fate(key, MissReason::Corrupt) > 0 {
            state.counters.n_quarantined += 1;
        }
    }

    fn remove_segment(&mut self, id: u64) -> Result<(), Trouble> {
        let path = segment_path(&self.config.dir, id);
        let Some(file) = self.shared.state().segments.get(&id).map(|segment| Arc::clone(&segment.file))
        else {
            return Ok(());
        };
        // Another file that stands there is somebody else's.
        let is_there = file.len_at(&path).map_err(|error| Trouble::of(&error))?.is_some();
        if is_there {
            self.disk.remove(&path).map_err(|error| Trouble::of(&error))?;
        }
        self.shared.state().remove_segment(id);
        // A name that comes back after a power cut brings dead or doubled records, which do no harm.
        let _ = self.disk.sync_dir(&segments_dir(&self.config.dir));
        Ok(())
    }

    /// Housekeeping when nothing else is to do: one segment at a time; false when all is tidy.
    pub(crate) fn tidy_up(&mut self) -> bool {
        let done = match self.victim(Wish::Housekeeping) {
            Some(Victim::Dead(id)) => self.remove_segment(id),
            Some(Victim::MostlyDead(id)) => self.compact(id),
            None => match self.small_segment() {
                Some(id) => self.compact(id),
                None => return false,
            },
        };
        match done {
            Ok(()) => true,
            // It has time until there is room.
            Err(Trouble::CapReached | Trouble::DiskFull) => false,
            Err(trouble) => {
                self.fail(trouble);
                true
            }
        }
    }

    /// The oldest of the small segments, when there are many: each start leaves one.
    fn small_segment(&self) -> Option<u64> {
        let state = self.shared.state();
        let is_small = |(id, segment): &(&u64, &Segment)| {
            !self.is_active(**id)
                && !segment.is_other_version
                && !self.is_uncut(**id)
                && segment.n_bytes < self.config.segment_bytes / 4
        };
        let mut small = state.segments.iter().filter(is_small).map(|(id, _)| *id);
        let first = small.next()?;
        (small.count() >= MAX_SMALL_SEGMENTS).then_some(first)
    }
}

/// What a search for a victim is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Room, whatever it costs.
    Anything,
    /// Room, of what is dead.
    Dead,
    Housekeeping,
}

/// Bytes of a segment that must outlive it.
fn needed_bytes(state: &StoreState, id: u64, segment: &Segment) -> u64 {
    let n_tombstones = segment.tombstones.iter().filter(|tombstone| is_needed(state, id, tombstone)).count();
    segment.live_bytes + (n_tombstones * RECORD_HEADER_BYTES) as u64
}

/// Whether a tombstone in segment `id` may still bury something in another one.
fn is_needed(state: &StoreState, id: u64, tombstone: &Tombstone) -> bool {
    if tombstone.key.group.is_state() {
        // There are many of these: one for each state that a later one replaced.
        let mut dead = state.dead_pieces.get(&tombstone.key.hash).into_iter().flatten();
        return dead.any(|spot| spot.at.segment != id && spot.at < tombstone.raised_at);
    }
    state.segments.range(..=tombstone.raised_at.segment).any(|(other, _)| *other != id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_makes_room_for_what_is_new_and_never_for_what_is_foreign() {
        let limit = 100;
        for (own, foreign, n_bytes, want) in [
            (90, 0, 10, Fit::Fits),
            (95, 0, 10, Fit::TooMuch),
            (85, 10, 10, Fit::TooMuch),
            (90, 10, 10, Fit::TooMuch),
            (95, 10, 10, Fit::ForeignInTheWay),
            (0, 101, 1, Fit::ForeignInTheWay),
            (50, u64::MAX, 1, Fit::ForeignInTheWay),
            (120, 0, 10, Fit::TooMuch),
            (120, u64::MAX, 10, Fit::TooMuch),
        ] {
            assert_eq!(fit(own, foreign, n_bytes, limit), want, "{own} + {foreign} + {n_bytes}");
        }
    }
}
