//! Which blocks there are and where, and in what order they are given up: leaves first, the one used longest ago
//! first, pinned ones never.
//!
//! A node is a chain hash with the records of its layer groups. It goes as a whole: half of it restores nothing. A state
//! that stands at it goes as a whole too, and before it, because it is of no use without it.

use std::collections::{BTreeSet, HashMap, HashSet};

use address::{BlockKey, ChainHash, GroupId};

use crate::block_store::{DurableBlock, MissReason};
use crate::pieces::Pieces;
use crate::place::Place;
use crate::record::fate_of;

/// Reasons of lost blocks that are remembered at most.
const MAX_LOST: usize = 4096;

#[derive(Debug)]
struct Node {
    parent: ChainHash,
    last_used: u64,
    places: Vec<(GroupId, Place)>,
    /// The state after its tokens, if there is one.
    state: Pieces,
}

impl Node {
    fn get(&self, group: GroupId) -> Option<&Place> {
        if group.is_state() {
            return self.state.get(group.idx());
        }
        self.places.iter().find(|(other, _)| *other == group).map(|(_, place)| place)
    }

    fn all(&self) -> impl Iterator<Item = (GroupId, &Place)> {
        let blocks = self.places.iter().map(|(group, place)| (*group, place));
        blocks.chain(self.state.iter().map(|(piece, place)| (GroupId::state(piece), place)))
    }
}

/// What of a node is given up at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    State,
    /// What is left when the state is gone.
    Blocks,
}

/// The blocks by chain hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: HashMap<ChainHash, Node>,
    /// Nodes by the hash before them, whether that one is there or not.
    children: HashMap<ChainHash, Vec<ChainHash>>,
    /// Nodes that have a state or no children, and are not pinned, by last use.
    leaves: BTreeSet<(u64, ChainHash)>,
    pinned: HashSet<ChainHash>,
    /// Grows with every use.
    now: u64,
    lost: HashMap<BlockKey, MissReason>,
    n_blocks: usize,
    /// States that are whole.
    n_checkpoints: usize,
    /// Bytes on disk of pieces of states.
    checkpoint_bytes: u64,
}

impl Index {
    /// How many blocks there are.
    pub(crate) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// How many states there are that can be restored.
    pub(crate) fn n_checkpoints(&self) -> usize {
        self.n_checkpoints
    }

