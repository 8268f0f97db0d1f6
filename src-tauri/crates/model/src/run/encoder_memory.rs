//! How much memory an encoder takes beside its weights.

use super::texts::TEXT_BLOCK_TOKENS;
use crate::plan::model_plan::{FeedForwardPlan, GatedPlan, MixerPlan, ModelPlan, UngatedPlan};

/// Bytes of a value in what a product takes: as it is, and rounded to 16 bits with what belongs to it.
const TAKEN_BYTES: u64 = 4 + 3;

/// Tokens that go through a feed-forward together, or more; each may be a text with a block of its own.
const CHUNK_TOKENS: u64 = 128;

/// Bytes that reading `n_tokens` takes on the CPU, of one text or of several; what a hostile file claims does not
/// overflow it.
pub(crate) fn work_bytes(plan: &ModelPlan, n_tokens: usize) -> u64 {
    let n_embd = plan.n_embd as u64;
    let mut widest = (0_u64, 0_u64, 0_u64);
    for layer in &plan.layers {
        if let MixerPlan::Softmax(attention) = &layer.mixer {
            let q = (attention.n_heads as u64).saturating_mul((attention.k_dim + attention.v_dim) as u64);
            let kv = (attention.n_kv_heads as u64).saturating_mul((attention.k_dim + attention.v_dim) as u64);
            widest = (widest.0.max(q), widest.1.max(kv), widest.2);
        }
        if let FeedForwardPlan::Gated(GatedPlan { n_ff, .. })
        | FeedForwardPlan::Ungated(UngatedPlan { n_ff, .. }) = layer.feed_forward
        {
            widest.2 = widest.2.max(n_ff as u64);
        }
    }
    let (queries, kv, n_ff) = widest;
    let turned: u64 = plan.ropes.iter().map(|rope| rope.n_rot as u64).sum();
    // The stream, a branch before and after its norm; what attention has of a token, in half precision too.
    let of_stream = n_embd.saturating_mul(3 * 4);
    let of_attention = queries.saturating_add(kv).saturating_add(turned).saturating_mul(4);
    let taken = n_embd.max(queries).saturating_mul(TAKEN_BYTES);
    let per_token = [of_stream, of_attention, taken, kv.saturating_mul(2)];
    let per_token = per_token.into_iter().fold(0, u64::saturating_add);
    let fed = CHUNK_TOKENS.saturating_mul(n_ff).saturating_mul(2 * 4 + TAKEN_BYTES);
    let blocks = CHUNK_TOKENS.saturating_mul(TEXT_BLOCK_TOKENS as u64).saturating_mul(kv).saturating_mul(2);
    (n_tokens as u64).saturating_mul(per_token).saturating_add(fed).saturating_add(blocks)
}
