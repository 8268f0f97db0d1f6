//! Erasing deleted agents: tombstones first, so that nothing comes back after a crash, then the manifests, then the
//! bytes. Burying damaged records is here too.
//!
//! Bodies (tokens and payload) are overwritten with zeros where they lie: that costs what the agent had, where
//! rewriting segments would cost all that its neighbours have. The space comes back with compaction.

use std::sync::Arc;

use address::{BlockKey, ChainHash, GroupId};

use crate::block_store::{StoreEvent, Trouble};
use crate::config::agents_dir;
use crate::disk::{DiskFile, read_exact, write_all};
use crate::format::{Death, Kind, Position, RECORD_HEADER_BYTES, RecordHeader};
use crate::jobs::Deletion;
use crate::record::fate_of;
use crate::segment::Lane;
use crate::segment::Purpose;
use crate::segment::Tombstone;
use crate::writer::Writer;

/// Bytes that are overwritten at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Writer {
    /// Do what is left of a deletion.
    pub(crate) fn erase(&mut self, deletion: &mut Deletion) -> Result<(), Trouble> {
        if !deletion.hashes.is_empty() {
            // What is written and not synced gets its place first.
            self.commit()?;
            let mut state = self.shared.state();
            let own = state.orphaned(std::mem::take(&mut deletion.hashes));
            for hash in own {
                for (key, place) in state.forget_node(&hash) {
                    if !key.group.is_state() {
                        deletion.to_bury.push(key);
                        deletion.to_erase.extend(place.spot().map(|spot| spot.at));
                    }
                    // Whoever waits for it to be durable need not wait any longer.
                    if !place.is_durable() {
                        state.events.push(StoreEvent::NotSaved(vec![key]));
                    }
                }
                // Of the state, and of one that it replaced.
                if let Some(dead) = state.dead_pieces.get(&hash) {
                    deletion.to_bury.push(state_at(hash));
                    deletion.to_erase.extend(dead.iter().map(|spot| spot.at));
                }
            }
        }
        if !deletion.to_bury.is_empty() {
            let keys: Vec<BlockKey> = deletion.to_bury.clone();
            keys.into_iter().try_for_each(|key| self.bury(key, Death::Deleted))?;
            self.commit()?;
            deletion.to_bury.clear();
        }
        while let Some(name) = deletion.to_remove.last() {
            self.remove_agent_file(name)?;
            deletion.to_remove.pop();
        }
        // Sorted, the positions of a segment are one after the other and need one sync.
        deletion.to_erase.sort_unstable();
        while let Some(last) = deletion.to_erase.last().copied() {
            let first = deletion.to_erase.partition_point(|at| at.segment < last.segment);
            self.erase_bodies(last.segment, &deletion.to_erase[first..])?;
            deletion.to_erase.truncate(first);
        }
        Ok(())
    }

    /// Bury a record that does not match its digest, so that the next start does not find it.
    pub(crate) fn bury_corrupt(&mut self, key: BlockKey) -> Result<(), Trouble> {
        let is_again = {
            let state = self.shared.state();
            state.index.get(&key).is_some()
                || (key.group.is_state() && state.index.n_pieces(&key.hash).is_some())
        };
        // It may have been saved again meanwhile.
        if is_again {
            return Ok(());
        }
        // Found again it would be found out again.
        self.bury_if_room(key, Death::Corrupt)
    }

    /// Bury states that were replaced, so that the next start does not find them.
    pub(crate) fn bury_replaced(&mut self, hashes: &[ChainHash]) -> Result<(), Trouble> {
        // Found again, such a state takes room until that is needed.
        hashes.iter().try_for_each(|hash| self.bury_if_room(state_at(*hash), Death::Replaced))
    }

    /// Append a tombstone; a log without room is no trouble.
    fn bury_if_room(&mut self, key: BlockKey, why: Death) -> Result<(), Trouble> {
        match self.bury(key, why) {
            Err(Trouble::CapReached | Trouble::DiskFull) => Ok(()),
            other => other,
        }
    }

    /// Append a tombstone; one of a piece buries the whole state.
    fn bury(&mut self, key: BlockKey, why: Death) -> Result<(), Trouble> {
        let key = fate_of(&key);
        // The end of the lane: all that it buries stands before.
        let active = self.active(Lane::of(&key));
        let raised_at = Position {
            segment: active.map_or(self.next_segment, |active| active.id),
            offset: active.map_or(0, |active| active.end),
        };
        self.raise(Tombstone { key, why, raised_at })
    }

    /// Append a tombstone again, or one that was given its place.
    pub(crate) fn raise(&mut self, tombstone: Tombstone) -> Result<(), Trouble> {
        let kind = Kind::Tombstone { why: tombstone.why, raised_at: tombstone.raised_at };
        let header = RecordHeader::without_body(kind, tombstone.key, self.disk.now());
        self.append(&header, &[], &[], Purpose::Move)?;
        if let Some(active) = self.active_mut(Lane::of(&tombstone.key)) {
            active.tombstones.push(tombstone);
        }
        Ok(())
    }

    fn remove_agent_file(&mut self, name: &str) -> Result<(), Trouble> {
        let dir = agents_dir(&self.config.dir);
        let is_there = self.shared.state().agent_files.contains_key(name);
        if is_there {
            self.hold_home()?;
            match self.disk.remove(&dir.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Trouble::of(&error));
                }
                _ => {}
            }
            self.disk.sync_dir(&dir).map_err(|error| Trouble::of(&error))?;
            self.shared.state().agent_files.remove(name);
        }
        Ok(())
    }

    fn erase_bodies(&mut self, id: u64, places: &[Position]) -> Result<(), Trouble> {
        let file = self.shared.state().segments.get(&id).map(|segment| Arc::clone(&segment.file));
        let Some(file) = file else { return Ok(()) };
        for at in places {
            self.erase_body(&*file, *at).map_err(|error| Trouble::of(&error))?;
        }
        file.sync().map_err(|error| Trouble::of(&error))
    }

    fn erase_body(&mut self, file: &dyn DiskFile, at: Position) -> std::io::Result<()> {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        read_exact(file, &mut bytes, at.offset)?;
        // A header that says nothing certain is no licence to write.
        let Ok(header) = RecordHeader::decode(&bytes) else { return Ok(()) };
        if !matches!(header.kind, Kind::Block(_)) {
            return Ok(());
        }
        let zeros = vec![0; PIECE_BYTES.min(header.body_bytes() as usize)];
        let mut piece = zeros.clone();
        let mut n_done = 0;
        while n_done < header.body_bytes() {
            let n = zeros.len().min((header.body_bytes() - n_done) as usize);
            let offset = at.offset + (RECORD_HEADER_BYTES as u64) + n_done;
            read_exact(file, &mut piece[..n], offset)?;
            // After a restart most of it has been erased before.
            if piece[..n] != zeros[..n] {
                write_all(file, &zeros[..n], offset)?;
                self.count(n as u64);
            }
            n_done += n as u64;
        }
        Ok(())
    }
}

/// What all pieces of the state of a prefix are buried under.
fn state_at(hash: ChainHash) -> BlockKey {
    fate_of(&BlockKey { hash, group: GroupId::state(0) })
}
