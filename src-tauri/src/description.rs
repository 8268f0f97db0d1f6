//! What there is to say of a model's file without reading its weights: what it is, what it needs, and why it cannot run
//! here where it cannot.

use std::collections::BTreeMap;
use std::path::Path;

use engine::{Failure, FailureKind, LoadAlone, LoadDesk, Needs, PoolWish};
use model::{EncoderOutline, Gguf, Gpu, Metadata, Outline};
use scheduler::KvLayout;
use scheduler::footprint::Footprint;
use server::RenderWorkers;
use text::TextModel;

use crate::device::{self, Choice};
use crate::gguf_loader::GgufLoader;
use crate::memory::memory_limit;
use crate::model_file::name_of;
use crate::opened_model::{failure, in_file, layout_of, text_of};
use crate::settings::Settings;
use crate::settings::values::Device;

/// The context of which everybody can think, in tokens.
const USUAL_CONTEXT: usize = 4_096;

/// A model's file, described.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) n_files: usize,
    pub(crate) file_bytes: u64,
    pub(crate) architecture: Option<String>,
    /// What it is where it is no model: `mmproj`, `adapter` and the like.
    pub(crate) not_a_model: Option<String>,
    /// By the type that they are stored in, the one with most bytes first.
    pub(crate) types: Vec<Share>,
    /// What nothing is computed with, by what it is for.
    pub(crate) ignored: Vec<Share>,
    /// Bytes that the weights take, where they can be loaded.
    pub(crate) weights_bytes: Option<u64>,
    pub(crate) kv: Option<KvDescription>,
    /// What it gives of texts, where it is no model that continues them.
    pub(crate) encoder: Option<EncoderOutline>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Template,
    pub(crate) gpu: GpuAnswer,
    /// Why it cannot run here; none where it can.
    pub(crate) reasons: Vec<Failure>,
}

/// Some tensors of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) what: String,
    pub(crate) n_tensors: usize,
    pub(crate) n_bytes: u64,
}

/// What keys and values take.
#[derive(Debug)]
pub(crate) struct KvDescription {
    pub(crate) dtype: &'static str,
    /// Bytes of a token while every layer still sees it.
    pub(crate) bytes_per_token: u64,
    /// Bytes of a token that only layers without a window see.
    pub(crate) bytes_per_late_token: u64,
    /// How much of its blocks the longest conversation leaves unused, of 1.
    pub(crate) unused_share: f64,
    /// What a kept state of its recurrent layers takes, where it has some.
    pub(crate) checkpoint: Option<CheckpointDescription>,
    pub(crate) max_context: usize,
    /// Bytes of weights and KV together, for a conversation of so many tokens; the longest one last.
    pub(crate) memory: Vec<(usize, u64)>,
    /// The longest conversation that the pool would hold which the model would get here.
    pub(crate) context_here: Option<usize>,
}

/// What one checkpoint takes, and each conversation that runs: the state of all recurrent layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CheckpointDescription {
    pub(crate) n_bytes: u64,
    /// How much of its blocks it leaves unused, of 1.
    pub(crate) unused_share: f64,
}

/// What a file says of its vocabulary.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    pub(crate) kind: Option<String>,
    pub(crate) pre: Option<String>,
    pub(crate) n_tokens: usize,
}

/// Whether there is a chat template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Absent,
    /// It is there; why it fails where it was tried and does.
    Present {
        fault: Option<String>,
    },
}

/// What GPUs have to do with it.
#[derive(Debug)]
pub(crate) struct GpuAnswer {
    /// Why none of this machine computes; nothing where one does.
    pub(crate) why_not_here: Option<String>,
    /// Why none can run this model, whichever it is; nothing where one can.
    pub(crate) why_no_other: Option<String>,
}

