//! A store in memory, whose flushes a test holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use store::{
    AgentManifest, BlockBytes, BlockKey, BlockRecord, BlockStore, ChainHash, DurableBlock, FlushReport,
    MissReason, OfModels, Origin, Pin, SaveCandidate, StoreEvent, StoreListener, StoreStats, Trouble, Wanted,
};

type Delivery = Box<dyn FnOnce(Vec<Result<BlockRecord, MissReason>>) + Send>;
type Done = Box<dyn FnOnce(FlushReport) + Send>;

/// Keeps every record; it is on, and it never runs out of room unless told so.
#[derive(Default)]
pub struct MemoryStore {
    /// Guards everything; held for a look or a change only.
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    records: BTreeMap<BlockKey, BlockRecord>,
    is_full: bool,
    holds_flushes: bool,
    flushes: Vec<Done>,
    n_flushes: usize,
    n_questions: usize,
    holds_restores: bool,
    restores: Vec<(Vec<Wanted>, Delivery)>,
    listeners: Vec<Arc<StoreListener>>,
    agents: BTreeMap<(String, [u8; 32]), Arc<AgentManifest>>,
    spares_anonymous: bool,
    trouble: Option<Trouble>,
    /// Every key that was saved, as often as it was.
    saved: Vec<BlockKey>,
    buried: Vec<BlockKey>,
    corrupt: Vec<BlockKey>,
}

impl MemoryStore {
    /// The records, by key.
    pub fn records(&self) -> Vec<BlockRecord> {
        self.inner().records.values().cloned().collect()
    }

    /// The keys of all that was ever saved, in order.
    pub fn saved(&self) -> Vec<BlockKey> {
        self.inner().saved.clone()
    }

    /// The keys of what is of no use any more, in the order in which that was said.
    pub fn buried(&self) -> Vec<BlockKey> {
        self.inner().buried.clone()
    }

    /// Whether the queue takes anything.
    pub fn set_full(&self, is_full: bool) {
        self.inner().is_full = is_full;
    }

    /// From now on a flush ends only with [`MemoryStore::end_flush`].
    pub fn hold_flushes(&self) {
        self.inner().holds_flushes = true;
    }

