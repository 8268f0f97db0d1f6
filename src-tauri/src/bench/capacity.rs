//! How many conversations of a model stay in a gibibyte, from the layout that its pool would have.

use std::path::Path;

use model::Gguf;
use scheduler::{KvLayout, Residency};

use super::report::Report;
use crate::model_file::name_of;
use crate::settings::Settings;

const GIB: usize = 1 << 30;
/// Tokens of the conversations, as far as the model's context allows.
const LENGTHS: [usize; 2] = [4_096, 16_384];
/// Tokens between two kept windows, as the scheduler keeps them.
const WINDOW_KEPT_EVERY: usize = 1_024;
/// Tokens of a message: longer than a window of 512, so that not every block serves some kept window.
const MESSAGE: usize = 1_500;

/// Note the figures of the model at `path`; its weights are not read.
///
/// # Errors
/// The file is no model that can be served; one line.
pub(super) fn capacity(settings: &Settings, path: &Path, report: &mut Report) -> Result<(), String> {
    let gguf = Gguf::open(path).map_err(|error| error.to_string())?;
    let spec = model::plan_of(&gguf).map_err(|error| error.to_string())?.cache_spec();
    let layout = KvLayout::new(&spec, settings.block_tokens, settings.kv_dtype)
        .map_err(|error| format!("model {}: {error}", path.display()))?;
    let (model, dtype) = (name_of(path), settings.kv_dtype.name());
    for n_tokens in LENGTHS.into_iter().filter(|&n| n <= spec.max_context) {
        let message_ends: Vec<usize> = (1..n_tokens.div_ceil(MESSAGE)).map(|i| i * MESSAGE).collect();
        let sparse = Residency::new(&layout, n_tokens, &[], WINDOW_KEPT_EVERY);
        let dense = Residency::new(&layout, n_tokens, &message_ends, WINDOW_KEPT_EVERY);
        let mut agents = |how: &str, n: usize| {
            report.add(&format!("{model}, {dtype}: agents of {n_tokens} tokens, {how}"), "a GiB", n as f64);
        };
        agents("without windows", sparse.agents_without_windows(GIB));
        agents("with windows", sparse.agents(GIB));
        agents("kept windows", sparse.agents_with_kept_windows(GIB));
        agents("and at messages", dense.agents_with_kept_windows(GIB));
        let mib = |n_blocks: usize| (n_blocks * layout.block_bytes) as f64 / (1 << 20) as f64;
        report.add(&format!("{model}, {dtype}: what {n_tokens} tokens need"), "MiB", mib(sparse.n_live));
        report.add(
            &format!("{model}, {dtype}: what kept windows add to {n_tokens}"),
            "MiB",
            mib(sparse.n_kept_windows),
        );
    }
    Ok(())
}