/// Describe the model at `path` as it would run with these settings.
///
/// # Errors
/// The file cannot be read, is damaged or no GGUF: there is nothing to say of it. Or this machine does not have what the
/// settings ask for.
pub(crate) fn describe(
    settings: &Settings,
    path: &Path,
    render_workers: &RenderWorkers,
) -> Result<Description, Failure> {
    let loader = GgufLoader::trusting(settings, path.to_owned())
        .map_err(|text| Failure::new(FailureKind::Unsupported, text))?;
    let gguf = Gguf::open_to_describe(path).map_err(|error| failure(&error))?;
    let mut reasons = Vec::new();
    let outline = model::outline(&gguf).map_err(|error| {
        // An architecture can be wrong beside a tensor's type.
        let other = model::plan_of(&gguf).map(drop).map_err(|error| failure(&error));
        reasons.push(failure(&error));
        reasons.extend(other.err().filter(|other| is_another(&reasons, other)));
    });
    let outline = outline.ok();
    let text = text_of(&gguf).map_err(|failure| reasons.push(failure)).ok();
    // An encoder keeps no KV.
    let generator = outline.as_ref().filter(|outline| outline.encoder.is_none());
    let layout = generator.and_then(|outline| {
        let layout = layout_of(path, outline, settings.block_tokens, settings.kv_dtype);
        layout.map_err(|failure| reasons.push(failure)).ok()
    });
    let why_no_other = outline.as_ref().and_then(|outline| model::gpu_refusal(&outline.plan, &gguf));
    let chosen = match &outline {
        Some(outline) => loader.choice(&gguf, &outline.plan),
        None => device::choose(settings.device, settings.kv_dtype, |_| None),
    };
    let chosen = chosen.map_err(|text| reasons.push(in_file(path, FailureKind::Unsupported, &text))).ok();
    let gpu = match &chosen {
        Some(Choice::Gpu(gpu)) => Some(gpu),
        Some(Choice::Cpu { .. }) | None => None,
    };
    let kv = outline.as_ref().zip(layout.as_ref()).map(|(outline, layout)| {
        let needs = loader.needs(&gguf, outline, layout, gpu);
        let desk = LoadAlone::new(name_of(path).into(), memory_limit());
        let pool_bytes = loader.pool_bytes(&desk, &needs);
        let pool_bytes = pool_bytes.map_err(|failure| reasons.push(failure)).ok();
        KvDescription::new(outline, layout, pool_bytes)
    });
    let encoder = outline.as_ref().and_then(|outline| {
        let encoder = outline.encoder.clone()?;
        let weights_bytes = outline.weights_bytes.saturating_add(encoder.work_bytes);
        let needs =
            Needs { weights_bytes, least_pool_bytes: 0, pool: PoolWish::Fixed(0), device_bytes: None };
        let desk = LoadAlone::new(name_of(path).into(), memory_limit());
        reasons.extend(desk.pool_bytes(&needs).err());
        Some(encoder)
    });
    let metadata = gguf.metadata();
    let said = |key: &str| metadata.find_str(key).ok().flatten().map(str::to_owned);
    Ok(Description {
        name: name_of(path),
        n_files: gguf.parts().len(),
        file_bytes: gguf.file_bytes(),
        architecture: said("general.architecture"),
        not_a_model: said("general.type").filter(|kind| kind != "model"),
        types: types_of(&gguf),
        ignored: outline.as_ref().map(|outline| ignored_of(&gguf, outline)).unwrap_or_default(),
        weights_bytes: outline.as_ref().map(|outline| outline.weights_bytes),
        kv,
        encoder,
        tokenizer: Tokenizer::of(metadata),
        template: Template::of(metadata, text.as_ref(), render_workers),
        gpu: GpuAnswer { why_not_here: why_not_here(settings, chosen.as_ref()), why_no_other },
        reasons,
    })
}

