//! The durable store: its threads, and the calls that talk to them without waiting for the disk.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use address::{BlockKey, ChainHash};

use crate::agent::{AgentManifest, MAX_FORMER, MAX_NAME_BYTES, OfModels, Pin, is_unnamed};
use crate::block_store::{
    BlockStore, Deliver, DurableBlock, FlushReport, MissReason, Origin, SaveCandidate, StoreEvent,
    StoreListener, StoreStats, Wanted,
};
use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::format::{MAX_PAYLOAD_BYTES, MAX_TOKENS};
use crate::idle_buffers::BlockBytes;
use crate::jobs::Read;
use crate::jobs::{Deletion, Flush, Job};
use crate::open::{OpenError, open};
use crate::place::Place;
use crate::reader::{N_READERS, read_all};
use crate::real_disk::RealDisk;
use crate::record::BlockRecord;
use crate::state::{Shared, StoreState};
use crate::writer::Writer;

/// Agents that are remembered at most; beyond that the one used longest ago is forgotten, not its blocks,
/// conversations without a name before all others.
const MAX_AGENTS: usize = 4096;

/// A directory of blocks and agents, open. Dropping it makes everything durable that was saved.
pub struct Store {
    inner: Inner,
    threads: Vec<JoinHandle<()>>,
}

/// What calls need; tests drive it without threads.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    config: StoreConfig,
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Open or create the directory that `config` names and read what it holds.
    ///
    /// # Errors
    /// Another process uses it, the cap is too small to work in, or the disk refused.
    pub fn open(config: StoreConfig) -> Result<Store, OpenError> {
        let dir = config.dir.clone();
        let (inner, writer) = open_on(Arc::new(RealDisk), config)?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let failed = |source| OpenError::Io { path: dir.clone(), source };
            Builder::new().name(name.to_owned()).spawn(body).map_err(failed)
        };
        let write = move || {
            let_others_go_first();
            writer.run();
        };
        let mut threads = vec![spawn("store-writer", Box::new(write))?];
        for _ in 0..N_READERS {
            let shared = Arc::clone(&inner.shared);
            threads.push(spawn("store-reader", Box::new(move || read_all(&shared)))?);
        }
        Ok(Store { inner, threads })
    }
}

/// Make the calling thread one that does not interrupt those that compute: each interruption would hold up a whole
/// step, and what is written has a second's time.
fn let_others_go_first() {
    // Elsewhere that would be the whole process; and where the system refuses, saving costs a little more.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// The parts of an open store, before its threads start.
pub(crate) fn open_on(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<(Inner, Writer), OpenError> {
    let opened = open(&*disk, &config)?;
    let writer = Writer::new(Arc::clone(&disk), config.clone(), opened);
    let inner = Inner { shared: Arc::clone(&writer.shared), config, disk };
    Ok((inner, writer))
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.shared.state().is_stopping = true;
        self.inner.shared.writer_bell.notify_all();
        self.inner.shared.reader_bell.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened; whoever drops the store cannot do more.
            let _ = thread.join();
        }
    }
}

impl BlockStore for Store {
    fn is_on(&self) -> bool {
        true
    }

    fn buffer(&self, n_bytes: usize) -> BlockBytes {
        self.inner.shared.buffers.take(n_bytes)
    }

    fn save(&self, record: BlockRecord) -> Result<(), Box<BlockRecord>> {
        self.inner.save(record)
    }

    fn restore(&self, wanted: Vec<Wanted>, deliver: Deliver) {
        self.inner.restore(wanted, deliver);
    }

    fn flush(&self, done: Box<dyn FnOnce(FlushReport) + Send>) {
        self.inner.flush(done);
    }

    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }

    fn find(&self, keys: &[BlockKey]) -> Vec<Result<(), MissReason>> {
        let state = self.inner.shared.state();
        let find = |key| state.index.find(key).map(|_| ()).ok_or_else(|| state.index.why_missing(key));
        keys.iter().map(find).collect()
    }

    fn bury(&self, keys: Vec<BlockKey>) {
        self.inner.bury(&keys);
    }

    fn durable_at(&self, hashes: &[ChainHash]) -> Vec<DurableBlock> {
        self.inner.durable_at(hashes)
    }

    fn listen(&self, listener: StoreListener) {
        self.inner.shared.add_listener(listener);
    }

    fn admits(&self, candidate: SaveCandidate) -> bool {
        candidate.origin == Origin::Named
            || candidate.n_prompt_tokens >= self.inner.config.min_anonymous_tokens
    }

    fn put_agent(&self, manifest: AgentManifest) {
        self.inner.put_agent(manifest);
    }

    fn agents(&self) -> Vec<Arc<AgentManifest>> {
        self.inner.agents_where(|_| true)
    }

    fn agent(&self, name: &str) -> Vec<Arc<AgentManifest>> {
        self.inner.agents_where(|agent| agent.name == name)
    }

    fn written_agent(&self, name: &str, fingerprint: &[u8; 32]) -> Option<Arc<AgentManifest>> {
        self.inner.written_agent(name, fingerprint)
    }

    fn pin_agent(&self, name: &str, of: OfModels, pin: Pin) -> bool {
        self.inner.pin_agent(name, of, pin)
    }

    fn delete_agent(&self, name: &str, of: OfModels, done: Box<dyn FnOnce() + Send>) -> bool {
        self.inner.delete_agent(name, of, done)
    }
}

