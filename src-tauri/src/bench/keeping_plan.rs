//! What keeping is measured with: a model, a text, and servers' flags.

use std::path::Path;

use scheduler::KvLayout;
use serde_json::{Value, json};
use text::TextModel;

use super::served::Served;

/// Tokens of an answer whose first one is timed: enough for some text to come.
pub(super) const ANSWER: usize = 8;
/// Tokens of a prompt that makes a server's weights resident before anything is timed.
pub(super) const WARM_UP: usize = 300;
/// Who asks for that.
pub(super) const WARM_UP_AGENT: &str = "warm-up";

/// What is measured, with what.
pub(super) struct Plan<'a> {
    /// Flags of every server: model, threads, kernels.
    pub(super) flags: Vec<String>,
    /// Real text, as the model's tokens.
    pub(super) tokens: &'a [u32],
    /// The model's vocabulary.
    pub(super) text: &'a TextModel,
    /// The cut of its KV and of its state.
    pub(super) layout: &'a KvLayout,
    /// Where the servers' folders are made.
    pub(super) parent: &'a Path,
    /// Lengths of the prompts that are restored.
    pub(super) sizes: Vec<usize>,
}

/// A prompt that is asked again and again.
pub(super) enum Prompt<'a> {
    /// Of a model whose KV can be cut back to any position.
    Tokens(&'a [u32]),
    /// Of a model with recurrent layers, whose next prompt starts at a checkpoint: where those are depends on messages.
    Chat(Value),
}

impl Plan<'_> {
    pub(super) fn flags(&self, more: &[&str]) -> Vec<String> {
        self.flags.iter().cloned().chain(more.iter().map(|flag| (*flag).to_owned())).collect()
    }

    /// `n` tokens of the text from `start` on.
    pub(super) fn slice(&self, start: usize, n: usize) -> Result<&[u32], String> {
        let have = self.tokens.len();
        self.tokens
            .get(start..start + n)
            .ok_or_else(|| format!("the text has {have} tokens, {} are needed", start + n))
    }

    /// These tokens of the text as text.
    pub(super) fn words(&self, start: usize, n: usize) -> Result<String, String> {
        let tokens = self.slice(start, n)?;
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.text.token_bytes(*token)).copied().collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The prompts that are restored, by their size, no two with a common beginning.
    pub(super) fn prompts(&self) -> Result<Vec<(usize, String, Prompt<'_>)>, String> {
        let mut start = WARM_UP;
        let mut prompts = Vec::new();
        for &size in &self.sizes {
            let prompt = if self.layout.state.n_pieces == 0 {
                Prompt::Tokens(self.slice(start, size)?)
            } else {
                Prompt::Chat(json!([{"role": "user", "content": self.words(start, size)?}]))
            };
            prompts.push((size, format!("agent-{size}"), prompt));
            start += size;
        }
        Ok(prompts)
    }

    /// A server that has computed something, so that nothing is measured twice.
    pub(super) async fn start(&self, data: &Path, more: &[&str]) -> Result<Served, String> {
        let served = Served::start(&self.flags(more), data).await?;
        served.ask(WARM_UP_AGENT, self.slice(0, WARM_UP)?, ANSWER).await?;
        Ok(served)
    }
}
