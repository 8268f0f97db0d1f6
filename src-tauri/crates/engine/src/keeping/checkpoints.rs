//! Which states of recurrent layers are worth a place on disk, and which of those that have one are not any more.
//!
//! Of each conversation the newest three matter: the end of what the system says, which others share, the point to
//! which its next turn goes back, and the end of its last answer. All else is cache in memory.
//!
//! ```text
//!  taken ──▶ Held ──── rest, evicted, memory is short, a drain ────▶ Writing ──── all pieces are durable ────▶ Durable
//!              └ a newer one takes its place: it is never written               └ the conversation's older ones are
//!                                                                                 buried: the store may drop them
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler::{BlockKey, ChainHash, Checkpoint, CheckpointClass, GroupId, Scheduler, SeqId, StoreMode};
use store::{BlockStore, StoreEvent, is_unnamed};

use super::conversation::Conversation;
use super::manifests::{all_hashes, manifest_of};
use super::saving::Saving;

/// How long a conversation rests before its states are written: the next round of a turn mostly comes sooner, and its
/// states take their place.
const REST: Duration = Duration::from_secs(5);

/// Conversations of one name whose newest states are kept apart: an agent's helpers go by its name too.
const MAX_OF_A_NAME: usize = 4;

/// Conversations that are remembered; what of others is on disk stays there until the store needs the space.
const MAX_CONVERSATIONS: usize = 4096;

/// Where a state stands that a conversation wants on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Its memory is not given up before it is written.
    Held,
    /// These of its pieces are not durable yet.
    Writing(BTreeSet<usize>),
    /// It outlives a power cut.
    Durable,
}

/// Follows the states of one model's conversations.
pub(crate) struct Checkpoints {
    store: Arc<dyn BlockStore>,
    fingerprint: [u8; 32],
    /// Blocks of a state; 0 where the model has none.
    n_pieces: usize,
    last_id: u64,
    conversations: BTreeMap<u64, Conversation>,
    of_sequences: HashMap<SeqId, u64>,
    /// Of states that are the newest of a conversation, and on disk or to be.
    standing: HashMap<ChainHash, Standing>,
    /// Those of them that are held.
    n_held: usize,
    /// What names had on disk when they were first heard of, as far as no conversation has taken it over.
    left: BTreeMap<String, Left>,
}

/// States on disk of conversations that were not in memory.
#[derive(Debug, Default)]
struct Left {
    /// Addresses of the last conversation's blocks.
    path: HashSet<ChainHash>,
    states: BTreeSet<ChainHash>,
}

/// A sequence that begins.
pub(crate) struct Beginning<'a> {
    pub(crate) id: SeqId,
    /// What its conversation is known by.
    pub(crate) name: String,
    /// The end of what the system says.
    pub(crate) system_end: Option<ChainHash>,
    /// Whether what it computes is worth writing.
    pub(crate) is_worth: bool,
    /// The address of so many leading tokens of its prompt.
    pub(crate) address: &'a dyn Fn(usize) -> Option<ChainHash>,
}

impl Checkpoints {
    pub(crate) fn new(store: Arc<dyn BlockStore>, fingerprint: [u8; 32], n_pieces: usize) -> Checkpoints {
        Checkpoints {
            store,
            fingerprint,
            n_pieces,
            last_id: 0,
            conversations: BTreeMap::new(),
            of_sequences: HashMap::new(),
            standing: HashMap::new(),
            n_held: 0,
            left: BTreeMap::new(),
        }
    }

    /// Whether there is anything to follow.
    pub(crate) fn is_on(&self) -> bool {
        self.n_pieces > 0
    }

    /// A sequence has been admitted, for the first time or again.
    pub(crate) fn begin(&mut self, beginning: &Beginning<'_>) {
        let Beginning { id, ref name, system_end, is_worth, .. } = *beginning;
        if !self.is_on() || self.of_sequences.contains_key(&id) {
            return;
        }
        self.recall(name);
        let of = self.find(beginning).unwrap_or_else(|| self.add(name));
        let taken = self.left.get_mut(name).map(|left| left.take(system_end)).unwrap_or_default();
        if let Some(conversation) = self.conversations.get_mut(&of) {
            conversation.on_disk.extend(taken);
            conversation.begin(system_end, is_worth);
            self.of_sequences.insert(id, of);
        }
    }