impl Inner {
    pub(crate) fn save(&self, record: BlockRecord) -> Result<(), Box<BlockRecord>> {
        let mut state = self.shared.state();
        let is_absurd = !record.reason.fits(&record.key)
            || record.bytes.len() > MAX_PAYLOAD_BYTES as usize
            || record.tokens.len() > MAX_TOKENS as usize;
        let n_pieces = record.reason.n_pieces();
        let is_other = is_absurd || state.is_of_another_cut(&record.key, n_pieces);
        if let Some(place) = state.index.get(&record.key).filter(|_| !is_other) {
            let is_durable = place.is_durable();
            state.index.touch(&record.key.hash);
            if is_durable {
                state.events.push(StoreEvent::Saved(vec![record.key]));
                self.shared.writer_bell.notify_one();
            }
            return Ok(());
        }
        if state.retry_at.is_some() || is_absurd || state.is_stopping {
            // Waiting for the disk would stall requests; a block that is not saved costs time later on.
            state.counters.n_not_saved += 1;
            state.events.push(StoreEvent::NotSaved(vec![record.key]));
            self.shared.writer_bell.notify_one();
            return Ok(());
        }
        let cost = StoreState::queue_cost(&record);
        // A record that is larger than the whole queue goes alone.
        if state.queued_bytes > 0 && state.queued_bytes + cost > self.config.queue_bytes {
            return Err(Box::new(record));
        }
        let record = Arc::new(record);
        state.queued_bytes += cost;
        state.n_queued += 1;
        state.put(record.key, record.parent, n_pieces, Place::Queued(Arc::clone(&record)));
        state.queue.push_back(record);
        self.shared.writer_bell.notify_one();
        Ok(())
    }

    pub(crate) fn bury(&self, keys: &[BlockKey]) {
        let mut state = self.shared.state();
        state.bury(keys.iter().filter(|key| key.group.is_state()).map(|key| key.hash));
        self.shared.writer_bell.notify_one();
    }

    pub(crate) fn restore(&self, wanted: Vec<Wanted>, deliver: Deliver) {
        let mut state = self.shared.state();
        if state.is_stopping {
            drop(state);
            deliver(wanted.iter().map(|_| Err(MissReason::Io)).collect());
            return;
        }
        state.n_reading += 1;
        state.reads.push_back(Read::new(wanted, deliver));
        self.shared.reader_bell.notify_one();
    }

    pub(crate) fn flush(&self, done: Box<dyn FnOnce(FlushReport) + Send>) {
        let mut state = self.shared.state();
        let flush = Flush {
            until: state.n_queued,
            saved_before: state.counters.n_saved,
            not_saved_before: state.counters.n_not_saved,
            done,
        };
        state.flushes.push_back(flush);
        self.shared.writer_bell.notify_one();
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let state = self.shared.state();
        let counters = state.counters;
        StoreStats {
            queued_bytes: state.queued_bytes,
            stored_bytes: state.used_bytes(),
            max_bytes: self.config.max_bytes,
            n_blocks: state.index.n_blocks() as u64,
            n_checkpoints: state.index.n_checkpoints() as u64,
            live_bytes: state.segments.values().map(|segment| segment.live_bytes).sum(),
            checkpoint_bytes: state.index.checkpoint_bytes(),
            written_today_bytes: counters.written_today_bytes,
            written_bytes: counters.written_bytes,
            n_saved: counters.n_saved,
            n_not_saved: counters.n_not_saved,
            n_restored: counters.n_restored,
            n_evicted: counters.n_evicted,
            n_quarantined: counters.n_quarantined,
            n_other_versions: counters.n_other_versions,
            trouble: state.trouble,
        }
    }

