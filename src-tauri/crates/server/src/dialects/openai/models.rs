//! `/v1/models` in OpenAI's words, and how long a model's context is in the words of those who say it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::default_sampling::DefaultSampling;
use crate::calls::served_model::{EmbeddingInfo, ServedModel};
use crate::name_lists::purposes;

/// What can be asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    id: String,
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
    /// What it is for: to generate text, or to give texts their vectors.
    #[schema(schema_with = purposes)]
    purpose: &'static str,
    /// What its vectors are like; only where it gives some.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<EmbeddingInfo>,
    /// Tokens that one request may have.
    context_length: usize,
    /// The same, as vLLM calls it.
    max_model_len: usize,
    /// Tokens that it was trained for.
    trained_context_length: usize,
    has_chat_template: bool,
    file_bytes: u64,
    /// What a request is sampled with that says nothing; not where nothing is sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<DefaultSampling>,
}

impl ModelList {
    pub(crate) fn new(models: impl IntoIterator<Item = ServedModel>) -> ModelList {
        ModelList { object: "list", data: models.into_iter().map(Model::new).collect() }
    }
}

impl Model {
    pub(crate) fn new(model: ServedModel) -> Model {
        Model {
            id: model.id,
            object: "model",
            created: model.loaded_at,
            owned_by: "samovar",
            purpose: model.purpose,
            embedding: model.embedding,
            context_length: model.context,
            max_model_len: model.context,
            trained_context_length: model.trained_context,
            has_chat_template: model.has_chat_template,
            file_bytes: model.file_bytes,
            sampling: model.sampling,
        }
    }
}