    /// A sequence came by a place where its state is kept.
    pub(crate) fn took(&mut self, taken: &Checkpoint, scheduler: &mut Scheduler, saving: &mut Saving) {
        let Checkpoint { seq, hash, class, n_tokens, is_there } = *taken;
        let of = self.of_sequences.get(&seq);
        let Some(conversation) = of.and_then(|of| self.conversations.get_mut(of)) else { return };
        if class == CheckpointClass::ReturnPoint {
            conversation.lacks_return_point = !is_there;
        }
        if !is_there {
            return;
        }
        let before = conversation.newest.put(class, (n_tokens, hash));
        if conversation.is_worth && conversation.newest.has(&hash) {
            self.want(hash, scheduler);
        }
        if let Some(before) = before {
            self.let_go(&before, scheduler, saving);
        }
    }

    /// A sequence has ended, and all its states were taken.
    pub(crate) fn end(&mut self, id: SeqId, now: Instant) {
        let of = self.of_sequences.remove(&id);
        if let Some(conversation) = of.and_then(|of| self.conversations.get_mut(&of)) {
            conversation.end(now);
        }
    }

    /// What runs is about to be cut short: the states that it leaves behind are not worth writing.
    pub(crate) fn end_all(&mut self, now: Instant) {
        for id in self.of_sequences.keys().copied().collect::<Vec<_>>() {
            self.end(id, now);
        }
    }

    /// The pool has forgotten these: they were not what they were taken for.
    pub(crate) fn drop_states(&mut self, keys: &[BlockKey]) {
        for hash in states_of(keys.iter()) {
            self.set(hash, None);
            self.conversations.values_mut().for_each(|of| of.newest.remove(&hash));
        }
    }

    /// A name's conversations are deleted, those that run too.
    pub(crate) fn forget(&mut self, name: &str, scheduler: &mut Scheduler, saving: &mut Saving) {
        let ids: Vec<u64> = self.of_name(name).map(|(id, _)| id).collect();
        self.of_sequences.retain(|_, of| !ids.contains(of));
        self.left.remove(name);
        let gone: Vec<_> = ids.iter().filter_map(|id| self.conversations.remove(id)).collect();
        for hash in gone.iter().flat_map(|gone| gone.newest.all()) {
            self.let_go(&hash, scheduler, saving);
        }
    }

    /// Whether a state waits to be written.
    pub(crate) fn is_holding(&self) -> bool {
        self.n_held > 0
    }

    /// When the next conversation will have rested long enough.
    pub(crate) fn next_due(&self, scheduler: &Scheduler) -> Option<Instant> {
        let is_saving = scheduler.store() == StoreMode::On && self.is_holding();
        let holding = self.conversations.values().filter(|of| is_saving && self.holds(of));
        holding.filter_map(Conversation::resting_since).min().map(|since| since + REST)
    }

    /// Have the states written of conversations that have rested long enough. Returns whether there are some.
    pub(crate) fn write_rested(&mut self, now: Instant, scheduler: &mut Scheduler) -> bool {
        let is_due = self.next_due(scheduler).is_some_and(|due| due <= now);
        if is_due {
            let has_rested = |of: &Conversation| of.resting_since().is_some_and(|since| since + REST <= now);
            self.write_where(scheduler, has_rested);
        }
        is_due
    }

    /// Have the states written of conversations of which nothing runs.
    pub(crate) fn write_resting(&mut self, scheduler: &mut Scheduler) {
        self.write_where(scheduler, |of| of.resting_since().is_some());
    }

    /// Have the states of all conversations written.
    pub(crate) fn write_all(&mut self, scheduler: &mut Scheduler) {
        self.write_where(scheduler, |_| true);
    }

