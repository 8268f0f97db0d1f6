//! A loader of scripted models.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use scheduler::{AttentionSpan, KvDtype, KvLayout, LayerCache, ModelCacheSpec};
use text::TextModel;

use super::scripted_runner::{Script, ScriptedRunner};
use super::steering::Steering;
use super::tiny_text::{N_VOCAB, tiny_text};
use crate::loader::{LoadProgress, Loaded, ModelCard, ModelLoader};
use crate::sampling_choices::SamplingChoices;

/// What a scripted model is like.
#[derive(Debug, Clone)]
pub struct ScriptedModel {
    /// What it says.
    pub script: Script,
    /// Blocks of its pool, of 16 tokens each.
    pub n_blocks: usize,
    /// Positions that it was trained for.
    pub max_context: usize,
    /// Width of a second layer group's window, if it has one.
    pub window: Option<usize>,
    /// Whether its pool lends blocks.
    pub lends: bool,
    /// Its vocabulary and chat template; the tokens must be those of `tiny_text`.
    pub text: fn() -> TextModel,
    /// How it is recommended to be sampled.
    pub sampling: SamplingChoices,
}

impl Default for ScriptedModel {
    fn default() -> ScriptedModel {
        ScriptedModel {
            script: Script::Hash,
            n_blocks: 256,
            max_context: 2048,
            window: None,
            lends: true,
            text: tiny_text,
            sampling: SamplingChoices::default(),
        }
    }
}

/// Gives out runners of one model under one steering.
pub struct ScriptedLoader {
    model: ScriptedModel,
    steering: Steering,
}

impl ScriptedLoader {
    /// A loader of `model`.
    pub fn new(model: ScriptedModel, steering: Steering) -> ScriptedLoader {
        ScriptedLoader { model, steering }
    }
}

impl ModelLoader for ScriptedLoader {
    fn load(&self, _: u64, progress: &dyn Fn(LoadProgress) -> ControlFlow<()>) -> Result<Loaded, String> {
        let report = |bytes_done| match progress(LoadProgress { bytes_done, bytes_total: 100 }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                self.steering.stopped_load();
                Err("nobody waits for it".to_owned())
            }
        };
        report(50)?;
        self.steering.at_load()?;
        report(100)?;
        let ScriptedModel { script, n_blocks, max_context, window, lends, text, sampling } =
            self.model.clone();
        let full = LayerCache { n_kv_heads: 1, k_dim: 2, v_dim: 2, span: AttentionSpan::Full };
        let windowed = window.map(|tokens| LayerCache { span: AttentionSpan::Window { tokens }, ..full });
        let layers = std::iter::once(full).chain(windowed).collect();
        let spec = ModelCacheSpec { layers, max_context, n_vocab: N_VOCAB };
        let layout = KvLayout::new(&spec, 16, KvDtype::F16).map_err(|error| error.to_string())?;
        let effective_context = max_context.min(n_blocks * 16);
        let runner =
            ScriptedRunner::new(spec, layout, n_blocks, script, self.steering.clone()).lending(lends);
        let card = ModelCard {
            template_fault: None,
            name: "scripted".to_owned(),
            text: Arc::new(text()),
            trained_context: max_context,
            effective_context,
            fingerprint: [7; 32],
            file_bytes: 100,
            sampling,
            loaded_at: SystemTime::UNIX_EPOCH,
        };
        Ok(Loaded { runner: Box::new(runner), card: Arc::new(card) })
    }
}
