//! What follows what: the tokens of every block in the pool, and the blocks that continue each prefix.
//!
//! One node stands for the blocks of all layer groups with the same tokens. A node of fewer tokens than a block
//! holds is a tail: the last, partial block of a sequence that ended; nothing continues it.

use std::collections::HashMap;

use address::ChainHash;

use crate::ids::TokenId;

#[derive(Debug, Clone)]
struct Node {
    parent: ChainHash,
    tokens: Box<[TokenId]>,
    /// Layer groups in which a block of this node is in the pool; the node lives as long as there is one.
    n_groups: usize,
}

/// Nodes by chain hash.
#[derive(Debug, Clone, Default)]
pub struct PrefixIndex {
    nodes: HashMap<ChainHash, Node>,
    children: HashMap<ChainHash, Vec<ChainHash>>,
}

impl PrefixIndex {
    /// Book one more layer group of a node.
    pub fn add(&mut self, hash: ChainHash, parent: ChainHash, tokens: &[TokenId]) {
        let children = &mut self.children;
        let node = self.nodes.entry(hash).or_insert_with(|| {
            children.entry(parent).or_default().push(hash);
            Node { parent, tokens: tokens.into(), n_groups: 0 }
        });
        node.n_groups += 1;
    }

    /// Book one layer group less; the last one takes the node with it.
    pub fn remove(&mut self, hash: &ChainHash) {
        let Some(node) = self.nodes.get_mut(hash) else { return };
        node.n_groups -= 1;
        if node.n_groups > 0 {
            return;
        }
        let parent = node.parent;
        self.nodes.remove(hash);
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.retain(|sibling| sibling != hash);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// Whether the node, if there is one, holds these very tokens after this very parent; a hash alone is no proof.
    pub fn agrees(&self, hash: &ChainHash, parent: &ChainHash, tokens: &[TokenId]) -> bool {
        self.nodes.get(hash).is_none_or(|node| node.parent == *parent && *node.tokens == *tokens)
    }

    /// The node's tokens.
    pub fn tokens(&self, hash: &ChainHash) -> Option<&[TokenId]> {
        self.nodes.get(hash).map(|node| &*node.tokens)
    }

    /// The chain hash of the prefix before a node.
    pub fn parent(&self, hash: &ChainHash) -> Option<ChainHash> {
        self.nodes.get(hash).map(|node| node.parent)
    }

    /// The nodes that continue a prefix, in no order that means anything.
    pub fn children(&self, parent: &ChainHash) -> &[ChainHash] {
        self.children.get(parent).map_or(&[], Vec::as_slice)
    }

    /// The nodes that continue a prefix and share at least one leading token with `tokens`, most tokens first.
    pub fn children_sharing(&self, parent: &ChainHash, tokens: &[TokenId]) -> Vec<(ChainHash, usize)> {
        let mut sharing: Vec<(ChainHash, usize)> = self
            .children(parent)
            .iter()
            .filter_map(|hash| {
                let n = n_common(self.tokens(hash)?, tokens);
                (n > 0).then_some((*hash, n))
            })
            .collect();
        sharing.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        sharing
    }

    /// Check the index against itself and against `n_groups`, the number of registered blocks of each node.
    ///
    /// # Errors
    /// Names the first contradiction.
    #[cfg(test)]
    pub(crate) fn check_integrity(&self, n_groups: &HashMap<ChainHash, usize>) -> Result<(), String> {
        if n_groups.len() != self.nodes.len() {
            return Err(format!("{} nodes for {} addresses", self.nodes.len(), n_groups.len()));
        }
        for (hash, node) in &self.nodes {
            if n_groups.get(hash) != Some(&node.n_groups) {
                return Err(format!(
                    "{hash:?}: {} groups booked, {:?} there",
                    node.n_groups,
                    n_groups.get(hash)
                ));
            }
            if !self.children(&node.parent).contains(hash) {
                return Err(format!("{hash:?} is missing among its parent's children"));
            }
        }
        let n_children: usize = self.children.values().map(Vec::len).sum();
        if n_children != self.nodes.len() {
            return Err(format!("{n_children} children, {} nodes", self.nodes.len()));
        }
        Ok(())
    }
}

/// How many leading tokens two sequences share.
pub(crate) fn n_common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
