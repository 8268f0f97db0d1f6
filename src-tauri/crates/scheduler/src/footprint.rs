//! How many blocks a sequence needs, from the layout alone.

use address::{BlockKey, ChainHash, GroupId};

use crate::kv_layout::KvLayout;

/// The block arithmetic of one layout.
#[derive(Debug, Clone)]
pub struct Footprint {
    block_tokens: usize,
    groups: Vec<Group>,
    /// Blocks of a state; 0 where the model has none.
    n_pieces: usize,
}

/// A layer group, as far as counting goes.
#[derive(Debug, Clone, Copy)]
struct Group {
    id: GroupId,
    /// Positions that it sees; `None` where that is every earlier one.
    window: Option<usize>,
}

impl Footprint {
    /// The arithmetic of `layout`.
    pub fn new(layout: &KvLayout) -> Footprint {
        let group = |(idx, window): (usize, Option<usize>)| {
            let id = if window.is_some() { GroupId::window(idx) } else { GroupId::full(idx) };
            Group { id, window }
        };
        let windows = layout.groups.iter().map(|group| group.span.window());
        Footprint {
            block_tokens: layout.block_tokens,
            groups: windows.enumerate().map(group).collect(),
            n_pieces: layout.state.n_pieces,
        }
    }

    /// The arithmetic of a layout of which only some groups are known, for a model that is not here: each counts as
    /// one that sees every earlier position, so that nothing is promised which the layout would not hold.
    pub fn careful(block_tokens: usize, groups: impl IntoIterator<Item = GroupId>) -> Footprint {
        let (states, groups): (Vec<GroupId>, Vec<GroupId>) =
            groups.into_iter().partition(|group| group.is_state());
        let n_pieces = states.iter().map(|piece| piece.idx() + 1).max().unwrap_or(0);
        let groups = groups.into_iter().map(|id| Group { id, window: None }).collect();
        Footprint { block_tokens: block_tokens.max(1), groups, n_pieces }
    }

    /// Tokens of a block.
    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    /// How many layer groups there are.
    pub fn n_groups(&self) -> usize {
        self.groups.len()
    }

    /// Blocks of a state; 0 where the model has none.
    pub fn n_pieces(&self) -> usize {
        self.n_pieces
    }

    /// The addresses of the pieces of a prefix's checkpoint.
    pub fn state_keys(&self, hash: ChainHash) -> impl Iterator<Item = BlockKey> {
        (0..self.n_pieces).map(move |piece| BlockKey { hash, group: GroupId::state(piece) })
    }

    /// The addresses of everything that a prefix may have: its blocks in every group, then its checkpoint's pieces.
    pub fn all_keys(&self, hash: ChainHash) -> impl Iterator<Item = BlockKey> {
        self.keys(hash).chain(self.state_keys(hash))
    }

    /// The address of a prefix's block in a group.
    pub fn key(&self, hash: ChainHash, group_idx: usize) -> BlockKey {
        BlockKey { hash, group: self.groups[group_idx].id }
    }

    /// The addresses of a prefix's blocks, in every group.
    pub fn keys(&self, hash: ChainHash) -> impl Iterator<Item = BlockKey> {
        self.groups.iter().map(move |group| BlockKey { hash, group: group.id })
    }

    /// Whether a group sees every earlier position.
    pub fn is_full(&self, group_idx: usize) -> bool {
        self.groups[group_idx].window.is_none()
    }

    /// Index of the first block that the query at `position`, or any later one, looks into.
    pub fn first_needed(&self, group_idx: usize, position: usize) -> usize {
        self.groups[group_idx]
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window) / self.block_tokens)
    }

    /// Blocks that `n_tokens` tokens fill, the last one perhaps in part.
    pub fn blocks_of(&self, n_tokens: usize) -> usize {
        n_tokens.div_ceil(self.block_tokens)
    }

    /// The most blocks that a group's table holds while positions `from..to` are computed in chunks of `chunk`.
    pub fn peak(&self, group_idx: usize, from: usize, to: usize, chunk: usize) -> usize {
        let all = self.blocks_of(to).saturating_sub(self.first_needed(group_idx, from));
        match self.groups[group_idx].window {
            None => all,
            // A chunk's queries look into `window + chunk - 1` positions, which may start anywhere in a block.
            Some(window) => all.min((window + chunk).saturating_sub(2).div_ceil(self.block_tokens) + 1),
        }
    }

    /// The most blocks that a sequence of `n_tokens` needs that is alone in the pool: those of all groups, and with
    /// recurrent layers those of its state and of one checkpoint.
    pub fn alone(&self, n_tokens: usize) -> usize {
        let peak = |group_idx| self.peak(group_idx, 0, n_tokens, self.block_tokens);
        (0..self.n_groups()).map(peak).sum::<usize>() + 2 * self.n_pieces
    }

    /// The longest sequence that fits alone into `n_blocks`, at most `max_tokens`.
    pub fn longest_alone(&self, n_blocks: usize, max_tokens: usize) -> usize {
        let (mut fits, mut too_long) = (0, max_tokens + 1);
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            if self.alone(middle) <= n_blocks {
                fits = middle;
            } else {
                too_long = middle;
            }
        }
        fits
    }

    /// Whether a group's block is kept for a boundary on purpose: one of `kept_windows` (ascending) or a multiple of
    /// `every`.
    ///
    /// A kept window has what the whole-block boundaries at and around it need, so that a prompt that differs
    /// right after it can be taken up from there to the token.
    pub fn is_of_kept_window(
        &self,
        group_idx: usize,
        block_idx: usize,
        kept_windows: &[usize],
        every: usize,
    ) -> bool {
        let Some(window) = self.groups[group_idx].window else { return false };
        let start = block_idx * self.block_tokens;
        // The furthest boundary that still looks into this block, and the positions that round down to it.
        let furthest = (start + self.block_tokens + window).saturating_sub(2);
        let end = furthest - furthest % self.block_tokens + self.block_tokens;
        let next = kept_windows.partition_point(|&c| c <= start);
        kept_windows.get(next).is_some_and(|&c| c < end) || (every > 0 && (start / every + 1) * every < end)
    }
}
