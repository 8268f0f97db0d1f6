//! What became of the rows of a step that had logits to sample from.

use scheduler::{SeqId, TokenId};
use text::ConstraintError;

use crate::told::event::FinishReason;

/// What sampling made of a step.
#[derive(Default)]
pub(crate) struct Sampled {
    pub(crate) tokens: Vec<(SeqId, TokenId)>,
    pub(crate) finished: Vec<(SeqId, FinishReason)>,
    /// Sequences whose logits cannot be sampled from.
    pub(crate) broken: Vec<SeqId>,
    /// Sequences whose answers cannot go on within their format.
    pub(crate) stuck: Vec<(SeqId, ConstraintError)>,
}

impl Sampled {
    /// Whether there was something to sample from, and none of it could be used.
    pub(crate) fn is_all_broken(&self) -> bool {
        let has_other = !self.tokens.is_empty() || !self.finished.is_empty() || !self.stuck.is_empty();
        !self.broken.is_empty() && !has_other
    }
}
