//! What storing keys and values in fewer bits costs, in perplexity on a text, and saves, in bytes a token.

use std::fmt;
use std::path::Path;

use engine::{LoadAlone, Loaded, ModelLoader, ModelName};
use kernels::isa::Isa;
use kernels::ops::log_sum_exp;
use kernels::threads::Threads;
use model::Precision;
use scheduler::{
    BlockId, BlockTable, KvDtype, KvLayout, ModelRunner, Row, RowInput, RowState, SeqId, Step, StepOutput,
    Wanted,
};

use crate::gguf_loader::GgufLoader;
use crate::memory::memory_limit;
use crate::model_file;
use crate::settings::Settings;

/// Tokens of a piece; every piece is read from its start, with nothing before it.
const PIECE_TOKENS: usize = 2048;
/// Pieces that are read at most.
const MAX_PIECES: usize = 10;
/// Tokens of a step.
const STEP_TOKENS: usize = 128;

/// The figures of one model on one text.
#[derive(Debug)]
pub(super) struct KvQuality {
    model: String,
    rows: Vec<DtypeFigures>,
}

#[derive(Debug)]
struct DtypeFigures {
    dtype: KvDtype,
    bytes_per_token: usize,
    likelihood: Likelihood,
}

/// How likely a model finds a text.
#[derive(Debug, Default, Clone, Copy)]
struct Likelihood {
    /// The sum of -ln p of the tokens that were foretold.
    negative_log: f64,
    n_tokens: usize,
}

impl Likelihood {
    fn perplexity(self) -> f64 {
        (self.negative_log / self.n_tokens as f64).exp()
    }
}

/// Read the text at `path` with each form of keys and values.
///
/// # Errors
/// The text cannot be read, or the model does not load or run; one line.
pub(super) fn measure(mut settings: Settings, path: &Path) -> Result<KvQuality, String> {
    let in_file = |cause: &dyn fmt::Display| format!("{}: {cause}", path.display());
    let text = std::fs::read_to_string(path).map_err(|cause| in_file(&cause))?;
    let model = model_file::find(settings.model.as_deref(), &settings.folders.models)
        .map_err(|failure| failure.text)?;
    // With activations in 8 bits, the least change of a key makes other roundings further on: noise of 0.1 %.
    settings.precision = Precision::Full;
    let name: ModelName = model_file::name_of(&model).into();
    let mut quality = KvQuality { model: model.display().to_string(), rows: Vec::new() };
    for dtype in [KvDtype::F16, KvDtype::Q8, KvDtype::Q4] {
        settings.kv_dtype = dtype;
        let loader = GgufLoader::trusting(&settings, model.clone())?;
        let Loaded { runner, card } = loader
            .load(&name, &LoadAlone::new(name.clone(), memory_limit()))
            .map_err(|failure| failure.to_string())?;
        let mut runner = runner
            .generating()
            .ok_or_else(|| format!("{}: it generates nothing and has no KV", model.display()))?;
        let piece_tokens = PIECE_TOKENS.min(card.effective_context);
        let mut likelihood = Likelihood::default();
        for piece in card.text.encode_plain(&text).chunks(piece_tokens - 1).take(MAX_PIECES) {
            add_piece(runner.as_mut(), card.text.with_bos(piece.to_vec()), &mut likelihood)?;
        }
        if likelihood.n_tokens == 0 {
            return Err(in_file(&"not one token to foretell"));
        }
        let bytes_per_token = bytes_per_token(runner.layout());
        quality.rows.push(DtypeFigures { dtype, bytes_per_token, likelihood });
    }
    Ok(quality)
}

/// Bytes that a token writes, in all layers.
fn bytes_per_token(layout: &KvLayout) -> usize {
    layout.groups.len() * layout.block_bytes / layout.block_tokens
}

