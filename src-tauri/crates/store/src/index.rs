//! Which blocks there are and where, and in what order they are given up: leaves first, the one used longest ago
//! first, pinned ones never.
//!
//! A node is a chain hash with the records of its layer groups. It goes as a whole: half of it restores nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use address::{BlockKey, ChainHash, GroupId};

use crate::block_store::{DurableBlock, MissReason};
use crate::format::Position;
use crate::record::BlockRecord;

/// Reasons of lost blocks that are remembered at most.
const MAX_LOST: usize = 4096;

/// Where a block's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In memory; not durable yet.
    Queued(Arc<BlockRecord>),
    /// On disk, and durable.
    Disk(Spot),
}

/// A record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) at: Position,
    /// Header and body.
    pub(crate) n_bytes: u64,
}

#[derive(Debug)]
struct Node {
    parent: ChainHash,
    last_used: u64,
    places: Vec<(GroupId, Place)>,
}

/// The blocks by chain hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    nodes: HashMap<ChainHash, Node>,
    /// Nodes by the hash before them, whether that one is there or not.
    children: HashMap<ChainHash, Vec<ChainHash>>,
    /// Nodes without children that are not pinned, by last use.
    leaves: BTreeSet<(u64, ChainHash)>,
    pinned: HashSet<ChainHash>,
    /// Grows with every use.
    now: u64,
    lost: HashMap<BlockKey, MissReason>,
    n_blocks: usize,
}

impl Index {
    /// How many blocks there are.
    pub(crate) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    pub(crate) fn get(&self, key: &BlockKey) -> Option<&Place> {
        let node = self.nodes.get(&key.hash)?;
        node.places.iter().find(|(group, _)| *group == key.group).map(|(_, place)| place)
    }

    /// Why a block that is not there is not there.
    pub(crate) fn why_missing(&self, key: &BlockKey) -> MissReason {
        self.lost.get(key).copied().unwrap_or(MissReason::Absent)
    }

    /// Whether all that is known of a prefix is durable, and something is.
    pub(crate) fn is_durable(&self, hash: &ChainHash) -> bool {
        let is_on_disk = |(_, place): &(GroupId, Place)| matches!(place, Place::Disk(_));
        self.nodes.get(hash).is_some_and(|node| node.places.iter().all(is_on_disk))
    }

    /// The durable blocks of a prefix.
    pub(crate) fn durable_at(&self, hash: ChainHash) -> impl Iterator<Item = DurableBlock> {
        let durable = move |(group, place): &(GroupId, Place)| match place {
            Place::Disk(spot) => {
                Some(DurableBlock { key: BlockKey { hash, group: *group }, n_bytes: spot.n_bytes })
            }
            Place::Queued(_) => None,
        };
        self.nodes.get(&hash).into_iter().flat_map(move |node| node.places.iter().filter_map(durable))
    }

    /// Set a block's place; returns the one it had.
    pub(crate) fn insert(&mut self, key: BlockKey, parent: ChainHash, place: Place) -> Option<Place> {
        self.lost.remove(&key);
        let is_new = !self.nodes.contains_key(&key.hash);
        // Only a forged file can close a circle of parents; its nodes would never be leaves.
        let parent = if is_new && self.is_before(&key.hash, parent) { ChainHash([0; 32]) } else { parent };
        let node = self.nodes.entry(key.hash).or_insert(Node { parent, last_used: 0, places: Vec::new() });
        let known = node.places.iter_mut().find(|(group, _)| *group == key.group);
        let before = match known {
            Some((_, known)) => Some(std::mem::replace(known, place)),
            None => {
                node.places.push((key.group, place));
                self.n_blocks += 1;
                None
            }
        };
        if is_new {
            self.children.entry(parent).or_default().push(key.hash);
            self.relist(&parent);
        }
        self.touch(&key.hash);
        before
    }

    /// Change the place of a block that is there; returns the one it had.
    pub(crate) fn relocate(&mut self, key: &BlockKey, place: Place) -> Option<Place> {
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
        let node = self.nodes.get_mut(&key.hash)?;
        let found = node.places.iter().position(|(group, _)| *group == key.group)?;
        let (_, place) = node.places.swap_remove(found);
        self.n_blocks -= 1;
        if node.places.is_empty() {
            self.drop_node(&key.hash);
        }
        self.lose(*key, why);
        Some(place)
    }

    /// Remember why a block is missing.
    pub(crate) fn lose(&mut self, key: BlockKey, why: MissReason) {
        if why == MissReason::Absent {
            return;
        }
        if self.lost.len() >= MAX_LOST {
            self.lost.clear();
        }
        self.lost.insert(key, why);
    }

    /// Forget a node with all its groups.
    pub(crate) fn remove_node(&mut self, hash: &ChainHash) -> Vec<(BlockKey, Place)> {
        let Some(node) = self.nodes.get_mut(hash) else { return Vec::new() };
        let places = std::mem::take(&mut node.places);
        self.n_blocks -= places.len();
        self.drop_node(hash);
        places.into_iter().map(|(group, place)| (BlockKey { hash: *hash, group }, place)).collect()
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

    /// The node to give up next.
    pub(crate) fn next_to_evict(&self) -> Option<ChainHash> {
        self.leaves.first().map(|(_, hash)| *hash)
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
        if self.children.contains_key(hash) || self.pinned.contains(hash) {
            self.leaves.remove(&entry);
        } else {
            self.leaves.insert(entry);
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
            for (group, place) in &node.places {
                if matches!(place, Place::Disk(spot) if spot.at.segment == segment) {
                    keys.push(BlockKey { hash: *hash, group: *group });
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
