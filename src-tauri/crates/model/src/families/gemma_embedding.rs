//! EmbeddingGemma: a Gemma 3 whose tokens see in both directions, through windows half of which lies behind them, and
//! whose pooled vector may be led through two products more.

use scheduler::AttentionSpan;

use super::encoder::{encoder_tensors, put_encoder, put_projections};
use super::family::Family;
use super::gemma3::{PERIOD, WINDOW_ROPE_BASE, layer};
use super::keys::Keys;
use super::transformer::{Sizes, add_windows};
use crate::error::Cause;
use crate::file::gguf::Gguf;
use crate::plan::model_plan::{Activation, ModelPlan};
use crate::plan::rope_plan::{RopePairs, RopePlan};
use crate::plan::tensor_list::TensorList;

pub(super) const FAMILY: Family = Family { architecture: "gemma-embedding", plan, tensors };

fn plan(keys: &Keys<'_>) -> Result<ModelPlan, Cause> {
    let sizes = Sizes::with_eps(keys, keys.norm_eps()?)?;
    let rope = keys.rope(RopePairs::SplitHalf, sizes.n_rot)?;
    let mut plan = sizes.plan(keys, rope, Activation::GeluTanh)?;
    plan.embedding_scale = (sizes.n_embd as f32).sqrt();
    // Asked for with or without windows: without, they say nothing.
    let (base, windows) = (keys.positive("rope.freq_base_swa")?, keys.windows(sizes.n_blocks, PERIOD)?);
    if let Some(AttentionSpan::Window { tokens }) = keys.window()? {
        let base = base.unwrap_or(WINDOW_ROPE_BASE);
        let rope = RopePlan::plain(RopePairs::SplitHalf, sizes.n_rot, base);
        // A token sees half of the window on each side, and itself.
        add_windows(&mut plan, AttentionSpan::Window { tokens: tokens / 2 + 1 }, rope, &windows);
    }
    put_encoder(keys, &mut plan)?;
    put_projections(keys, &mut plan)?;
    Ok(plan)
}

fn tensors(plan: &ModelPlan, gguf: &Gguf) -> TensorList {
    encoder_tensors(plan, gguf, Some("output_norm.weight"), layer)
}