/// Read one piece, and add how likely the model finds each of its tokens but the first.
fn add_piece(
    runner: &mut dyn ModelRunner,
    tokens: Vec<u32>,
    likelihood: &mut Likelihood,
) -> Result<(), String> {
    let threads = Threads::new(std::thread::available_parallelism().map_or(1, usize::from));
    let (tables, state) = blocks(runner, tokens.len())?;
    let mut out = StepOutput::default();
    for start in (0..tokens.len()).step_by(STEP_TOKENS) {
        let end = tokens.len().min(start + STEP_TOKENS);
        let row = Row {
            seq: SeqId(1),
            input: RowInput::Tokens(tokens[start..end].to_vec()),
            start,
            tables: tables.clone(),
            state: state.clone(),
            wanted: Wanted::AllLogits,
        };
        let step = Step { copies: vec![], rows: vec![row] };
        runner.run(&step, &mut out).map_err(|error| error.to_string())?;
        let logits = &out.logits;
        let sums = log_sum_exp(&threads, Isa::detect(), &logits.values, logits.n_vocab);
        for (i, (sum, next)) in sums.iter().zip(&tokens[start + 1..]).enumerate() {
            likelihood.negative_log += sum - f64::from(logits.row(i)[*next as usize]);
            likelihood.n_tokens += 1;
        }
    }
    Ok(())
}

/// Blocks for a sequence of `n_tokens`, the groups' laid one after the other, and behind them those of its state.
fn blocks(runner: &dyn ModelRunner, n_tokens: usize) -> Result<(Vec<BlockTable>, RowState), String> {
    let layout = runner.layout();
    let n_blocks = n_tokens.div_ceil(layout.block_tokens);
    let n_kv_blocks = n_blocks * layout.groups.len();
    let needed = n_kv_blocks + layout.state.n_pieces;
    if needed > runner.n_blocks() {
        return Err(format!("a piece needs {needed} KV blocks of {} (--kv-pool)", runner.n_blocks()));
    }
    let table = |group: usize| BlockTable {
        first_block: 0,
        blocks: (0..n_blocks).map(|b| BlockId((group * n_blocks + b) as u32)).collect(),
    };
    let state = (n_kv_blocks..needed).map(|block| BlockId(block as u32)).collect();
    let tables = (0..layout.groups.len()).map(table).collect();
    Ok((tables, RowState { blocks: state, saves: Vec::new() }))
}

impl KvQuality {
    /// How far a perplexity is above that of the first row, in per cent.
    fn above_first(&self, row: &DtypeFigures) -> f64 {
        100.0 * (row.likelihood.perplexity() / self.rows[0].likelihood.perplexity() - 1.0)
    }

    pub(super) fn to_json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            serde_json::json!({
                "kv_dtype": row.dtype.name(),
                "bytes_per_token": row.bytes_per_token,
                "n_tokens": row.likelihood.n_tokens,
                "perplexity": row.likelihood.perplexity(),
                "percent_above_f16": self.above_first(row),
            })
        });
        let rows: Vec<serde_json::Value> = rows.collect();
        serde_json::json!({ "model": self.model, "piece_tokens": PIECE_TOKENS, "rows": rows }).to_string()
            + "\n"
    }
}

impl fmt::Display for KvQuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, in pieces of up to {PIECE_TOKENS} tokens", self.model)?;
        for row in &self.rows {
            writeln!(
                f,
                "  {:3}  {:6} bytes a token, perplexity {:9.4} on {} tokens ({:+.3} % of f16)",
                row.dtype.name(),
                row.bytes_per_token,
                row.likelihood.perplexity(),
                row.likelihood.n_tokens,
                self.above_first(row),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_says_how_far_it_is_above_the_first() {
        let row = |dtype, bytes_per_token, perplexity: f64| {
            let likelihood = Likelihood { negative_log: perplexity.ln() * 10.0, n_tokens: 10 };
            DtypeFigures { dtype, bytes_per_token, likelihood }
        };
        let rows = vec![row(KvDtype::F16, 100, 8.0), row(KvDtype::Q4, 30, 8.4)];
        let quality = KvQuality { model: "a.gguf".to_owned(), rows };
        let table = quality.to_string();
        assert!(table.contains("q4") && table.contains("30 bytes a token"), "{table}");
        assert!(table.contains("8.4000 on 10 tokens (+5.000 % of f16)"), "{table}");
        let json: serde_json::Value = serde_json::from_str(&quality.to_json()).unwrap();
        assert_eq!(json["rows"][0]["percent_above_f16"], 0.0);
        assert_eq!(json["rows"][1]["bytes_per_token"], 30);
    }
}