    /// Have the states of a name's conversations written.
    pub(crate) fn write_of(&mut self, name: &str, scheduler: &mut Scheduler) {
        self.write_where(scheduler, |of| of.name == name);
    }

    /// A name's conversations leave memory: what of their states is not durable yet, as soon as it is.
    pub(crate) fn leave(&mut self, name: &str) {
        let standing = &self.standing;
        let is_durable = |hash| standing.get(&hash).is_none_or(|is| *is == Standing::Durable);
        for conversation in self.conversations.values_mut().filter(|of| of.name == name) {
            conversation.is_leaving = !conversation.newest.all().all(is_durable);
        }
    }

    /// The newest states of a name's conversations.
    pub(crate) fn newest_of(&self, name: &str) -> Vec<ChainHash> {
        self.of_name(name).flat_map(|(_, of)| of.newest.all()).collect()
    }

    /// The store has news, of which the pool knows already. Returns the states that waited for it to leave memory.
    pub(crate) fn hear(&mut self, event: &StoreEvent, scheduler: &mut Scheduler) -> Vec<ChainHash> {
        match event {
            StoreEvent::Saved(keys) => return self.saved(keys),
            // Deleted on their way: nobody wants them any more.
            StoreEvent::NotSaved(keys) if scheduler.store() == StoreMode::On => {
                for hash in states_of(keys.iter()) {
                    self.set(hash, None);
                }
            }
            StoreEvent::Lost(keys) => {
                for hash in states_of(keys.iter()) {
                    for of in self.conversations.values_mut() {
                        of.on_disk.remove(&hash);
                    }
                    if self.set(hash, None).is_some() {
                        self.want(hash, scheduler);
                    }
                }
            }
            // What was on its way is on its way again, unless its memory was needed meanwhile.
            StoreEvent::Recovered => {
                for (hash, standing) in self.standing.clone() {
                    let standing = match standing {
                        Standing::Durable => continue,
                        Standing::Held => scheduler.hold_state(&hash).then_some(Standing::Held),
                        Standing::Writing(_) => scheduler.save_state(&hash).then(|| self.all_pieces()),
                    };
                    self.set(hash, standing);
                }
                let worth = self.conversations.values().filter(|of| of.is_worth);
                for hash in worth.flat_map(|of| of.newest.all()).collect::<Vec<_>>() {
                    self.want(hash, scheduler);
                }
            }
            StoreEvent::NotSaved(_) | StoreEvent::Failing(_) => {}
        }
        Vec::new()
    }

    fn saved(&mut self, keys: &[BlockKey]) -> Vec<ChainHash> {
        let mut leaving = Vec::new();
        for key in keys.iter().filter(|key| key.group.is_state()) {
            let Some(Standing::Writing(left)) = self.standing.get_mut(&key.hash) else { continue };
            left.remove(&key.group.idx());
            if left.is_empty() {
                self.set(key.hash, Some(Standing::Durable));
                let of = self.conversations.iter().filter(|(_, of)| of.newest.has(&key.hash));
                for id in of.map(|(id, _)| *id).collect::<Vec<_>>() {
                    leaving.extend(self.settle(id));
                }
            }
        }
        leaving
    }

    /// Where all that is newest of a conversation is durable, have the store bury what is older and nobody else's.
    /// Returns the states that waited for that to leave memory.
    fn settle(&mut self, id: u64) -> Vec<ChainHash> {
        let Some(of) = self.conversations.get_mut(&id) else { return Vec::new() };
        let newest: Vec<ChainHash> = of.newest.all().collect();
        let standing = &self.standing;
        if !newest.iter().all(|hash| standing.get(hash).is_none_or(|is| *is == Standing::Durable)) {
            return Vec::new();
        }
        let is_needed = |hash: &ChainHash| of.lacks_return_point || of.needs(hash);
        let (needed, older) = of.on_disk.iter().copied().partition(is_needed);
        of.on_disk = needed;
        let is_leaving = std::mem::take(&mut of.is_leaving);
        let name = of.name.clone();
        let buried = self.nobody_elses(&name, older);
        if !buried.is_empty() {
            tracing::debug!(n_states = buried.len(), "newer states of a conversation are durable");
            self.store.bury(buried.iter().flat_map(|hash| self.keys_of(*hash)).collect());
        }
        if is_leaving { newest } else { Vec::new() }
    }

