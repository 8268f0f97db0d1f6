//! How many conversations stay resident in a given memory: what windows win, and what kept windows cost.

use crate::footprint::Footprint;
use crate::kv_layout::KvLayout;

/// What a conversation of one length takes in the pool; counts are blocks of `block_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residency {
    /// Tokens of the conversation.
    pub n_tokens: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Blocks if every layer looked at every position.
    pub n_without_windows: usize,
    /// Blocks that its next turn needs: all of the full groups, the live window of the others.
    pub n_live: usize,
    /// Blocks of kept windows besides, evictable before all others.
    pub n_kept_windows: usize,
    /// Blocks of the one checkpoint that its next turn starts from; 0 where no layer has a state.
    pub n_checkpoint: usize,
}

impl Residency {
    /// What a conversation of `n_tokens` takes under `layout`, with windows kept at `message_ends` (ascending) and
    /// every `window_kept_every` tokens.
    pub fn new(
        layout: &KvLayout,
        n_tokens: usize,
        message_ends: &[usize],
        window_kept_every: usize,
    ) -> Residency {
        let footprint = Footprint::new(layout);
        let n_all = footprint.blocks_of(n_tokens);
        let (mut n_live, mut n_kept_windows) = (0, 0);
        for group_idx in 0..footprint.n_groups() {
            let first = footprint.first_needed(group_idx, n_tokens);
            let is_kept =
                |i: &usize| footprint.is_of_kept_window(group_idx, *i, message_ends, window_kept_every);
            n_live += n_all - first;
            n_kept_windows += (0..first).filter(is_kept).count();
        }
        Residency {
            n_tokens,
            block_bytes: layout.block_bytes,
            n_without_windows: n_all * footprint.n_groups(),
            n_live,
            n_kept_windows,
            n_checkpoint: footprint.n_pieces(),
        }
    }

    /// Conversations in `bytes` if every layer looked at every position.
    pub fn agents_without_windows(&self, bytes: usize) -> usize {
        bytes / ((self.n_without_windows + self.n_checkpoint) * self.block_bytes)
    }

    /// Conversations in `bytes` when kept windows have given way to more of them.
    pub fn agents(&self, bytes: usize) -> usize {
        bytes / ((self.n_live + self.n_checkpoint) * self.block_bytes)
    }

    /// Conversations in `bytes` that have their first `n_shared` tokens, whole blocks with a checkpoint at their end, in
    /// common; what is shared is there once.
    pub fn agents_that_share(&self, bytes: usize, layout: &KvLayout, n_shared: usize) -> usize {
        let shared = Residency::new(layout, n_shared, &[], 0);
        let n_shared = shared.n_live + shared.n_checkpoint;
        let own = (self.n_live + self.n_checkpoint).saturating_sub(shared.n_live).max(1) * self.block_bytes;
        bytes.saturating_sub(n_shared * self.block_bytes) / own
    }

    /// Conversations in `bytes` that keep all their kept windows.
    pub fn agents_with_kept_windows(&self, bytes: usize) -> usize {
        bytes / ((self.n_live + self.n_kept_windows + self.n_checkpoint) * self.block_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_spec::{AttentionSpan, KvDtype, LayerCache, LayerKv, ModelCacheSpec, ValuePlace};

    const GIB: usize = 1 << 30;

    /// Gemma 3 270M: 18 layers of one KV head of 256, every sixth full, the others with a window of 512.
    fn gemma3_270m(dtype: KvDtype) -> KvLayout {
        let span = |layer| match layer % 6 {
            5 => AttentionSpan::Full,
            _ => AttentionSpan::Window { tokens: 512 },
        };
        let v_place = ValuePlace::BesideKeys;
        let layer = |layer| {
            LayerKv::Own(LayerCache { n_kv_heads: 1, k_dim: 256, v_dim: 256, v_place, span: span(layer) })
        };
        let spec =
            ModelCacheSpec { layers: (0..18).map(layer).collect(), max_context: 32768, n_vocab: 262_144 };
        KvLayout::new(&spec, 32, dtype).unwrap()
    }

    fn figures(dtype: KvDtype, n_tokens: usize, message_tokens: usize) -> [usize; 3] {
        let message_ends: Vec<usize> =
            (1..).map(|i| i * message_tokens).take_while(|&c| c < n_tokens).collect();
        let residency = Residency::new(&gemma3_270m(dtype), n_tokens, &message_ends, 1024);
        [
            residency.agents_without_windows(GIB),
            residency.agents(GIB),
            residency.agents_with_kept_windows(GIB),
        ]
    }

    /// Agents in one GiB: without windows, with windows, with windows and all kept windows.
    #[test]
    fn windows_hold_several_times_the_agents_of_gemma_3_270m_in_a_gibibyte() {
        let far_apart = 1 << 20;
        assert_eq!(figures(KvDtype::F16, 4096, far_apart), [14, 52, 24]);
        assert_eq!(figures(KvDtype::F16, 16384, far_apart), [3, 18, 6]);
        assert_eq!(figures(KvDtype::Q8, 4096, far_apart), [26, 98, 45]);
        assert_eq!(figures(KvDtype::Q8, 16384, far_apart), [6, 34, 11]);
    }

    #[test]
    fn messages_shorter_than_the_window_keep_the_windows_of_every_block() {
        let [without, with, all_kept] = figures(KvDtype::F16, 16384, 300);
        assert_eq!([without, all_kept], [3, 3]);
        assert_eq!(with, 18);
    }
}
