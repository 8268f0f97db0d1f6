//! Opening a directory: the lock, the segments, the manifests, and the index made of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::{AgentManifest, MAX_MANIFEST_BYTES};
use crate::block_store::MissReason;
use crate::config::{StoreConfig, agents_dir, segment_path, segments_dir};
use crate::disk::{Disk, DiskFile, Listed, Patience, read_exact};
use crate::format::{HeaderError, Kind, array};
use crate::jobs::{Deletion, Job};
use crate::opened::Opened;
use crate::place::{Place, Spot};
use crate::scan::scan;
use crate::segment::{Lane, Seal, Segment};
use crate::state::StoreState;
use crate::survey::{Survey, Surveyed};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One process uses a directory at a time.
    #[error("another process{holder} uses {}: stop it, or choose another data folder", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// ` (pid 123)`, or nothing when that is not known.
        holder: String,
    },
    /// The cap leaves no room to work in.
    #[error("a cap of {max_bytes} bytes is less than the smallest, {least} bytes")]
    CapTooSmall {
        /// The cap.
        max_bytes: u64,
        /// The smallest.
        least: u64,
    },
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be read or made.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

pub(crate) const METER: &str = "meter";
const LOCK_FILE: &str = "lock";

/// A file with a greater id is none of ours: there must be ids left for what is written after it.
const MAX_SEGMENT_ID: u64 = u64::MAX >> 1;

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".kv").filter(|digits| digits.len() == 16)?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (id <= MAX_SEGMENT_ID && format!("{id:016x}.kv") == name).then_some(id)
}

/// Open or create the directory and read what it holds.
pub(crate) fn open(disk: &dyn Disk, config: &StoreConfig) -> Result<Opened, OpenError> {
    let least = 4 * config.segment_bytes;
    if config.max_bytes < least {
        return Err(OpenError::CapTooSmall { max_bytes: config.max_bytes, least });
    }
    let dir = config.dir.as_path();
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    disk.create_dir(dir).map_err(at(dir))?;
    let lock = disk.lock(dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned(), holder: holder(disk, dir) },
        _ => OpenError::Io { path: dir.to_owned(), source },
    })?;
    furnish(disk, config).map_err(at(dir))?;
    let mut opened =
        Opened { state: StoreState::default(), lock, next_segment: 1, to_cut: Vec::new(), meter: (0, 0) };
    read_others(disk, dir, &mut opened).map_err(at(dir))?;
    read_segments(disk, dir, &mut opened).map_err(at(&segments_dir(dir)))?;
    read_agents(disk, dir, &mut opened.state).map_err(at(&agents_dir(dir)))?;
    let listing = Listing::of(disk, dir).map_err(at(dir))?;
    opened.state.foreign_bytes = listing.foreign_bytes(&opened.state);
    Ok(opened)
}

/// What a directory that is ours has in it before anything is written.
pub(crate) fn furnish(disk: &dyn Disk, config: &StoreConfig) -> io::Result<()> {
    let dir = config.dir.as_path();
    disk.create_dir(&segments_dir(dir))?;
    disk.create_dir(&agents_dir(dir))?;
    disk.sync_dir(dir)?;
    // A backup that is larger than it need be is no reason to do without the store.
    let _ = (config.exclude_from_backup)(dir);
    Ok(())
}

/// The files of a directory and of those in it.
pub(crate) struct Listing {
    home: Vec<Listed>,
    segments: Vec<Listed>,
    pub(crate) agents: Vec<Listed>,
}

impl Listing {
    pub(crate) fn of(disk: &dyn Disk, dir: &Path) -> io::Result<Listing> {
        Ok(Listing {
            home: disk.list(dir)?,
            segments: disk.list(&segments_dir(dir))?,
            agents: disk.list(&agents_dir(dir))?,
        })
    }

    /// An id that no segment has, nor any after it.
    pub(crate) fn next_segment(&self) -> u64 {
        self.segments.iter().filter_map(|file| segment_id(&file.name)).max().map_or(1, |id| id + 1)
    }

    /// What files that are none of ours take of the disk.
    pub(crate) fn foreign_bytes(&self, state: &StoreState) -> u64 {
        let taken = |files: &[Listed], is_ours: &dyn Fn(&str) -> bool| -> u64 {
            let foreign = files.iter().filter(|file| !is_temporary(&file.name) && !is_ours(&file.name));
            foreign.map(|file| StoreState::footprint(file.real_bytes())).sum()
        };
        let is_segment = |name: &str| segment_id(name).is_some_and(|id| state.segments.contains_key(&id));
        taken(&self.home, &|name| [METER, LOCK_FILE].contains(&name))
            + taken(&self.segments, &is_segment)
            + taken(&self.agents, &|name| state.agent_files.contains_key(name))
    }
}

fn is_temporary(name: &str) -> bool {
    name.ends_with(".tmp")
}

/// A file of ours; nothing when it is not: it has been removed since it was listed, or we may not read it.
fn open_own(disk: &dyn Disk, path: &Path) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        other => Ok(Some(other?)),
    }
}