    /// Those of these states that no other conversation has, nor will when it is heard of.
    fn nobody_elses(&self, name: &str, mut states: BTreeSet<ChainHash>) -> BTreeSet<ChainHash> {
        let has = |of: &Conversation, hash: &ChainHash| of.needs(hash) || of.on_disk.contains(hash);
        states.retain(|hash| {
            !self.conversations.values().any(|of| has(of, hash))
                && !self.left.values().any(|left| left.states.contains(hash))
        });
        if states.is_empty() {
            return states;
        }
        let is_unheard = |other: &str| other != name && !self.left.contains_key(other);
        for agent in self.store.agents() {
            if agent.fingerprint == self.fingerprint && is_unheard(&agent.name) {
                for hash in agent.blocks.iter().chain(&agent.tail) {
                    states.remove(hash);
                }
            }
        }
        states
    }

    /// A state is to be on disk, if it is not there already.
    fn want(&mut self, hash: ChainHash, scheduler: &mut Scheduler) {
        // What was durable may have been given up for space.
        if self.standing.get(&hash).is_some_and(|standing| *standing != Standing::Durable) {
            return;
        }
        let durable = self.store.durable_at(&[hash]);
        if durable.iter().filter(|block| block.key.group.is_state()).count() >= self.n_pieces {
            self.set(hash, Some(Standing::Durable));
            self.note_on_disk(hash);
        } else {
            let standing = scheduler.hold_state(&hash).then_some(Standing::Held);
            self.set(hash, standing);
        }
    }

    /// A conversation has a newer state in place of this one.
    fn let_go(&mut self, hash: &ChainHash, scheduler: &mut Scheduler, saving: &mut Saving) {
        if self.conversations.values().any(|of| of.newest.has(hash)) {
            return;
        }
        scheduler.lower_state(hash);
        match self.set(*hash, None) {
            Some(Standing::Held) => scheduler.release_state(hash),
            // What of it has been written already is buried with the others.
            Some(Standing::Writing(_)) => {
                saving.drop_blocks(&self.keys_of(*hash));
                scheduler.release_state(hash);
            }
            Some(Standing::Durable) | None => {}
        }
    }

    fn write_where(&mut self, scheduler: &mut Scheduler, which: impl Fn(&Conversation) -> bool) {
        let of = self.conversations.values().filter(|of| which(of));
        let newest: BTreeSet<ChainHash> = of.flat_map(|of| of.newest.all()).collect();
        for hash in newest {
            if self.standing.get(&hash) != Some(&Standing::Held) || scheduler.store() == StoreMode::Off {
                continue;
            }
            if scheduler.save_state(&hash) {
                self.set(hash, Some(self.all_pieces()));
                self.note_on_disk(hash);
            } else {
                self.set(hash, None);
            }
        }
    }

    /// All of a state is on its way.
    fn all_pieces(&self) -> Standing {
        Standing::Writing((0..self.n_pieces).collect())
    }

    /// Note where a state stands; returns where it stood.
    fn set(&mut self, hash: ChainHash, standing: Option<Standing>) -> Option<Standing> {
        self.n_held += usize::from(standing == Some(Standing::Held));
        let before = match standing {
            Some(standing) => self.standing.insert(hash, standing),
            None => self.standing.remove(&hash),
        };
        self.n_held -= usize::from(before == Some(Standing::Held));
        before
    }

    /// Something of a state is on disk now, or will be.
    fn note_on_disk(&mut self, hash: ChainHash) {
        for of in self.conversations.values_mut().filter(|of| of.newest.has(&hash)) {
            of.on_disk.insert(hash);
        }
    }

    fn holds(&self, of: &Conversation) -> bool {
        of.newest.all().any(|hash| self.standing.get(&hash) == Some(&Standing::Held))
    }

