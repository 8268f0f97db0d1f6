//! What Ollama's API says when there is no answer.

use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::fault::Fault;
use crate::dialects::dialect::WrittenFault;
use crate::dialects::openai;
use crate::dialects::sse::json;

/// The body of a fault, and the last line of a stream that breaks off.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaError {
    /// Where in the request it is, and what is wrong.
    error: String,
}

impl OllamaError {
    pub(crate) fn new(fault: &Fault) -> OllamaError {
        let error = match &fault.place {
            Some(place) if !fault.message.contains(place.as_str()) => format!("{place}: {}", fault.message),
            _ => fault.message.clone(),
        };
        OllamaError { error }
    }
}

/// A fault as a response. Its clients go by the class of the status, which is that of OpenAI's API.
pub(crate) fn write(fault: &Fault) -> WrittenFault {
    WrittenFault { status: openai::fault::status(fault.kind), body: json(&OllamaError::new(fault)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_sentence_with_its_place() {
        let WrittenFault { status, body } = write(&Fault::invalid("options.top_k", "-1 is below 0"));
        assert_eq!((status.as_u16(), body.as_str()), (400, r#"{"error":"options.top_k: -1 is below 0"}"#));
        let WrittenFault { status, body } = write(&Fault::unknown_model("llama9"));
        assert_eq!(status.as_u16(), 404);
        assert!(body.contains("'llama9'"), "{body}");
    }
}
