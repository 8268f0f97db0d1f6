//! What the pool calls a block, and what the store does.

use std::sync::Arc;

use scheduler::{AttentionSpan, BlockKey, ChainHash, KvLayout};

/// Names of one model's blocks.
#[derive(Clone)]
pub(crate) struct KeyNames {
    /// By layer group: what its number is to the store.
    groups: Arc<[u16]>,
}

impl KeyNames {
    pub(crate) fn new(layout: &KvLayout) -> KeyNames {
        let name = |(idx, span): (usize, AttentionSpan)| match span {
            // A model has as many groups as layers at most.
            AttentionSpan::Full => idx as u16,
            AttentionSpan::Window { .. } => idx as u16 | store::BlockKey::WINDOW,
        };
        KeyNames { groups: layout.groups.iter().map(|group| group.span).enumerate().map(name).collect() }
    }

    /// The store's name for a block.
    pub(crate) fn stored(&self, key: &BlockKey) -> store::BlockKey {
        store::BlockKey { hash: key.hash.0, group: self.groups[key.group_idx] }
    }

    /// The pool's name for a block.
    pub(crate) fn pooled(key: &store::BlockKey) -> BlockKey {
        BlockKey { hash: ChainHash(key.hash), group_idx: usize::from(key.group & !store::BlockKey::WINDOW) }
    }
}
