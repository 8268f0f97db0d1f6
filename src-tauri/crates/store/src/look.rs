//! Whether what was said to be saved is still there: files can be removed, cut or moved away under a running store,
//! and the whole directory too.
//!
//! What is gone is no longer called saved, and said; a directory that is gone is made and locked anew. What another
//! process has meanwhile put in its place is that one's, and nothing is written there.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::AgentManifest;
use crate::block_store::{StoreEvent, Trouble};
use crate::config::segment_path;
use crate::open::{Listing, furnish};
use crate::segment::Lane;
use crate::state::StoreState;
use crate::writer::Writer;

/// How often it is looked at most because somebody asks what is saved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Writer {
    /// When to look because somebody has asked.
    pub(crate) fn look_due(&self, state: &StoreState, now: Instant) -> Option<Instant> {
        state.is_look_wanted.then(|| self.looked_at.map_or(now, |at| at + LOOK_EVERY))
    }

    /// Find out what is still there.
    ///
    /// # Errors
    /// The directory cannot be had, or the disk refused.
    pub(crate) fn look(&mut self) -> Result<(), Trouble> {
        self.looked_at = Some(Instant::now());
        self.shared.state().is_look_wanted = false;
        let listing = self.settle();
        self.look_at_segments();
        match listing {
            Ok(listing) => {
                self.look_at_agents(&listing);
                // Another process may have been here while the directory was not ours.
                self.next_segment = self.next_segment.max(listing.next_segment());
                let mut state = self.shared.state();
                state.foreign_bytes = listing.foreign_bytes(&state);
                Ok(())
            }
            Err(error) => {
                // A disk that does not answer says nothing.
                if self.lock.is_of(&self.config.dir).is_ok_and(|is_home| !is_home) {
                    self.lose_agents(|_| true);
                }
                Err(Trouble::of(&error))
            }
        }
    }

    /// Whether the directory is the one that is locked.
    pub(crate) fn is_home(&self) -> bool {
        self.lock.is_of(&self.config.dir).unwrap_or(false)
    }

    /// See that the directory is the one that is locked.
    ///
    /// # Errors
    /// It cannot be had.
    pub(crate) fn hold_home(&mut self) -> Result<(), Trouble> {
        if self.is_home() { Ok(()) } else { self.look() }
    }

    /// Make and lock what is missing of the directory, and list what is there.
    fn settle(&mut self) -> io::Result<Listing> {
        let dir = self.config.dir.as_path();
        if !self.lock.is_of(dir)? {
            self.disk.create_dir(dir)?;
            self.lock = self.disk.lock(dir)?;
        }
        match Listing::of(&*self.disk, dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                furnish(&*self.disk, &self.config)?;
                Listing::of(&*self.disk, dir)
            }
            other => other,
        }
    }

    fn look_at_segments(&mut self) {
        let segments: Vec<_> = {
            let state = self.shared.state();
            state
                .segments
                .iter()
                .map(|(id, segment)| (*id, Arc::clone(&segment.file), segment.n_bytes))
                .collect()
        };
        for (id, file, n_bytes) in segments {
            // A disk that does not answer says nothing of what is there.
            let Ok(found) = file.len_at(&segment_path(&self.config.dir, id)) else { continue };
            let n_there = found.unwrap_or(0);
            let growing = Lane::ALL.into_iter().find_map(|lane| {
                let active = self.active(lane).filter(|active| active.id == id)?;
                Some((lane, active.end))
            });
            let n_needed = growing.map_or(n_bytes, |(_, end)| end);
            if found.is_some() && n_there >= n_needed {
                continue;
            }
            if let Some((lane, _)) = growing {
                self.leave(lane);
            }
            self.lose_beyond(id, n_there);
            if found.is_none() {
                self.shared.state().remove_segment(id);
            }
        }
    }

    /// Of a segment only the first `n_bytes` are there: what was behind them is not saved, and that is said.
    pub(crate) fn lose_beyond(&self, id: u64, n_bytes: u64) {
        let mut state = self.shared.state();
        let lost = state.lose_beyond(id, n_bytes);
        if !lost.is_empty() {
            state.events.push(StoreEvent::Lost(lost));
        }
    }

    fn look_at_agents(&self, listing: &Listing) {
        let there: HashMap<&str, u64> =
            listing.agents.iter().map(|file| (file.name.as_str(), file.n_bytes)).collect();
        let is_any_gone = {
            let state = self.shared.state();
            state.agent_files.iter().any(|(name, n_bytes)| there.get(name.as_str()) != Some(n_bytes))
        };
        if is_any_gone {
            self.lose_agents(|(name, n_bytes)| there.get(name) != Some(&n_bytes));
        }
    }

    /// The manifests whose file, by name and length, `is_gone` are not on disk; they are to be written again.
    fn lose_agents(&self, is_gone: impl Fn((&str, u64)) -> bool) {
        let mut state = self.shared.state();
        let state = &mut *state;
        state.agent_files.retain(|name, n_bytes| !is_gone((name, *n_bytes)));
        let lost: Vec<_> = state
            .written_agents
            .keys()
            .filter(|(fingerprint, name)| {
                !state.agent_files.contains_key(&AgentManifest::file_name(fingerprint, name))
            })
            .cloned()
            .collect();
        for id in lost {
            state.written_agents.remove(&id);
            if state.agents.contains_key(&id) {
                state.dirty_agents.insert(id);
            }
        }
    }
}