    fn of_name(&self, name: &str) -> impl Iterator<Item = (u64, &Conversation)> {
        self.conversations.iter().filter(move |(_, of)| of.name == name).map(|(id, of)| (*id, of))
    }

    /// The conversation that a sequence goes on with: the one of which a newest state is on its way; else, for an agent,
    /// one with the same system. Two chats that nobody has named may begin alike and have nothing else to do with each
    /// other.
    fn find(&self, beginning: &Beginning<'_>) -> Option<u64> {
        let Beginning { ref name, system_end, address, .. } = *beginning;
        let on_its_way = |of: &Conversation| {
            let passed = of.newest.own().filter(|(n_tokens, hash)| address(*n_tokens) == Some(*hash));
            passed.map(|(n_tokens, _)| n_tokens).max()
        };
        let goes_on = self.of_name(name).filter_map(|(id, of)| Some((on_its_way(of)?, id))).max();
        let mut alike = self.of_name(name).filter(|(_, of)| of.system_end == system_end && !is_unnamed(name));
        goes_on.map(|(_, id)| id).or_else(|| alike.next().map(|(id, _)| id))
    }

    /// A new conversation of a name. Where there are too many, what the one that has rested longest has on disk becomes an
    /// older part of it.
    fn add(&mut self, name: &str) -> u64 {
        let mut conversation = Conversation::of(name);
        if self.of_name(name).count() >= MAX_OF_A_NAME {
            let gone = self.remove_longest_resting(|of| of.name == name);
            conversation.on_disk = gone.map(|gone| gone.on_disk).unwrap_or_default();
        }
        if self.conversations.len() >= MAX_CONVERSATIONS
            && let Some(gone) = self.remove_longest_resting(|_| true)
            && self.of_name(&gone.name).next().is_none()
        {
            self.left.remove(&gone.name);
        }
        self.last_id += 1;
        self.conversations.insert(self.last_id, conversation);
        self.last_id
    }

    /// Remove the conversation that went longest without a request, among those that have nothing to be written.
    fn remove_longest_resting(&mut self, which: impl Fn(&Conversation) -> bool) -> Option<Conversation> {
        let resting = self.conversations.iter().filter(|(_, of)| which(of) && !self.holds(of));
        let resting = resting.filter_map(|(id, of)| Some((of.resting_since()?, *id)));
        let (_, longest) = resting.min()?;
        let gone = self.conversations.remove(&longest)?;
        for hash in gone.newest.all() {
            if !self.conversations.values().any(|of| of.newest.has(&hash)) {
                self.set(hash, None);
            }
        }
        Some(gone)
    }

    /// Look what a name that is heard of for the first time has on disk.
    fn recall(&mut self, name: &str) {
        if self.left.contains_key(name) {
            return;
        }
        let manifest = manifest_of(self.store.as_ref(), name, &self.fingerprint);
        let left = manifest.map_or_else(Left::default, |manifest| {
            let hashes: Vec<ChainHash> = all_hashes(&manifest).collect();
            let durable = self.store.durable_at(&hashes);
            let path = manifest.blocks.iter().chain(&manifest.tail).copied().collect();
            Left { path, states: states_of(durable.iter().map(|block| &block.key)) }
        });
        self.left.insert(name.to_owned(), left);
    }

    fn keys_of(&self, hash: ChainHash) -> Vec<BlockKey> {
        (0..self.n_pieces).map(|piece| BlockKey { hash, group: GroupId::state(piece) }).collect()
    }
}

impl Left {
    /// What is left, for a conversation with this system, if the last one had the same.
    fn take(&mut self, system_end: Option<ChainHash>) -> BTreeSet<ChainHash> {
        let is_same = system_end.is_none_or(|end| self.path.contains(&end));
        if is_same { std::mem::take(&mut self.states) } else { BTreeSet::new() }
    }
}

/// The addresses of the states that some of these are pieces of.
fn states_of<'a>(keys: impl Iterator<Item = &'a BlockKey>) -> BTreeSet<ChainHash> {
    keys.filter(|key| key.group.is_state()).map(|key| key.hash).collect()
}
