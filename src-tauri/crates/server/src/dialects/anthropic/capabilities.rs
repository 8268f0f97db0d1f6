//! What of the API a model can do, as `/v1/models` tells it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::served_model::ServedModel;

/// By the API's names; all that it knows are there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicCapabilities)]
pub(crate) struct Capabilities {
    batch: Support,
    citations: Support,
    code_execution: Support,
    context_management: Support,
    effort: Efforts,
    image_input: Support,
    pdf_input: Support,
    server_tools: ServerTools,
    structured_outputs: Support,
    thinking: ThinkingSupport,
}

/// Whether a model can do something.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = AnthropicSupport)]
struct Support {
    supported: bool,
}

/// Which efforts it knows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicEfforts)]
struct Efforts {
    supported: bool,
    low: Support,
    medium: Support,
    high: Support,
    xhigh: Support,
    max: Support,
}

/// Which tools are run for it: none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicServerTools)]
struct ServerTools {
    supported: bool,
    code_execution: Support,
    web_search: Support,
}

/// Whether it thinks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicThinkingSupport)]
struct ThinkingSupport {
    supported: bool,
    types: ThinkingTypes,
}

/// What a request may say of that.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicThinkingTypes)]
struct ThinkingTypes {
    adaptive: Support,
    /// Always so.
    disabled: Support,
    enabled: Support,
}

impl Capabilities {
    /// Those of a model.
    pub(super) fn new(model: &ServedModel) -> Capabilities {
        let (yes, no) = (Support { supported: true }, Support { supported: false });
        let thinks = Support { supported: model.thinks };
        let generates = Support { supported: model.embedding.is_none() };
        Capabilities {
            batch: no,
            citations: no,
            code_execution: no,
            context_management: no,
            effort: Efforts {
                supported: model.thinks,
                low: thinks,
                medium: thinks,
                high: thinks,
                xhigh: thinks,
                max: thinks,
            },
            image_input: no,
            pdf_input: no,
            server_tools: ServerTools { supported: false, code_execution: no, web_search: no },
            structured_outputs: generates,
            thinking: ThinkingSupport {
                supported: model.thinks,
                types: ThinkingTypes { adaptive: thinks, disabled: yes, enabled: thinks },
            },
        }
    }
}
