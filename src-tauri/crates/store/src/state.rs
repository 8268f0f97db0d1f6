//! What the store's threads share: the index, the segments' sizes, the queue, the agents, the counters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use address::{BlockKey, ChainHash};

use crate::agent::{AgentManifest, OfModels, Pin};
use crate::block_store::{MissReason, StoreEvent, StoreListener, Trouble};
use crate::format::RECORD_HEADER_BYTES;
use crate::idle_buffers::IdleBuffers;
use crate::index::Index;
use crate::jobs::{Flush, Job, Read};
use crate::place::{Place, Spot};
use crate::record::BlockRecord;
use crate::segment::Segment;

/// The unit in which file systems give out space.
const FS_BLOCK_BYTES: u64 = 4096;
/// The directories themselves and the lock file.
const DIRECTORIES_BYTES: u64 = 4 * FS_BLOCK_BYTES;

/// Keys that are remembered as read past the page cache.
const MAX_FETCHED: usize = 1 << 16;

/// A model's fingerprint and an agent's name.
pub(crate) type AgentId = ([u8; 32], String);

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) n_saved: u64,
    pub(crate) n_not_saved: u64,
    pub(crate) n_restored: u64,
    pub(crate) n_evicted: u64,
    pub(crate) n_quarantined: u64,
    pub(crate) n_other_versions: u64,
    pub(crate) written_today_bytes: u64,
    pub(crate) written_bytes: u64,
}

/// Everything that more than one thread needs.
#[derive(Default)]
pub(crate) struct StoreState {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u64, Segment>,
    /// Pieces of states that nothing points to and that are still on disk, by their hash: a deletion erases them too,
    /// and their tombstones are needed as long.
    pub(crate) dead_pieces: HashMap<ChainHash, Vec<Spot>>,
    pub(crate) agents: BTreeMap<AgentId, Arc<AgentManifest>>,
    /// The manifests as they are on disk, synced: what a crash leaves of the agents.
    pub(crate) written_agents: BTreeMap<AgentId, Arc<AgentManifest>>,
    /// Manifests to be written.
    pub(crate) dirty_agents: BTreeSet<AgentId>,
    /// Manifest files by name, with their lengths.
    pub(crate) agent_files: BTreeMap<String, u64>,
    /// Files of ours that are neither segments nor manifests: the meter, and temporary ones.
    pub(crate) other_bytes: u64,
    /// Files that are none of ours, as they take room.
    pub(crate) foreign_bytes: u64,
    /// Whether somebody has asked what is still there.
    pub(crate) is_look_wanted: bool,

    pub(crate) queue: VecDeque<Arc<BlockRecord>>,
    /// Bytes of records in the queue or written and not synced.
    pub(crate) queued_bytes: u64,
    /// How many records were ever queued.
    pub(crate) n_queued: u64,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) flushes: VecDeque<Flush>,
    pub(crate) reads: VecDeque<Read>,
    /// Blocks that were read past the page cache.
    pub(crate) fetched: HashSet<BlockKey>,
    /// Reads queued or under way.
    pub(crate) n_reading: usize,
    pub(crate) is_stopping: bool,

    pub(crate) counters: Counters,
    pub(crate) trouble: Option<Trouble>,
    /// Until then nothing is tried.
    pub(crate) retry_at: Option<Instant>,
    pub(crate) events: Vec<StoreEvent>,
}

/// The state and the bells.
pub(crate) struct Shared {
    /// Guards everything that the threads share; held for a look or a change, never across a disk operation.
    state: Mutex<StoreState>,
    pub(crate) writer_bell: Condvar,
    pub(crate) reader_bell: Condvar,
    pub(crate) buffers: Arc<IdleBuffers>,
    /// Guards the listeners only; taken after the state is let go of.
    listeners: Mutex<Vec<StoreListener>>,
}

