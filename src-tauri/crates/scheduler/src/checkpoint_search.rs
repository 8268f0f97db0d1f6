//! The search for the longest prefix that has a checkpoint at its end.

use address::ChainHash;

use crate::plan::FormerBlock;
use crate::prefix_cache::{Hit, PrefixCache, Prompt, Stored};

/// Whole blocks of a prompt whose checkpoints a store is asked for at once.
const BLOCKS_A_QUESTION: usize = 64;

impl PrefixCache {
    /// The longest prefix of `tokens[..limit]` that ends where a checkpoint stands; its blocks are among the `n_whole`
    /// whole ones that are there, and what comes right behind them.
    pub(crate) fn find_checkpoint(
        &self,
        prompt: Prompt<'_>,
        stored: Stored<'_>,
        former: Option<&FormerBlock>,
    ) -> Hit {
        let Prompt { hashes, n_whole, .. } = prompt;
        let block_tokens = self.footprint.block_tokens();
        let n_with_kv = n_whole * block_tokens;
        let hit = |hit: Hit| Hit { n_with_kv: n_with_kv.max(hit.n_tokens), ..hit };
        let mut end = n_whole;
        while end > 0 {
            let first = end.saturating_sub(BLOCKS_A_QUESTION);
            let keys: Vec<_> =
                hashes[first..end].iter().flat_map(|hash| self.footprint.state_keys(*hash).take(1)).collect();
            let has_state = self.are_there(&keys, stored);
            for n_blocks in (first + 1..=end).rev() {
                if let Some(tail) = self.find_state_in_block(prompt, n_blocks, stored, former) {
                    return hit(tail);
                }
                let at = hashes[n_blocks - 1];
                let whole =
                    Hit { n_tokens: n_blocks * block_tokens, tail: None, state: Some(at), n_with_kv: 0 };
                if has_state[n_blocks - 1 - first] && self.first_gap(&whole, hashes, stored).is_none() {
                    return hit(whole);
                }
            }
            end = first;
        }
        let in_first = self.find_state_in_block(prompt, 0, stored, former);
        hit(in_first.unwrap_or_default())
    }

    /// The longest prefix that ends with a checkpoint within the block behind the first `n_blocks`.
    ///
    /// It was left there by a sequence that ended. The store is asked for all that could be behind the last block that is
    /// there, and before that, where somebody went on, for those at the ends of earlier answers.
    fn find_state_in_block(
        &self,
        prompt: Prompt<'_>,
        n_blocks: usize,
        stored: Stored<'_>,
        former: Option<&FormerBlock>,
    ) -> Option<Hit> {
        let Prompt { tokens, hashes, limit, n_whole, answer_ends } = prompt;
        let block_tokens = self.footprint.block_tokens();
        let start = n_blocks * block_tokens;
        let wanted = &tokens[start..limit.min(start + block_tokens - 1).max(start)];
        let parent = if n_blocks == 0 { self.hasher.root() } else { hashes[n_blocks - 1] };
        let resident = self.index.children_sharing(&parent, wanted).into_iter();
        let mut ends: Vec<(usize, ChainHash)> = resident
            .filter(|(hash, n)| {
                self.tokens(hash).is_some_and(|of_child| of_child.len() == *n)
                    && self.pool.checkpoint(hash).is_some()
            })
            .map(|(hash, n)| (n, hash))
            .collect();
        if stored.is_some() {
            // The last token of an answer may not have been computed.
            let is_end = |n: &usize| answer_ends.iter().any(|end| *end == start + n || *end == start + n + 1);
            let lengths = (1..=wanted.len()).filter(|n| n_blocks == n_whole || is_end(n));
            let all: Vec<(usize, ChainHash)> =
                lengths.map(|n| (n, self.hasher.child(&parent, &wanted[..n]))).collect();
            let keys: Vec<_> =
                all.iter().flat_map(|(_, hash)| self.footprint.state_keys(*hash).take(1)).collect();
            let are_there = self.are_there(&keys, stored);
            ends.extend(all.into_iter().zip(are_there).filter(|(_, is_there)| *is_there).map(|(end, _)| end));
        }
        ends.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
        ends.dedup();
        for (n, state) in ends {
            let range = start..start + n;
            for (tail, n_slots) in self.tail_candidates(&parent, tokens, hashes, range, stored, former) {
                let found = Hit { n_tokens: start + n, tail: Some(tail), state: Some(state), n_with_kv: 0 };
                if n_slots == n && self.first_gap(&found, hashes, stored).is_none() {
                    return Some(found);
                }
            }
        }
        None
    }
}
