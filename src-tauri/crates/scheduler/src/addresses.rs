//! Where the blocks of a token sequence are found, and how much of it a set of blocks makes up.

use address::{BlockKey, ChainHash};

use crate::footprint::Footprint;

/// The addresses of a token sequence: its whole blocks in order, and the partial one after them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// One for each whole block.
    pub whole: Vec<ChainHash>,
    /// Of the tokens after the whole blocks, if there are any.
    pub tail: Option<ChainHash>,
}

impl Addresses {
    /// All of them, in order.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &ChainHash> {
        self.whole.iter().chain(&self.tail)
    }
}

impl Footprint {
    /// How many of `n_tokens` leading tokens could be taken up if exactly the blocks that `is_there` names were there.
    ///
    /// `addresses` are those of the tokens; `n_tokens` itself counts only when there is a tail or none is needed. What
    /// is in memory, what a restart would find and what is pinned are all counted by this.
    pub fn tokens_covered(
        &self,
        n_tokens: usize,
        addresses: &Addresses,
        is_there: &dyn Fn(&BlockKey) -> bool,
    ) -> usize {
        let footprint = self;
        let groups = || 0..footprint.n_groups();
        let has = |hash: &ChainHash, group_idx: usize| is_there(&footprint.key(*hash, group_idx));
        let in_full = |hash: &&ChainHash| groups().filter(|&g| footprint.is_full(g)).all(|g| has(hash, g));
        let n_whole = addresses.whole.iter().take_while(in_full).count();
        // The first block that a window before this boundary lacks.
        let gap = |end: usize| {
            // A list that somebody else has written down may be shorter than its tokens.
            let n_blocks = (end / footprint.block_tokens()).min(addresses.whole.len());
            let windows = groups().filter(|&g| !footprint.is_full(g));
            windows
                .filter_map(|g| {
                    (footprint.first_needed(g, end)..n_blocks).find(|&i| !has(&addresses.whole[i], g))
                })
                .min()
        };
        // Where layers have a state it has to be there, whole.
        let has_state = |hash: &ChainHash| footprint.state_keys(*hash).all(|key| is_there(&key));
        // Without a group nothing was ever kept.
        if groups().next().is_none() {
            return 0;
        }
        let has_tail = addresses.tail.is_some_and(|tail| groups().all(|g| has(&tail, g)) && has_state(&tail));
        if has_tail && n_whole == addresses.whole.len() && gap(n_tokens).is_none() {
            return n_tokens;
        }
        let mut n_blocks = n_whole;
        loop {
            // Every boundary after a missing block, up to this one, looks into it too.
            if let Some(gap) = gap(n_blocks * footprint.block_tokens()) {
                n_blocks = gap;
            } else if n_blocks > 0 && !has_state(&addresses.whole[n_blocks - 1]) {
                n_blocks -= 1;
            } else {
                return (n_blocks * footprint.block_tokens()).min(n_tokens);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::chain_hasher::ChainHasher;
    use crate::kv_layout::{KvLayout, LayerGroup};
    use crate::state_layout::StateLayout;
    use crate::{AttentionSpan, GroupId, KvDtype};

    const TOKENS: usize = 4;

    fn footprint(windows: &[Option<usize>]) -> Footprint {
        let span = |window: &Option<usize>| match *window {
            None => AttentionSpan::Full,
            Some(tokens) => AttentionSpan::Window { tokens },
        };
        let groups = windows
            .iter()
            .map(|window| LayerGroup { span: span(window), layers: vec![0], used_bytes: 64 })
            .collect();
        let (block_tokens, kv_dtype) = (TOKENS, KvDtype::F16);
        let (slots, state) = (Vec::new(), StateLayout::default());
        Footprint::new(&KvLayout { block_tokens, kv_dtype, block_bytes: 64, groups, slots, state })
    }

    /// What of `n_tokens` tokens is covered when all is there but `missing`: pairs of a block and a group, of which
    /// the block after the whole ones is the tail.
    fn check(windows: &[Option<usize>], n_tokens: usize, missing: &[(usize, usize)], want: usize) {
        let footprint = footprint(windows);
        let hasher = ChainHasher::new([1; 32]);
        let tokens: Vec<u32> = (0..n_tokens as u32).collect();
        let whole = hasher.whole_blocks(&tokens, TOKENS);
        let rest = &tokens[whole.len() * TOKENS..];
        let parent = whole.last().copied().unwrap_or_else(|| hasher.root());
        let addresses = Addresses { tail: (!rest.is_empty()).then(|| hasher.child(&parent, rest)), whole };
        let mut there: HashSet<BlockKey> = addresses.all().flat_map(|hash| footprint.keys(*hash)).collect();
        let all: Vec<ChainHash> = addresses.all().copied().collect();
        for &(block_idx, group_idx) in missing {
            assert!(there.remove(&footprint.key(all[block_idx], group_idx)), "{block_idx} {group_idx}");
        }
        let found = footprint.tokens_covered(n_tokens, &addresses, &|key| there.contains(key));
        assert_eq!(found, want, "{windows:?}, {n_tokens} tokens without {missing:?}");
    }

    #[test]
    fn tokens_count_up_to_the_first_block_that_is_missing_in_any_full_group() {
        check(&[None], 14, &[], 14);
        check(&[None], 12, &[], 12);
        check(&[None], 14, &[(3, 0)], 12);
        check(&[None], 14, &[(1, 0)], 4);
        check(&[None], 14, &[(0, 0)], 0);
        check(&[None, None], 14, &[(2, 1)], 8);
        check(&[None], 3, &[], 3);
        check(&[None], 3, &[(0, 0)], 0);
    }

    #[test]
    fn of_a_window_only_what_the_next_token_looks_into_has_to_be_there() {
        // A query at 14 sees from 10 on: blocks 2 and 3.
        check(&[None, Some(5)], 14, &[(0, 1), (1, 1)], 14);
        // Without the tail it would be at 12, and see from 8 on.
        check(&[None, Some(5)], 14, &[(0, 1), (1, 1), (3, 1)], 12);
        // Where block 2 is missing no boundary behind it holds, and the one before looks into block 1.
        check(&[None, Some(5)], 14, &[(2, 1)], 8);
        check(&[None, Some(5)], 14, &[(1, 1), (2, 1)], 4);
        check(&[Some(5)], 14, &[(0, 0), (2, 0)], 8);
        check(&[Some(5)], 14, &[(0, 0), (1, 0), (2, 0)], 0);
    }

    #[test]
    fn a_layout_that_nobody_knows_needs_every_block_of_every_group_that_was_seen() {
        let groups = [GroupId::full(0), GroupId::window(1)];
        let careful = Footprint::careful(TOKENS, groups);
        let addresses = Addresses { whole: (1..=3).map(|n| ChainHash([n; 32])).collect(), tail: None };
        let gone = BlockKey { hash: ChainHash([2; 32]), group: groups[1] };
        assert_eq!(careful.tokens_covered(12, &addresses, &|_| true), 12);
        assert_eq!(careful.tokens_covered(12, &addresses, &|key| *key != gone), 4);
        assert_eq!(careful.tokens_covered(12, &addresses, &|_| false), 0);
        assert_eq!(Footprint::careful(TOKENS, []).tokens_covered(12, &addresses, &|_| true), 0);
    }

    #[test]
    fn with_states_tokens_count_up_to_a_checkpoint_that_is_whole() {
        let layout = KvLayout {
            block_tokens: TOKENS,
            kv_dtype: KvDtype::F16,
            block_bytes: 64,
            groups: vec![LayerGroup { span: AttentionSpan::Full, layers: vec![0], used_bytes: 64 }],
            slots: Vec::new(),
            state: StateLayout { n_pieces: 2, ..StateLayout::default() },
        };
        let footprint = Footprint::new(&layout);
        let hashes: Vec<ChainHash> = (1..=4).map(|n| ChainHash([n; 32])).collect();
        let addresses = Addresses { whole: hashes[..3].to_vec(), tail: Some(hashes[3]) };
        // Pairs of a block and a piece that are there; the KV always is.
        for (pieces, want) in [
            (&[][..], 0),
            (&[(1, 0), (1, 1)][..], 8),
            (&[(1, 0), (1, 1), (2, 0)][..], 8),
            (&[(1, 0), (1, 1), (2, 0), (2, 1)][..], 12),
            (&[(0, 0), (0, 1), (3, 1)][..], 4),
            (&[(0, 0), (0, 1), (3, 0), (3, 1)][..], 14),
        ] {
            let is_there = |key: &BlockKey| {
                let idx = hashes.iter().position(|hash| *hash == key.hash).unwrap();
                !key.group.is_state() || pieces.contains(&(idx, key.group.idx()))
            };
            assert_eq!(footprint.tokens_covered(14, &addresses, &is_there), want, "{pieces:?}");
        }
        // Of a model that is not here as many pieces are asked for as were seen.
        let careful = Footprint::careful(TOKENS, [GroupId::full(0), GroupId::state(1)]);
        assert_eq!(careful.tokens_covered(14, &addresses, &|_| true), 14);
        assert_eq!(careful.tokens_covered(14, &addresses, &|key| key.group != GroupId::state(0)), 0);
    }

    #[test]
    fn lists_that_do_not_fit_their_tokens_cover_no_more_than_there_are() {
        let addresses = Addresses { whole: vec![ChainHash([1; 32]); 3], tail: Some(ChainHash([2; 32])) };
        for n_tokens in [0, 1, 5, 100] {
            for footprint in [footprint(&[None, Some(5)]), Footprint::careful(0, [GroupId::full(0)])] {
                assert!(footprint.tokens_covered(n_tokens, &addresses, &|_| true) <= n_tokens);
            }
        }
    }
}