    pub(crate) fn put_agent(&self, mut manifest: AgentManifest) {
        if manifest.name.len() > MAX_NAME_BYTES {
            return;
        }
        let mut state = self.shared.state();
        let id = (manifest.fingerprint, manifest.name.clone());
        if let Some(before) = state.agents.get(&id) {
            manifest.former = former(before, &manifest, |hash| state.index.contains(hash));
        }
        manifest.hashes().for_each(|hash| state.index.touch(hash));
        state.agents.insert(id.clone(), Arc::new(manifest));
        state.dirty_agents.insert(id);
        if state.agents.len() > MAX_AGENTS {
            let unpinned = state.agents.iter().filter(|(_, agent)| agent.pin == Pin::Unpinned);
            let order = |(_, agent): &(_, &Arc<AgentManifest>)| (!is_unnamed(&agent.name), agent.last_used);
            let oldest = unpinned.min_by_key(order).map(|(id, _)| id.clone());
            if let Some(id) = oldest {
                state.agents.remove(&id);
                state.written_agents.remove(&id);
                let to_remove = vec![AgentManifest::file_name(&id.0, &id.1)];
                state.jobs.push_back(Job::Delete(Deletion { to_remove, ..Deletion::default() }));
            }
        }
        state.repin();
        self.shared.writer_bell.notify_one();
    }

    pub(crate) fn durable_at(&self, hashes: &[ChainHash]) -> Vec<DurableBlock> {
        let mut state = self.shared.state();
        self.want_look(&mut state);
        hashes.iter().flat_map(|hash| state.index.durable_at(*hash)).collect()
    }

    pub(crate) fn written_agent(&self, name: &str, fingerprint: &[u8; 32]) -> Option<Arc<AgentManifest>> {
        let mut state = self.shared.state();
        self.want_look(&mut state);
        state.written_agents.get(&(*fingerprint, name.to_owned())).cloned()
    }

    /// Whoever asks what is saved is soon told what of it is still there.
    fn want_look(&self, state: &mut StoreState) {
        state.is_look_wanted = true;
        self.shared.writer_bell.notify_one();
    }

    pub(crate) fn agents_where(&self, is_wanted: impl Fn(&AgentManifest) -> bool) -> Vec<Arc<AgentManifest>> {
        let state = self.shared.state();
        let mut found: Vec<_> = state.agents.values().filter(|agent| is_wanted(agent)).cloned().collect();
        found.sort_by_key(|agent| std::cmp::Reverse(agent.last_used));
        found
    }

    pub(crate) fn pin_agent(&self, name: &str, of: OfModels, pin: Pin) -> bool {
        let mut state = self.shared.state();
        let ids = state.ids_of(name, of);
        for id in &ids {
            if let Some(agent) = state.agents.get_mut(id) {
                Arc::make_mut(agent).pin = pin;
            }
            state.dirty_agents.insert(id.clone());
        }
        state.repin();
        self.shared.writer_bell.notify_one();
        !ids.is_empty()
    }

    pub(crate) fn delete_agent(&self, name: &str, of: OfModels, done: Box<dyn FnOnce() + Send>) -> bool {
        let mut state = self.shared.state();
        let ids = state.ids_of(name, of);
        if ids.is_empty() {
            drop(state);
            done();
            return false;
        }
        let mut deletion = Deletion { done: Some(done), ..Deletion::default() };
        for id in ids {
            state.dirty_agents.remove(&id);
            state.written_agents.remove(&id);
            deletion.to_remove.push(AgentManifest::file_name(&id.0, &id.1));
            if let Some(agent) = state.agents.remove(&id) {
                deletion.hashes.extend(agent.hashes().chain(&agent.former));
            }
        }
        state.repin();
        state.jobs.push_back(Job::Delete(deletion));
        self.shared.writer_bell.notify_one();
        true
    }

    /// Bytes that the disk has left, for the status page.
    pub(crate) fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes(&self.config.dir)
    }
}

impl Store {
    /// Bytes that the disk has left.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.inner.free_bytes()
    }
}

/// The blocks that an agent had before and has no longer, as far as they are there.
fn former(
    before: &AgentManifest,
    now: &AgentManifest,
    is_there: impl Fn(&ChainHash) -> bool,
) -> Vec<ChainHash> {
    let kept: HashSet<&ChainHash> = now.hashes().collect();
    let mut found = HashSet::new();
    let old = before.hashes().chain(&before.former);
    let gone = old.filter(|hash| !kept.contains(hash) && is_there(hash) && found.insert(**hash));
    gone.take(MAX_FORMER).copied().collect()
}