fn holder(disk: &dyn Disk, dir: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut bytes = [0; 16];
        let n = disk.open(&dir.join(LOCK_FILE))?.read_at(&mut bytes, &mut [], 0, Patience::Wait)?;
        Ok(String::from_utf8_lossy(&bytes[..n]).trim().to_owned())
    };
    match read() {
        Ok(pid) if pid.parse::<u32>().is_ok() => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

/// The meter, and what a crash left of temporary files.
fn read_others(disk: &dyn Disk, dir: &Path, opened: &mut Opened) -> io::Result<()> {
    for file in disk.list(dir)? {
        if is_temporary(&file.name) && disk.remove(&dir.join(&file.name)).is_err() {
            opened.state.other_bytes += StoreState::footprint(file.real_bytes());
        }
        if file.name != METER {
            continue;
        }
        opened.state.other_bytes += StoreState::footprint(file.real_bytes());
        if file.n_bytes == 48 {
            let mut bytes = [0; 48];
            let read = disk.open(&dir.join(METER)).and_then(|file| read_exact(&*file, &mut bytes, 0));
            if read.is_ok() && blake3::hash(&bytes[..16]) == array::<32>(&bytes, 16) {
                let word = |at| u64::from_le_bytes(array(&bytes, at));
                opened.meter = (word(0), word(8));
            }
        }
    }
    Ok(())
}

fn read_segments(disk: &dyn Disk, dir: &Path, opened: &mut Opened) -> io::Result<()> {
    let files = disk.list(&segments_dir(dir))?;
    let mut ids: Vec<_> = files.iter().filter_map(|file| Some((segment_id(&file.name)?, file))).collect();
    ids.sort_unstable_by_key(|(id, _)| *id);
    let mut survey = Survey::default();
    let state = &mut opened.state;
    for (id, listed) in ids {
        opened.next_segment = opened.next_segment.max(id + 1);
        let Some(file) = open_own(disk, &segment_path(dir, id))? else { continue };
        let found = scan(&*file, id)?;
        // What somebody has added to it may be a hole of any length.
        let n_bytes = listed.real_bytes().max(found.end);
        if found.is_sealed && found.end < listed.n_bytes {
            opened.to_cut.push((id, found.end, Seal::Not));
        }
        state.counters.n_other_versions += u64::from(found.is_other_version);
        if !found.is_sealed && !found.is_other_version && found.end > 0 {
            // A seal says that bodies need not be looked at; a hole among them has to be found every time, or the
            // record around it would stand for what it was a copy of.
            let seal = if found.damaged.is_empty() { Seal::Wanted } else { Seal::Not };
            opened.to_cut.push((id, found.end, seal));
        }
        let is_other_version = found.is_other_version;
        let lane = found.records.first().map_or(Lane::Whole, |(_, header)| Lane::of(&header.key));
        let tombstones = survey.add(found);
        let segment = Segment { file, n_bytes, live_bytes: 0, tombstones, lane, is_other_version };
        state.segments.insert(id, segment);
    }
    let Surveyed { alive, dead_pieces, damaged, to_erase } = survey.finish();
    state.dead_pieces = dead_pieces;
    damaged.into_iter().for_each(|key| state.index.lose(key, MissReason::Corrupt));
    if !to_erase.is_empty() {
        state.jobs.push_back(Job::Delete(Deletion { to_erase, ..Deletion::default() }));
    }
    for (at, header) in alive {
        let Kind::Block(reason) = header.kind else { continue };
        let spot = Spot { at, n_bytes: header.record_bytes() };
        state.put(header.key, header.parent, reason.n_pieces(), Place::Disk(spot));
    }
    Ok(())
}

fn read_agents(disk: &dyn Disk, dir: &Path, state: &mut StoreState) -> io::Result<()> {
    let dir = agents_dir(dir);
    let mut agents = Vec::new();
    for listed in disk.list(&dir)? {
        let (name, path) = (listed.name.clone(), dir.join(&listed.name));
        if is_temporary(&name) {
            if disk.remove(&path).is_err() {
                state.other_bytes += StoreState::footprint(listed.real_bytes());
            }
            continue;
        }
        // A manifest has no holes.
        if !AgentManifest::is_file_name(&name) || listed.n_bytes > MAX_MANIFEST_BYTES {
            continue;
        }
        let Some(file) = open_own(disk, &path)? else { continue };
        state.agent_files.insert(name.clone(), listed.n_bytes);
        let mut bytes = vec![0; listed.n_bytes as usize];
        let decoded = match read_exact(&*file, &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HeaderError::Damaged),
            read => read.map(|()| AgentManifest::decode(&bytes))?,
        };
        match decoded {
            Ok(agent) if AgentManifest::file_name(&agent.fingerprint, &agent.name) == name => {
                agents.push(agent);
            }
            Err(HeaderError::Version) => state.counters.n_other_versions += 1,
            // Its blocks are found by content all the same.
            Ok(_) | Err(HeaderError::Damaged) => {
                state.counters.n_quarantined += 1;
                if disk.remove(&path).is_ok() {
                    state.agent_files.remove(&name);
                }
            }
        }
    }
    agents.sort_unstable_by_key(|agent| agent.last_used);
    for agent in agents {
        agent.hashes().for_each(|hash| state.index.touch(hash));
        let (id, agent) = ((agent.fingerprint, agent.name.clone()), Arc::new(agent));
        state.written_agents.insert(id.clone(), Arc::clone(&agent));
        state.agents.insert(id, agent);
    }
    state.repin();
    Ok(())
}