impl Shared {
    /// With idle buffers of up to `max_idle_bytes`.
    pub(crate) fn new(state: StoreState, max_idle_bytes: usize) -> Shared {
        Shared {
            state: Mutex::new(state),
            writer_bell: Condvar::new(),
            reader_bell: Condvar::new(),
            buffers: IdleBuffers::new(max_idle_bytes),
            listeners: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_listener(&self, listener: StoreListener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Tell the listeners what has happened.
    pub(crate) fn announce(&self) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let events = std::mem::take(&mut self.state().events);
        for event in events {
            listeners.iter().for_each(|listener| listener(event.clone()));
        }
    }
}

impl StoreState {
    /// What a file of `n_bytes` takes on disk.
    pub(crate) fn footprint(n_bytes: u64) -> u64 {
        n_bytes.div_ceil(FS_BLOCK_BYTES) * FS_BLOCK_BYTES
    }

    /// Bytes of the whole directory, what others put there included.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.own_bytes() + self.foreign_bytes
    }

    /// Bytes of what is ours.
    pub(crate) fn own_bytes(&self) -> u64 {
        let segments: u64 =
            self.segments.values().map(|segment| StoreState::footprint(segment.n_bytes)).sum();
        let agents: u64 = self.agent_files.values().map(|n_bytes| StoreState::footprint(*n_bytes)).sum();
        DIRECTORIES_BYTES + segments + agents + self.other_bytes
    }

    /// Bytes of memory that a queued record counts for.
    pub(crate) fn queue_cost(record: &BlockRecord) -> u64 {
        (RECORD_HEADER_BYTES + 4 * record.tokens.len() + record.bytes.len()) as u64
    }

    /// Book that the record at `place` is no longer pointed to.
    fn let_go(&mut self, key: &BlockKey, place: &Place) {
        if let Place::Disk(spot) = place
            && let Some(segment) = self.segments.get_mut(&spot.at.segment)
        {
            segment.live_bytes = segment.live_bytes.saturating_sub(spot.n_bytes);
            self.note_dead(key, *spot);
        }
    }

    /// Book that a record is on disk that nothing points to.
    pub(crate) fn note_dead(&mut self, key: &BlockKey, spot: Spot) {
        if key.group.is_state() {
            self.dead_pieces.entry(key.hash).or_default().push(spot);
        }
    }

    /// Book that of a segment only the first `n_bytes` are there.
    fn forget_dead_beyond(&mut self, id: u64, n_bytes: u64) {
        let is_there = |spot: &Spot| spot.at.segment != id || spot.at.offset + spot.n_bytes <= n_bytes;
        self.dead_pieces.values_mut().for_each(|spots| spots.retain(is_there));
        self.dead_pieces.retain(|_, spots| !spots.is_empty());
    }

    /// Book that a segment is gone.
    pub(crate) fn remove_segment(&mut self, id: u64) {
        self.segments.remove(&id);
        self.forget_dead_beyond(id, 0);
    }

    /// Point a block, or one of `n_pieces` of a state, at a place.
    pub(crate) fn put(&mut self, key: BlockKey, parent: ChainHash, n_pieces: u16, place: Place) {
        if self.is_of_another_cut(&key, n_pieces) {
            self.forget_state(&key.hash, MissReason::Absent);
        }
        if let Place::Disk(spot) = &place
            && let Some(segment) = self.segments.get_mut(&spot.at.segment)
        {
            segment.live_bytes += spot.n_bytes;
        }
        if let Some(before) = self.index.insert(key, parent, n_pieces, place) {
            self.let_go(&key, &before);
        }
    }

    /// Whether what is there of a state was cut into another number of pieces.
    pub(crate) fn is_of_another_cut(&self, key: &BlockKey, n_pieces: u16) -> bool {
        key.group.is_state() && self.index.n_pieces(&key.hash).is_some_and(|known| known != n_pieces)
    }

    /// Point a block at its copy; that is no use of it.
    pub(crate) fn relocate(&mut self, key: BlockKey, spot: Spot) {
        if let Some(segment) = self.segments.get_mut(&spot.at.segment) {
            segment.live_bytes += spot.n_bytes;
        }
        if let Some(before) = self.index.relocate(&key, Place::Disk(spot)) {
            self.let_go(&key, &before);
        }
    }

    /// Forget one record.
    fn forget(&mut self, key: &BlockKey, why: MissReason) -> Option<Place> {
        let place = self.index.remove(key, why)?;
        self.let_go(key, &place);
        Some(place)
    }

    /// Forget a block; or a state, whichever of its pieces this is. Returns how many records that were.
    pub(crate) fn forget_fate(&mut self, key: &BlockKey, why: MissReason) -> usize {
        match key.group.is_state() {
            true => self.forget_state(&key.hash, why),
            false => usize::from(self.forget(key, why).is_some()),
        }
    }

    /// Forget a state; whoever waits for a piece of it to be durable is told. Returns how many pieces that were.
    pub(crate) fn forget_state(&mut self, hash: &ChainHash, why: MissReason) -> usize {
        let places = self.index.remove_state(hash, why);
        places.iter().for_each(|(key, place)| self.let_go(key, place));
        let queued = places.iter().filter(|(_, place)| !place.is_durable());
        let queued: Vec<BlockKey> = queued.map(|(key, _)| *key).collect();
        if !queued.is_empty() {
            self.events.push(StoreEvent::NotSaved(queued));
        }
        places.len()
    }

    /// Forget a node.
    pub(crate) fn forget_node(&mut self, hash: &ChainHash) -> Vec<(BlockKey, Place)> {
        let places = self.index.remove_node(hash);
        places.iter().for_each(|(key, place)| self.let_go(key, place));
        places
    }

    /// Forget the blocks of a segment whose records are not within its first `n_bytes`; these are returned.
    pub(crate) fn lose_beyond(&mut self, id: u64, n_bytes: u64) -> Vec<BlockKey> {
        let is_beyond = |place: &Place| match place {
            Place::Disk(spot) => spot.at.offset + spot.n_bytes > n_bytes,
            Place::Queued(_) => false,
        };
        let in_segment = self.index.keys_in(id);
        let lost: Vec<BlockKey> =
            in_segment.into_iter().filter(|key| self.index.get(key).is_some_and(is_beyond)).collect();
        lost.iter().for_each(|key| drop(self.forget(key, MissReason::Absent)));
        self.forget_dead_beyond(id, n_bytes);
        lost
    }

    /// Take a damaged block, or the state of a damaged piece, out of the index and have its records buried.
    pub(crate) fn quarantine(&mut self, key: &BlockKey) {
        self.forget_fate(key, MissReason::Corrupt);
        self.counters.n_quarantined += 1;
        self.jobs.push_back(Job::Quarantine(*key));
    }

    /// Take states out of the index that are of no use any more, and have their records buried.
    pub(crate) fn bury(&mut self, hashes: impl Iterator<Item = ChainHash>) {
        let is_there = |hash: &ChainHash| self.forget_state(hash, MissReason::Absent) > 0;
        let buried: Vec<ChainHash> = hashes.filter(is_there).collect();
        if !buried.is_empty() {
            self.jobs.push_back(Job::Bury(buried));
        }
    }

    /// A block came past the page cache.
    pub(crate) fn note_fetched(&mut self, key: BlockKey) {
        if self.fetched.len() >= MAX_FETCHED {
            self.fetched.clear();
        }
        self.fetched.insert(key);
    }

    /// Which manifests an agent's name means.
    pub(crate) fn ids_of(&self, name: &str, of: OfModels) -> Vec<AgentId> {
        let is_meant = |(fingerprint, other): &&AgentId| other == name && of.includes(fingerprint);
        self.agents.keys().filter(is_meant).cloned().collect()
    }

    /// Make the index exempt what pinned agents rest on.
    pub(crate) fn repin(&mut self) {
        let pinned = self.agents.values().filter(|agent| agent.pin == Pin::Pinned);
        let hashes = pinned.flat_map(|agent| agent.hashes()).copied().collect();
        self.index.set_pinned(hashes);
    }

    /// Of the hashes of deleted agents, and all that continues them, what no remaining agent rests on.
    pub(crate) fn orphaned(&self, hashes: Vec<ChainHash>) -> Vec<ChainHash> {
        let kept: HashSet<&ChainHash> = self.agents.values().flat_map(|agent| agent.hashes()).collect();
        let own = hashes.into_iter().filter(|hash| !kept.contains(hash)).collect();
        self.index.with_descendants(own).into_iter().filter(|hash| !kept.contains(hash)).collect()
    }

    /// Give up everything that waits to be written.
    pub(crate) fn drop_queue(&mut self) {
        let mut keys = Vec::new();
        for record in std::mem::take(&mut self.queue) {
            self.queued_bytes -= StoreState::queue_cost(&record);
            self.counters.n_not_saved += 1;
            if self.is_queued(&record) {
                self.index.remove(&record.key, MissReason::Io);
            }
            keys.push(record.key);
        }
        if !keys.is_empty() {
            self.events.push(StoreEvent::NotSaved(keys));
        }
    }

    /// Whether the index still points to this record in memory.
    pub(crate) fn is_queued(&self, record: &Arc<BlockRecord>) -> bool {
        matches!(self.index.get(&record.key), Some(Place::Queued(queued)) if Arc::ptr_eq(queued, record))
    }
}
