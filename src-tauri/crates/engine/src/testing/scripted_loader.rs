//! A loader of scripted models.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use scheduler::{
    AttentionSpan, EmbedSpec, KvDtype, KvLayout, LayerCache, LayerKv, LayerState, ModelCacheSpec,
    ModelRunner, ValuePlace,
};
use text::TextModel;

use super::scripted_embedder::ScriptedEmbedder;
use super::scripted_runner::{Script, ScriptedRunner};
use super::steering::Steering;
use super::tiny_text::tiny_text;
use crate::models::worker::WorkerRunner;
use crate::told::backend::ServedBy;
use crate::told::card::{About, GoesBack, ModelCard, Purpose};
use crate::told::load_progress::LoadProgress;
use crate::told::loader::{LoadDesk, Loaded, ModelLoader, Needs, PoolWish, Runner};
use crate::told::model_name::ModelName;
use crate::told::sampling_choices::SamplingChoices;
use crate::told::state::{Failure, FailureKind};

/// What a scripted model is like.
#[derive(Debug, Clone)]
pub struct ScriptedModel {
    /// Its id.
    pub name: &'static str,
    /// Salt of its blocks' addresses.
    pub fingerprint: [u8; 32],
    /// Bytes of its weights, as far as the memory budget is told.
    pub weights_bytes: u64,
    /// Whether it computes on a thread of its own, as a device does.
    pub is_on_device: bool,
    /// What its vectors are like, if it is an encoder; then what is said here of pools is nothing to it.
    pub embeds: Option<EmbedSpec>,
    /// What it says.
    pub script: Script,
    /// Blocks of its pool, of 16 tokens each.
    pub n_blocks: usize,
    /// Positions that it was trained for.
    pub max_context: usize,
    /// Width of a second layer group's window, if it has one.
    pub window: Option<usize>,
    /// The state of a further layer, if it has one that is recurrent.
    pub state: Option<LayerState>,
    /// Whether its pool lends blocks.
    pub lends: bool,
    /// Its vocabulary and chat template; the tokens must be those of `tiny_text`, and there may be more.
    pub text: fn() -> TextModel,
    /// How it is recommended to be sampled.
    pub sampling: SamplingChoices,
    /// Who is said to compute it.
    pub served_by: ServedBy,
}

impl Default for ScriptedModel {
    fn default() -> ScriptedModel {
        ScriptedModel {
            name: "scripted",
            fingerprint: [7; 32],
            weights_bytes: 100,
            is_on_device: false,
            embeds: None,
            script: Script::Hash,
            n_blocks: 256,
            max_context: 2048,
            window: None,
            state: None,
            lends: true,
            text: tiny_text,
            sampling: SamplingChoices::default(),
            served_by: ServedBy::CPU,
        }
    }
}

impl ScriptedModel {
    /// One with a recurrent layer, whose state takes three blocks: five units, of which a block holds two.
    pub fn recurrent() -> ScriptedModel {
        let state = LayerState { n_heads: 4, head_values: 16, n_columns: 1, column_values: 16 };
        ScriptedModel { state: Some(state), ..ScriptedModel::default() }
    }
}

/// Gives out runners of models, each under a steering of its own.
pub struct ScriptedLoader {
    /// What every name leads to that is not among the others.
    model: ScriptedModel,
    steering: Steering,
    others: BTreeMap<ModelName, (ScriptedModel, Steering)>,
}

impl ScriptedLoader {
    /// A loader of `model`.
    pub fn new(model: ScriptedModel, steering: Steering) -> ScriptedLoader {
        ScriptedLoader { model, steering, others: BTreeMap::new() }
    }

    /// The same, where `name` leads to another model.
    pub fn and(mut self, name: &str, model: ScriptedModel, steering: Steering) -> ScriptedLoader {
        self.others.insert(name.into(), (model, steering));
        self
    }
}

impl ModelLoader for ScriptedLoader {
    fn load(&self, model: &ModelName, desk: &dyn LoadDesk) -> Result<Loaded, Failure> {
        let (model, steering) = match self.others.get(model) {
            Some((model, steering)) => (model.clone(), steering),
            None => (self.model.clone(), &self.steering),
        };
        let report = |bytes_done| match desk.progress(LoadProgress { bytes_done, bytes_total: 100 }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                steering.stopped_load();
                Err(Failure::new(FailureKind::NoRoom, "nobody waits for it"))
            }
        };
        let ScriptedModel { script, n_blocks, max_context, window, state, lends, .. } = model.clone();
        let ScriptedModel { text, sampling, served_by, .. } = model.clone();
        let v_place = ValuePlace::BesideKeys;
        let full = LayerCache { n_kv_heads: 1, k_dim: 2, v_dim: 2, v_place, span: AttentionSpan::Full };
        let windowed = window.map(|tokens| LayerCache { span: AttentionSpan::Window { tokens }, ..full });
        let attention = std::iter::once(full).chain(windowed).map(LayerKv::Own);
        let layers = attention.chain(state.map(LayerKv::State)).collect();
        let text = text();
        let spec = ModelCacheSpec { layers, max_context, n_vocab: text.n_vocab() };
        let layout = KvLayout::new(&spec, 16, KvDtype::F16)
            .map_err(|error| Failure::new(FailureKind::Unsupported, error.to_string()))?;
        let n_blocks = if model.embeds.is_some() { 0 } else { n_blocks };
        let pool_bytes = (n_blocks * layout.block_bytes) as u64;
        let pool = PoolWish::Fixed(pool_bytes);
        let weights_bytes = model.weights_bytes;
        desk.pool_bytes(&Needs { weights_bytes, least_pool_bytes: pool_bytes, pool, device_bytes: None })?;
        report(50)?;
        steering.at_load().map_err(|text| Failure::new(FailureKind::Damaged, text))?;
        report(100)?;
        let effective_context = match &model.embeds {
            Some(spec) => spec.max_tokens,
            None => max_context.min(n_blocks.saturating_sub(2 * layout.state.n_pieces) * 16),
        };
        let goes_back = GoesBack::of(&spec);
        let purpose = model.embeds.map_or(Purpose::Generate, Purpose::Embed);
        let runner = match &purpose {
            Purpose::Embed(spec) => {
                Runner::Embeds(Box::new(ScriptedEmbedder::new(spec.clone(), script, steering.clone())))
            }
            Purpose::Generate => {
                let runner =
                    ScriptedRunner::new(spec, layout, n_blocks, script, steering.clone()).lending(lends);
                let runner: Box<dyn ModelRunner> = match model.is_on_device {
                    true => Box::new(WorkerRunner::new(Box::new(runner)).expect("a thread")),
                    false => Box::new(runner),
                };
                Runner::Generates(runner)
            }
        };
        let card = ModelCard {
            template_fault: None,
            name: model.name.to_owned(),
            aliases: vec![format!("{}.gguf", model.name)],
            purpose,
            text: Arc::new(text),
            trained_context: max_context,
            effective_context,
            goes_back,
            fingerprint: model.fingerprint,
            file_bytes: 100,
            about: About {
                architecture: "scripted".to_owned(),
                n_parameters: 135_000_000,
                quantization: "F16".to_owned(),
                ..About::default()
            },
            sampling,
            served_by,
            loaded_at: SystemTime::UNIX_EPOCH,
        };
        Ok(Loaded { runner, card: Arc::new(card) })
    }
}