impl Description {
    /// Whether it runs here.
    pub(crate) fn runs(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl KvDescription {
    fn new(outline: &Outline, layout: &KvLayout, pool_bytes: Option<u64>) -> KvDescription {
        let footprint = Footprint::new(layout);
        let max_context = outline.plan.max_context;
        let block_bytes = layout.block_bytes as u64;
        let memory = |n_tokens: usize| {
            let kv_bytes = (footprint.alone(n_tokens) as u64).saturating_mul(block_bytes);
            (n_tokens, outline.weights_bytes.saturating_add(kv_bytes))
        };
        let n_full = (0..footprint.n_groups()).filter(|&group_idx| footprint.is_full(group_idx)).count();
        let context_of = |pool_bytes: u64| {
            let n_blocks = usize::try_from(pool_bytes / block_bytes).unwrap_or(usize::MAX);
            footprint.longest_alone(n_blocks, max_context)
        };
        KvDescription {
            dtype: layout.kv_dtype.name(),
            bytes_per_token: layout.bytes_per_token() as u64,
            bytes_per_late_token: n_full as u64 * block_bytes / layout.block_tokens as u64,
            unused_share: layout.unused_share(max_context),
            checkpoint: CheckpointDescription::new(layout),
            max_context,
            memory: [USUAL_CONTEXT]
                .into_iter()
                .filter(|&usual| usual < max_context)
                .chain([max_context])
                .map(memory)
                .collect(),
            context_here: pool_bytes.map(context_of),
        }
    }
}

impl CheckpointDescription {
    fn new(layout: &KvLayout) -> Option<CheckpointDescription> {
        let n_bytes = layout.state_bytes() as u64;
        (n_bytes > 0).then(|| CheckpointDescription { n_bytes, unused_share: layout.unused_state_share() })
    }
}

impl Tokenizer {
    fn of(metadata: &Metadata) -> Tokenizer {
        let said = |key: &str| metadata.find_str(key).ok().flatten().map(str::to_owned);
        let tokens = metadata.find_strings("tokenizer.ggml.tokens").ok().flatten();
        Tokenizer {
            kind: said("tokenizer.ggml.model"),
            pre: said("tokenizer.ggml.pre"),
            n_tokens: tokens.map_or(0, model::Strings::len),
        }
    }
}

impl Template {
    fn of(metadata: &Metadata, text: Option<&TextModel>, render_workers: &RenderWorkers) -> Template {
        match text {
            Some(text) if text.has_chat_template() => {
                Template::Present { fault: render_workers.template_fault(text) }
            }
            // Without a vocabulary it cannot be tried.
            None if metadata.get("tokenizer.chat_template").is_some() => Template::Present { fault: None },
            Some(_) | None => Template::Absent,
        }
    }
}

/// Whether a failure is none of those that are known.
fn is_another(known: &[Failure], failure: &Failure) -> bool {
    failure.kind == FailureKind::Unsupported && known.iter().all(|known| known.text != failure.text)
}

/// Why no GPU of this machine computes.
fn why_not_here(settings: &Settings, chosen: Option<&Choice<Gpu>>) -> Option<String> {
    match chosen {
        Some(Choice::Gpu(_)) => None,
        Some(Choice::Cpu { because: Some(because) }) => Some(because.text.clone()),
        Some(Choice::Cpu { because: None }) if settings.device == Device::Cpu => {
            Some("the settings leave it out".to_owned())
        }
        Some(Choice::Cpu { because: None }) | None => Some(device::NO_GPU.to_owned()),
    }
}

fn types_of(gguf: &Gguf) -> Vec<Share> {
    let known = gguf.tensors().iter().map(|tensor| (tensor.ty.name(), tensor.range.len()));
    let unknown = gguf.unknown_tensors().iter().map(|tensor| (tensor.ty.as_str(), tensor.n_bytes));
    let mut types = shares(known.chain(unknown));
    types.sort_by_key(|share| std::cmp::Reverse(share.n_bytes));
    types
}

fn ignored_of(gguf: &Gguf, outline: &Outline) -> Vec<Share> {
    let n_layers = outline.plan.layers.len();
    let tensors = outline.unread.iter().filter_map(|name| gguf.tensor(name));
    shares(tensors.map(|tensor| (purpose(&tensor.name, n_layers), tensor.range.len())))
}

/// What a tensor is for of which nothing is computed in a model of so many layers.
fn purpose(name: &str, n_layers: usize) -> &'static str {
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    if block.is_some_and(|block| block >= n_layers) || name.contains("nextn.") {
        "blocks that foretell further tokens (MTP)"
    } else if ["v.", "mm."].iter().any(|prefix| name.starts_with(prefix)) {
        "pictures"
    } else if name.ends_with(".input_scale") {
        "scales of what goes into products"
    } else {
        "other tensors"
    }
}

/// Tensors by what they have in common.
fn shares<'a>(tensors: impl Iterator<Item = (&'a str, usize)>) -> Vec<Share> {
    let mut shares: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (what, n_bytes) in tensors {
        let share = shares.entry(what).or_default();
        share.0 += 1;
        share.1 += n_bytes as u64;
    }
    let share = |(what, (n_tensors, n_bytes)): (&str, _)| Share { what: what.to_owned(), n_tensors, n_bytes };
    shares.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_put_together_by_what_it_is_for() {
        for (name, want) in [
            ("blk.32.nextn.eh_proj.weight", "blocks that foretell further tokens (MTP)"),
            ("blk.32.attn_q.weight", "blocks that foretell further tokens (MTP)"),
            ("v.blk.0.attn_q.weight", "pictures"),
            ("mm.0.weight", "pictures"),
            ("blk.31.attn_q.input_scale", "scales of what goes into products"),
            ("blk.31.nonesuch.weight", "other tensors"),
        ] {
            assert_eq!(purpose(name, 32), want, "{name}");
        }
    }

    #[test]
    fn tensors_of_one_kind_are_added_up() {
        let tensors = [("F32", 4), ("Q8_0", 34), ("F32", 8)];
        let share = |what: &str, n_tensors, n_bytes| Share { what: what.to_owned(), n_tensors, n_bytes };
        assert_eq!(shares(tensors.into_iter()), [share("F32", 2, 12), share("Q8_0", 1, 34)]);
    }
}
