//! Texts that an encoder is to read, and the vectors that come of it.

use std::time::Duration;

use scheduler::{CheckedPrompt, Vectors};

use super::model_name::ModelName;
use super::request_id::RequestId;
use super::trace_id::TraceId;
use crate::permit::Room;

/// Texts for which a vector each is wanted.
#[derive(Debug)]
pub struct EmbedRequest {
    /// Echoed in logs and records.
    pub id: RequestId,
    /// The trace that it is part of.
    pub trace: Option<TraceId>,
    /// Who is to read them.
    pub model: ModelName,
    /// The texts, each with the tokens that open and close it; one at least.
    pub texts: Vec<CheckedPrompt>,
}

impl EmbedRequest {
    /// Tokens of all texts.
    pub fn n_tokens(&self) -> usize {
        self.texts.iter().map(|text| text.tokens().len()).sum()
    }

    /// Bytes that texts and vectors of `width` values take until the answer is written.
    pub(crate) fn bytes(&self, width: usize) -> usize {
        let of_texts = self.n_tokens().saturating_mul(size_of::<scheduler::TokenId>());
        let of_each = size_of::<CheckedPrompt>().saturating_add(width.saturating_mul(size_of::<f32>()));
        of_texts.saturating_add(self.texts.len().saturating_mul(of_each))
    }
}

/// The vectors of a request's texts.
#[derive(Debug)]
pub struct Embedded {
    /// One for each text, in their order: as the model gives them, and not brought to a length of 1.
    pub vectors: Vectors,
    /// What it took.
    pub usage: EmbedUsage,
    /// Their memory's share of what there is for vectors, to be held as long as they are.
    pub room: Room,
}

/// What reading texts took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbedUsage {
    /// Tokens of all texts.
    pub n_tokens: usize,
    /// From receipt to the first text's turn.
    pub queued: Duration,
    /// From receipt to the last vector.
    pub took: Duration,
}