    /// Wait until a flush was asked for.
    pub fn held_flush(&self) {
        let mut inner = self.inner();
        while inner.flushes.is_empty() {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Let the oldest flush end and hold the others.
    pub fn end_one_flush(&self) {
        let done = self.inner().flushes.remove(0);
        done(FlushReport::default());
    }

    /// Let every flush end, and the later ones too.
    pub fn end_flush(&self) {
        let flushes = {
            let mut inner = self.inner();
            inner.holds_flushes = false;
            std::mem::take(&mut inner.flushes)
        };
        flushes.into_iter().for_each(|done| done(FlushReport::default()));
    }

    /// From now on a restore ends only with [`MemoryStore::end_restores`].
    pub fn hold_restores(&self) {
        self.inner().holds_restores = true;
    }

    /// Wait until a restore was asked for.
    pub fn held_restore(&self) {
        let mut inner = self.inner();
        while inner.restores.is_empty() {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Let every restore end, and the later ones too.
    pub fn end_restores(&self) {
        let restores = {
            let mut inner = self.inner();
            inner.holds_restores = false;
            std::mem::take(&mut inner.restores)
        };
        restores.into_iter().for_each(|(wanted, deliver)| self.restore(wanted, deliver));
    }

    /// How many flushes were asked for.
    pub fn n_flushes(&self) -> usize {
        self.inner().n_flushes
    }

    /// How often somebody asked which blocks are there, for however many.
    pub fn n_questions(&self) -> usize {
        self.inner().n_questions
    }

    /// Change a record, as a disk that goes bad does.
    pub fn damage(&self, change: impl Fn(&mut BlockRecord)) {
        self.inner().records.values_mut().for_each(change);
    }

    /// From now on prompts without a name are not worth writing.
    pub fn spare_anonymous(&self) {
        self.inner().spares_anonymous = true;
    }

    /// From now on nothing is saved, or everything again.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        // Whoever hears that something was not saved has to know why.
        if let Some(trouble) = trouble {
            self.tell(StoreEvent::Failing(trouble));
        }
        self.inner().trouble = trouble;
        if trouble.is_none() {
            self.tell(StoreEvent::Recovered);
        }
    }

    /// The record is found to be damaged when it is read; one piece of a state takes the others with it.
    pub fn corrupt(&self, key: BlockKey) {
        self.inner().corrupt.push(key);
    }

    /// Some files are gone, whose records these were.
    pub fn lose(&self, is_lost: impl Fn(&BlockKey) -> bool) {
        let mut inner = self.inner();
        let keys: Vec<BlockKey> = inner.records.keys().filter(|key| is_lost(key)).copied().collect();
        keys.iter().for_each(|key| drop(inner.records.remove(key)));
        drop(inner);
        self.tell(StoreEvent::Lost(keys));
    }

    /// Forget one record.
    pub fn give_up_block(&self, key: &BlockKey) {
        self.inner().records.remove(key);
    }

    /// Forget every record, as a store does that needs the space.
    pub fn give_up(&self) {
        self.inner().records.clear();
    }

    fn tell(&self, event: StoreEvent) {
        let listeners = self.inner().listeners.clone();
        listeners.iter().for_each(|listener| listener(event.clone()));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for MemoryStore {
    fn is_on(&self) -> bool {
        true
    }

    fn find(&self, keys: &[BlockKey]) -> Vec<Result<(), MissReason>> {
        let mut inner = self.inner();
        inner.n_questions += 1;
        let find = |key| inner.records.get(key).map(|_| ()).ok_or(MissReason::Absent);
        keys.iter().map(find).collect()
    }

    fn save(&self, record: BlockRecord) -> Result<(), Box<BlockRecord>> {
        let mut inner = self.inner();
        if inner.is_full {
            return Err(Box::new(record));
        }
        let key = record.key;
        let event = if inner.trouble.is_some() {
            StoreEvent::NotSaved(vec![key])
        } else {
            inner.records.insert(key, record);
            inner.saved.push(key);
            StoreEvent::Saved(vec![key])
        };
        drop(inner);
        self.tell(event);
        Ok(())
    }

    fn listen(&self, listener: StoreListener) {
        self.inner().listeners.push(Arc::new(listener));
    }

    fn admits(&self, candidate: SaveCandidate) -> bool {
        candidate.origin == Origin::Named || !self.inner().spares_anonymous
    }

    fn put_agent(&self, mut manifest: AgentManifest) {
        let id = (manifest.name.clone(), manifest.fingerprint);
        let mut inner = self.inner();
        if let Some(before) = inner.agents.get(&id) {
            let old = before.blocks.iter().chain(&before.tail).chain(&before.former);
            let is_kept =
                |hash: &&ChainHash| manifest.blocks.contains(*hash) || manifest.tail.as_ref() == Some(*hash);
            manifest.former = old.filter(|hash| !is_kept(hash)).copied().collect();
        }
        inner.agents.insert(id, Arc::new(manifest));
    }

    fn agents(&self) -> Vec<Arc<AgentManifest>> {
        self.inner().agents.values().cloned().collect()
    }

    fn pin_agent(&self, name: &str, of: OfModels, pin: Pin) -> bool {
        let mut inner = self.inner();
        let mut is_known = false;
        let is_meant =
            |agent: &&mut Arc<AgentManifest>| agent.name == name && of.includes(&agent.fingerprint);
        for agent in inner.agents.values_mut().filter(is_meant) {
            Arc::make_mut(agent).pin = pin;
            is_known = true;
        }
        is_known
    }

    fn delete_agent(&self, name: &str, of: OfModels, done: Box<dyn FnOnce() + Send>) -> bool {
        let mut inner = self.inner();
        let n_before = inner.agents.len();
        let mut gone = Vec::new();
        inner.agents.retain(|(known, fingerprint), agent| {
            let is_meant = known == name && of.includes(fingerprint);
            if is_meant {
                gone.extend(agent.blocks.iter().chain(&agent.tail).chain(&agent.former).copied());
            }
            !is_meant
        });
        let kept: Vec<ChainHash> =
            inner.agents.values().flat_map(|a| a.blocks.iter().chain(&a.tail).copied()).collect();
        inner.records.retain(|key, _| !gone.contains(&key.hash) || kept.contains(&key.hash));
        let is_known = inner.agents.len() < n_before;
        drop(inner);
        done();
        is_known
    }

    fn durable_at(&self, hashes: &[ChainHash]) -> Vec<DurableBlock> {
        let inner = self.inner();
        let records = inner.records.values().filter(|record| hashes.contains(&record.key.hash));
        records.map(|record| DurableBlock { key: record.key, n_bytes: record.bytes.len() as u64 }).collect()
    }

    fn bury(&self, keys: Vec<BlockKey>) {
        let mut inner = self.inner();
        // Any piece stands for all of its state, and a block of KV stays.
        let is_buried = |key: &BlockKey| {
            key.group.is_state() && keys.iter().any(|other| other.group.is_state() && other.hash == key.hash)
        };
        inner.records.retain(|key, _| !is_buried(key));
        inner.buried.extend(keys);
    }

    fn restore(&self, wanted: Vec<Wanted>, deliver: Delivery) {
        let found = {
            let mut inner = self.inner();
            if inner.holds_restores {
                inner.restores.push((wanted, deliver));
                self.changed.notify_all();
                return;
            }
            let mut quarantined: Vec<BlockKey> = Vec::new();
            let found = |Wanted { key, fingerprint, room }| {
                if inner.corrupt.contains(&key) {
                    let is_its = |other: &BlockKey| {
                        other.group.is_state() && key.group.is_state() && other.hash == key.hash
                    };
                    quarantined.extend(inner.records.keys().filter(|other| **other == key || is_its(other)));
                    return Err(MissReason::Corrupt);
                }
                let mut record = inner.records.get(&key).cloned().ok_or(MissReason::Absent)?;
                if record.fingerprint != fingerprint {
                    return Err(MissReason::Foreign);
                }
                if let Some(mut room) = room.filter(|room: &BlockBytes| room.len() == record.bytes.len()) {
                    room.copy_from_slice(&record.bytes);
                    record.bytes = room;
                }
                Ok(record)
            };
            let found = wanted.into_iter().map(found).collect();
            inner.records.retain(|key, _| !quarantined.contains(key));
            found
        };
        deliver(found);
    }

    fn flush(&self, done: Done) {
        let mut inner = self.inner();
        inner.n_flushes += 1;
        if inner.holds_flushes {
            inner.flushes.push(done);
            self.changed.notify_all();
            return;
        }
        drop(inner);
        done(FlushReport::default());
    }

    fn stats(&self) -> StoreStats {
        StoreStats { trouble: self.inner().trouble, ..StoreStats::default() }
    }
}
