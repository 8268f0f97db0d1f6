//! The writer's small files: manifests and the meter, each replaced as a whole.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::agent::AgentManifest;
use crate::block_store::Trouble;
use crate::config::agents_dir;
use crate::disk::write_all;
use crate::open::METER;
use crate::segment::Purpose;
use crate::state::{AgentId, StoreState};
use crate::writer::{METER_EVERY, Writer};

impl Writer {
    /// Write the manifests that have changed.
    pub(crate) fn write_agents(&mut self) -> Result<(), Trouble> {
        let ids = std::mem::take(&mut self.shared.state().dirty_agents);
        if ids.is_empty() {
            return Ok(());
        }
        let each: Result<Vec<_>, Trouble> = ids.iter().map(|id| self.write_agent(id)).collect();
        let written = each.and_then(|agents| {
            let dir = agents_dir(&self.config.dir);
            self.disk.sync_dir(&dir).map_err(|error| Trouble::of(&error))?;
            Ok(agents)
        });
        let mut state = self.shared.state();
        match written {
            Ok(agents) => {
                for (id, agent) in ids.into_iter().zip(agents) {
                    // It may have been deleted meanwhile.
                    if let Some(agent) = agent.filter(|_| state.agents.contains_key(&id)) {
                        state.written_agents.insert(id, agent);
                    }
                }
                Ok(())
            }
            Err(trouble) => {
                state.dirty_agents.extend(ids);
                Err(trouble)
            }
        }
    }

    fn write_agent(&mut self, id: &AgentId) -> Result<Option<Arc<AgentManifest>>, Trouble> {
        let agent = self.shared.state().agents.get(id).cloned();
        let Some(agent) = agent else { return Ok(None) };
        let name = AgentManifest::file_name(&id.0, &id.1);
        let bytes = agent.encode();
        self.make_room(bytes.len() as u64, Purpose::Save)?;
        let path = agents_dir(&self.config.dir).join(&name);
        self.replace(&path, &bytes).map_err(|error| Trouble::of(&error))?;
        self.shared.state().agent_files.insert(name, bytes.len() as u64);
        Ok(Some(agent))
    }

    /// Put a file in the place of another, whole or not at all.
    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.is_home() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let temporary = path.with_extension("tmp");
        self.shared.state().other_bytes += StoreState::footprint(bytes.len() as u64);
        let file = self.disk.create(&temporary)?;
        let replaced = write_all(&*file, bytes, 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.disk.rename(&temporary, path));
        self.count(bytes.len() as u64);
        let is_gone = replaced.is_ok() || self.disk.remove(&temporary).is_ok();
        if is_gone {
            self.shared.state().other_bytes -= StoreState::footprint(bytes.len() as u64);
        }
        replaced
    }

    pub(crate) fn save_meter_now_and_then(&mut self, now: Instant) {
        if now.saturating_duration_since(self.meter_saved.1) >= METER_EVERY {
            self.to_cut.append(&mut self.uncut);
            self.shared.state().is_look_wanted = true;
            let is_unused = self.meter.1 == self.meter_saved.0;
            if is_unused {
                self.shared.buffers.free();
            }
            self.save_meter();
        }
    }

    /// The meter is a courtesy: nothing is given up for it, and a crash costs it a minute.
    pub(crate) fn save_meter(&mut self) {
        let (was, _) = std::mem::replace(&mut self.meter_saved, (self.meter.1, Instant::now()));
        if was == self.meter.1 {
            return;
        }
        let mut bytes = [self.meter.0.to_le_bytes(), self.meter.1.to_le_bytes()].concat();
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        let path = self.config.dir.join(METER);
        let is_saved = self.make_room(2 * bytes.len() as u64, Purpose::Move).is_ok()
            && self.replace(&path, &bytes).is_ok();
        if is_saved {
            // Its own bytes are no reason to save it again, or a store that nobody uses would be written for ever.
            self.meter_saved.0 = self.meter.1;
        }
    }
}
