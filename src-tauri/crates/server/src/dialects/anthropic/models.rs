//! `/v1/models` in Anthropic's words.

use serde::Serialize;
use utoipa::ToSchema;

use super::capabilities::Capabilities;
use crate::calls::served_model::ServedModel;
use crate::dialects::timestamps::rfc3339;

/// What can be asked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicModelList {
    data: Vec<AnthropicModel>,
    /// Always `false`: all of them are here.
    has_more: bool,
    first_id: Option<String>,
    last_id: Option<String>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicModel {
    /// `model`
    r#type: &'static str,
    id: String,
    display_name: String,
    /// When it was loaded, as RFC 3339 has it.
    created_at: String,
    /// `active`
    lifecycle: &'static str,
    /// Tokens that one request may have.
    max_input_tokens: usize,
    /// The same: an answer ends where the context does.
    max_tokens: usize,
    capabilities: Capabilities,
}

impl AnthropicModelList {
    pub(crate) fn new(models: impl IntoIterator<Item = ServedModel>) -> AnthropicModelList {
        let data: Vec<AnthropicModel> = models.into_iter().map(AnthropicModel::new).collect();
        let id = |model: Option<&AnthropicModel>| model.map(|model| model.id.clone());
        AnthropicModelList { has_more: false, first_id: id(data.first()), last_id: id(data.last()), data }
    }
}

impl AnthropicModel {
    pub(crate) fn new(model: ServedModel) -> AnthropicModel {
        AnthropicModel {
            r#type: "model",
            capabilities: Capabilities::new(&model),
            display_name: model.id.clone(),
            id: model.id,
            created_at: rfc3339(model.loaded_at, 0),
            lifecycle: "active",
            max_input_tokens: model.context,
            max_tokens: model.context,
        }
    }
}