    /// Bytes on disk of states.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_bytes
    }

    /// The place of a block, or of a piece whether or not the others are there.
    pub(crate) fn get(&self, key: &BlockKey) -> Option<&Place> {
        self.nodes.get(&key.hash)?.get(key.group)
    }

    /// The place of a block, or of a piece of a state that is whole.
    pub(crate) fn find(&self, key: &BlockKey) -> Option<&Place> {
        let node = self.nodes.get(&key.hash)?;
        let is_part = key.group.is_state() && !node.state.is_whole();
        if is_part { None } else { node.get(key.group) }
    }

    /// How many pieces the state has of which there are some.
    pub(crate) fn n_pieces(&self, hash: &ChainHash) -> Option<u16> {
        let state = &self.nodes.get(hash)?.state;
        (!state.is_empty()).then(|| state.n_pieces())
    }

    /// Why a block that is not there is not there.
    pub(crate) fn why_missing(&self, key: &BlockKey) -> MissReason {
        self.lost.get(&fate_of(key)).copied().unwrap_or(MissReason::Absent)
    }

    /// Whether all that is known of a part of a prefix is durable.
    fn is_durable(&self, hash: &ChainHash, part: Part) -> bool {
        self.nodes.get(hash).is_some_and(|node| match part {
            Part::State => node.state.is_durable(),
            Part::Blocks => node.places.iter().all(|(_, place)| place.is_durable()),
        })
    }

    /// The durable blocks of a prefix, and the pieces of its state if all of them are.
    pub(crate) fn durable_at(&self, hash: ChainHash) -> impl Iterator<Item = DurableBlock> {
        let durable = move |node: &Node, group: GroupId, place: &Place| {
            let is_part = group.is_state() && !(node.state.is_whole() && node.state.is_durable());
            let block = DurableBlock { key: BlockKey { hash, group }, n_bytes: place.disk_bytes() };
            (place.is_durable() && !is_part).then_some(block)
        };
        let node = self.nodes.get(&hash).into_iter();
        node.flat_map(move |node| node.all().filter_map(move |(group, place)| durable(node, group, place)))
    }

    /// Set the place of a block, or of one of `n_pieces` of a state; returns the one it had. A state of another number
    /// has to be removed before.
    pub(crate) fn insert(
        &mut self,
        key: BlockKey,
        parent: ChainHash,
        n_pieces: u16,
        place: Place,
    ) -> Option<Place> {
        self.lost.remove(&fate_of(&key));
        let is_new = !self.nodes.contains_key(&key.hash);
        // Only a forged file can close a circle of parents; its nodes would never be leaves.
        let parent = if is_new && self.is_before(&key.hash, parent) { ChainHash([0; 32]) } else { parent };
        let new = || Node { parent, last_used: 0, places: Vec::new(), state: Pieces::default() };
        let node = self.nodes.entry(key.hash).or_insert_with(new);
        let before = if key.group.is_state() {
            self.change_state(&key.hash, |state| state.put(key.group.idx(), n_pieces, place))
        } else if let Some((_, known)) = node.places.iter_mut().find(|(group, _)| *group == key.group) {
            Some(std::mem::replace(known, place))
        } else {
            node.places.push((key.group, place));
            self.n_blocks += 1;
            None
        };
        if is_new {
            self.children.entry(parent).or_default().push(key.hash);
            self.relist(&parent);
        }
        self.touch(&key.hash);
        before
    }

    /// Change the state of a node that is there, and what is counted.
    fn change_state(
        &mut self,
        hash: &ChainHash,
        change: impl FnOnce(&mut Pieces) -> Option<Place>,
    ) -> Option<Place> {
        let state = &mut self.nodes.get_mut(hash)?.state;
        self.n_checkpoints -= usize::from(state.is_whole());
        self.checkpoint_bytes -= state.disk_bytes();
        let done = change(state);
        self.n_checkpoints += usize::from(state.is_whole());
        self.checkpoint_bytes += state.disk_bytes();
        done
    }

    /// Change the place of a block that is there; returns the one it had.
    pub(crate) fn relocate(&mut self, key: &BlockKey, place: Place) -> Option<Place> {
        if key.group.is_state() {
            self.get(key)?;
            return self.change_state(&key.hash, |state| state.put(key.group.idx(), state.n_pieces(), place));
        }
        let node = self.nodes.get_mut(&key.hash)?;
        let (_, known) = node.places.iter_mut().find(|(group, _)| *group == key.group)?;
        Some(std::mem::replace(known, place))
    }

    /// Whether `hash` is among the ancestors of the node `from`, or is that node.
    fn is_before(&self, hash: &ChainHash, from: ChainHash) -> bool {
        if *hash == from {
            return true;
        }
        // What has no children yet is nobody's ancestor: blocks nearly always come parents first.
        let mut ancestor = from;
        while self.children.contains_key(hash) {
            match self.nodes.get(&ancestor) {
                None => return false,
                Some(node) if node.parent == *hash => return true,
                Some(node) => ancestor = node.parent,
            }
        }
        false
    }

    /// Note that a node was used now.
    pub(crate) fn touch(&mut self, hash: &ChainHash) {
        self.now += 1;
        if let Some(node) = self.nodes.get_mut(hash) {
            self.leaves.remove(&(node.last_used, *hash));
            node.last_used = self.now;
            self.relist(hash);
        }
    }

    /// Forget one block, for a reason that [`Index::why_missing`] gives from now on.
    pub(crate) fn remove(&mut self, key: &BlockKey, why: MissReason) -> Option<Place> {
        let place = if key.group.is_state() {
            self.change_state(&key.hash, |state| state.take(key.group.idx()))?
        } else {
            let places = &mut self.nodes.get_mut(&key.hash)?.places;
            let found = places.iter().position(|(group, _)| *group == key.group)?;
            self.n_blocks -= 1;
            places.swap_remove(found).1
        };
        let is_empty =
            self.nodes.get(&key.hash).is_some_and(|node| node.places.is_empty() && node.state.is_empty());
        if is_empty {
            self.drop_node(&key.hash);
        } else {
            self.relist(&key.hash);
        }
        self.lose(*key, why);
        Some(place)
    }

    /// Forget a state with all its pieces.
    pub(crate) fn remove_state(&mut self, hash: &ChainHash, why: MissReason) -> Vec<(BlockKey, Place)> {
        let Some(node) = self.nodes.get(hash) else { return Vec::new() };
        let keys: Vec<_> = node
            .state
            .iter()
            .map(|(piece, _)| BlockKey { hash: *hash, group: GroupId::state(piece) })
            .collect();
        keys.into_iter().filter_map(|key| Some((key, self.remove(&key, why)?))).collect()
    }

    /// Remember why a block is missing.
    pub(crate) fn lose(&mut self, key: BlockKey, why: MissReason) {
        if why == MissReason::Absent {
            return;
        }
        if self.lost.len() >= MAX_LOST {
            self.lost.clear();
        }
        self.lost.insert(fate_of(&key), why);
    }

    /// Forget a node with its state and all its groups.
    pub(crate) fn remove_node(&mut self, hash: &ChainHash) -> Vec<(BlockKey, Place)> {
        let mut removed = self.remove_state(hash, MissReason::Absent);
        let Some(node) = self.nodes.get_mut(hash) else { return removed };
        let places = std::mem::take(&mut node.places);
        self.n_blocks -= places.len();
        self.drop_node(hash);
        removed.extend(places.into_iter().map(|(group, place)| (BlockKey { hash: *hash, group }, place)));
        removed
    }

    fn drop_node(&mut self, hash: &ChainHash) {
        let Some(node) = self.nodes.remove(hash) else { return };
        self.leaves.remove(&(node.last_used, *hash));
        if let Some(siblings) = self.children.get_mut(&node.parent) {
            siblings.retain(|sibling| sibling != hash);
            if siblings.is_empty() {
                self.children.remove(&node.parent);
            }
        }
        self.relist(&node.parent);
    }

    /// What to give up next. What is not durable yet is passed over: it is what room is made for.
    pub(crate) fn next_to_evict(&self) -> Option<(ChainHash, Part)> {
        let part = |hash: &ChainHash| match self.n_pieces(hash) {
            Some(_) => Part::State,
            None => Part::Blocks,
        };
        let mut leaves = self.leaves.iter().map(|(_, hash)| (*hash, part(hash)));
        leaves.find(|(hash, part)| self.is_durable(hash, *part))
    }

    /// Let exactly `pinned` be exempt.
    pub(crate) fn set_pinned(&mut self, pinned: HashSet<ChainHash>) {
        let before = std::mem::replace(&mut self.pinned, pinned);
        let changed: Vec<ChainHash> = before.symmetric_difference(&self.pinned).copied().collect();
        changed.iter().for_each(|hash| self.relist(hash));
    }

    /// Put a node into the order of eviction, or take it out.
    fn relist(&mut self, hash: &ChainHash) {
        let Some(node) = self.nodes.get(hash) else { return };
        let entry = (node.last_used, *hash);
        let is_leaf = !node.state.is_empty() || !self.children.contains_key(hash);
        if is_leaf && !self.pinned.contains(hash) {
            self.leaves.insert(entry);
        } else {
            self.leaves.remove(&entry);
        }
    }

    /// `hashes` and all that continues them.
    pub(crate) fn with_descendants(&self, hashes: Vec<ChainHash>) -> HashSet<ChainHash> {
        let mut found = HashSet::new();
        let mut frontier = hashes;
        while let Some(hash) = frontier.pop() {
            if found.insert(hash) {
                frontier.extend(self.children.get(&hash).into_iter().flatten());
            }
        }
        found
    }

    /// The blocks whose bytes are in a segment.
    pub(crate) fn keys_in(&self, segment: u64) -> Vec<BlockKey> {
        let mut keys = Vec::new();
        for (hash, node) in &self.nodes {
            for (group, place) in node.all() {
                if matches!(place, Place::Disk(spot) if spot.at.segment == segment) {
                    keys.push(BlockKey { hash: *hash, group });
                }
            }
        }
        keys
    }

    /// Whether a node is there.
    pub(crate) fn contains(&self, hash: &ChainHash) -> bool {
        self.nodes.contains_key(hash)
    }
}
