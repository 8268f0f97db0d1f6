//! An encoder that computes nothing and checks everything.

use scheduler::{
    BATCH_TOKENS, BatchIs, EmbedSpec, Embedder, Row, RowInput, RowState, RunError, SeqId, Step, TokenId,
    Vectors, Wanted,
};

use super::scripted_runner::Script;
use super::steering::{Outcome, Steering};

/// Gives each text a vector that depends on all of its tokens and on nothing else.
pub struct ScriptedEmbedder {
    spec: EmbedSpec,
    script: Script,
    batch: Option<Batch>,
    steering: Steering,
}

struct Batch {
    texts: Vec<Vec<TokenId>>,
    n_parts_done: usize,
}

impl ScriptedEmbedder {
    /// An encoder that is like this; of scripts it knows whether there is a number in it.
    pub fn new(spec: EmbedSpec, script: Script, steering: Steering) -> ScriptedEmbedder {
        ScriptedEmbedder { spec, script, batch: None, steering }
    }

    /// The vector of a text, as it will be given.
    pub fn vector(tokens: &[TokenId], width: usize) -> Vec<f32> {
        let mut state = 0xCBF2_9CE4_8422_2325_u64;
        for token in tokens {
            state = (state ^ u64::from(*token)).wrapping_mul(0x0100_0000_01B3);
        }
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..width).map(|_| next()).collect()
    }
}

impl Drop for ScriptedEmbedder {
    fn drop(&mut self) {
        self.steering.dropped();
    }
}

impl Embedder for ScriptedEmbedder {
    fn spec(&self) -> &EmbedSpec {
        &self.spec
    }

    fn begin(&mut self, texts: &[&[TokenId]]) -> Result<(), RunError> {
        let n_tokens: usize = texts.iter().map(|text| text.len()).sum();
        let is_right = |text: &&[TokenId]| {
            (1..=self.spec.max_tokens).contains(&text.len())
                && text.iter().all(|token| (*token as usize) < self.spec.n_vocab)
        };
        if !texts.iter().all(is_right) || texts.is_empty() || n_tokens > BATCH_TOKENS && texts.len() > 1 {
            return Err(RunError::InvalidStep(format!("{} texts of {n_tokens} tokens", texts.len())));
        }
        self.batch = Some(Batch { texts: texts.iter().map(|text| text.to_vec()).collect(), n_parts_done: 0 });
        Ok(())
    }

    /// A part is shown to the steering as a step whose rows are the texts, and start at the parts that are done.
    fn advance(&mut self, n_parts: usize, out: &mut Vectors) -> Result<BatchIs, RunError> {
        let Some(batch) = &mut self.batch else {
            return Err(RunError::InvalidStep("no batch is under way".to_owned()));
        };
        if n_parts == 0 {
            return Err(RunError::InvalidStep("no parts".to_owned()));
        }
        let row = |(idx, text): (u64, &Vec<TokenId>)| Row {
            seq: SeqId(idx),
            input: RowInput::Tokens(text.clone()),
            start: batch.n_parts_done,
            tables: Vec::new(),
            state: RowState::default(),
            wanted: Wanted::LastHidden,
        };
        let step = Step { copies: Vec::new(), rows: (0..).zip(&batch.texts).map(row).collect() };
        let not_finite = match self.steering.at_step(&step) {
            Outcome::Run => None,
            Outcome::NotFinite(text_idx) => Some(text_idx),
            Outcome::Error => return Err(RunError::Device("the script says so".to_owned())),
            Outcome::OutOfMemory => return Err(RunError::OutOfMemory("the script says so".to_owned())),
            Outcome::Panic => panic!("the script says so"),
        };
        batch.n_parts_done += n_parts;
        if batch.n_parts_done < self.spec.n_parts {
            return Ok(BatchIs::UnderWay);
        }
        let width = self.spec.width;
        let is_number = |idx: usize| self.script != Script::NotFinite && not_finite != Some(idx);
        let vector_of = |(idx, text): (usize, &Vec<TokenId>)| match is_number(idx) {
            true => ScriptedEmbedder::vector(text, width),
            false => vec![f32::NAN; width],
        };
        *out = Vectors { width, values: batch.texts.iter().enumerate().flat_map(vector_of).collect() };
        self.batch = None;
        Ok(BatchIs::Done)
    }
}
