//! What Anthropic's API says when there is no answer.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::calls::fault::{Fault, FaultKind, Lengths};
use crate::dialects::dialect::WrittenFault;
use crate::dialects::sse::json;
use crate::name_lists::fault_codes;

/// Too much to do, or nobody to do it: official clients wait and ask again.
const OVERLOADED: u16 = 529;

/// The body of a fault, and what an `error` event of a stream carries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnthropicError {
    /// `error`
    r#type: &'static str,
    error: AnthropicErrorFields,
    /// The `request-id`; not in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AnthropicErrorFields {
    /// Whose matter it is.
    #[schema(value_type = String)]
    r#type: ErrorType,
    /// Where in the request it is, and what is wrong, for people.
    message: String,
    details: ErrorDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetails {
    /// What is wrong, for programs.
    #[schema(schema_with = fault_codes)]
    error_code: &'static str,
}

/// The types of errors that official clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ErrorType {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    RateLimitError,
    NotFoundError,
    RequestTooLarge,
    TimeoutError,
    ApiError,
    OverloadedError,
}

impl AnthropicError {
    /// That of a fault, with the id of the request where its headers are not past.
    pub(crate) fn new(fault: &Fault, request_id: Option<&str>) -> AnthropicError {
        let message = match (fault.lengths, &fault.place) {
            // Agents look for these words to know that they must compact their history.
            (Some(Lengths { prompt_tokens, context_length }), _) => {
                format!("prompt is too long: {prompt_tokens} tokens > {context_length} maximum")
            }
            // The API has no field for the place: official servers begin the sentence with it.
            (None, Some(place)) if !fault.message.contains(place.as_str()) => {
                format!("{place}: {}", fault.message)
            }
            (None, _) => fault.message.clone(),
        };
        let details = ErrorDetails { error_code: fault.kind.name() };
        AnthropicError {
            r#type: "error",
            error: AnthropicErrorFields { r#type: verdict(fault.kind).1, message, details },
            request_id: request_id.map(str::to_owned),
        }
    }
}

/// A fault as a response.
pub(crate) fn write(fault: &Fault, request_id: &str) -> WrittenFault {
    WrittenFault { status: verdict(fault.kind).0, body: json(&AnthropicError::new(fault, Some(request_id))) }
}

fn verdict(kind: FaultKind) -> (StatusCode, ErrorType) {
    use ErrorType as Type;
    let invalid = |status| (status, Type::InvalidRequestError);
    match kind {
        FaultKind::InvalidValue
        | FaultKind::MissingParameter
        | FaultKind::UnsupportedParameter
        | FaultKind::NoThreads
        | FaultKind::UnknownParameter
        | FaultKind::InvalidJson
        | FaultKind::BadRequest
        | FaultKind::NoChatTemplate
        | FaultKind::TooLong
        | FaultKind::UnknownPreviousResponse
        | FaultKind::WrongPurpose
        | FaultKind::ChatTemplateFailed => invalid(StatusCode::BAD_REQUEST),
        FaultKind::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, Type::TimeoutError),
        FaultKind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Type::RequestTooLarge),
        FaultKind::TargetTooLong => invalid(StatusCode::URI_TOO_LONG),
        FaultKind::HeadersTooLarge => invalid(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        FaultKind::NotJson | FaultKind::Encoded => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        FaultKind::UnknownUrl
        | FaultKind::UnknownModel
        | FaultKind::UnknownRequest
        | FaultKind::UnknownResponse
        | FaultKind::UnknownKey
        | FaultKind::UnknownAgent => (StatusCode::NOT_FOUND, Type::NotFoundError),
        FaultKind::WrongMethod => invalid(StatusCode::METHOD_NOT_ALLOWED),
        FaultKind::HostNotAllowed | FaultKind::OriginNotAllowed | FaultKind::KeyNotAllowed => {
            (StatusCode::FORBIDDEN, Type::PermissionError)
        }
        // Of one client, not of the server: the others are served.
        FaultKind::KeyLimit => (StatusCode::TOO_MANY_REQUESTS, Type::RateLimitError),
        FaultKind::InvalidKey => (StatusCode::UNAUTHORIZED, Type::AuthenticationError),
        FaultKind::IllegalTransition => invalid(StatusCode::CONFLICT),
        FaultKind::Busy
        | FaultKind::TooManyBodies
        | FaultKind::TooManyInFlight
        | FaultKind::PoolExhausted
        | FaultKind::NoModel
        | FaultKind::ModelLoading
        | FaultKind::ShuttingDown
        | FaultKind::Parked
        | FaultKind::EngineFailed
        | FaultKind::Interrupted => {
            (StatusCode::from_u16(OVERLOADED).expect("three digits are a status"), Type::OverloadedError)
        }
        FaultKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Type::ApiError),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine::{NotReadyReason, Refusal};

    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_status_type_and_code() {
        let line = |fault: Fault| {
            let WrittenFault { status, body } = write(&fault, "req_7");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &"req_7".into()));
            let error = &body["error"];
            let code = error["details"]["error_code"].as_str().unwrap();
            format!("{} {} {code}", status.as_u16(), error["type"].as_str().unwrap())
        };
        let loading = Refusal::Unavailable {
            reason: NotReadyReason::ModelLoading,
            retry_after: Some(Duration::from_secs(2)),
        };
        let table = [
            line(Fault::invalid("messages", "m")),
            line(Fault::no_threads("thread")),
            line(Refusal::TooLong { n_tokens: 9000, limit: 8192 }.into()),
            line(Fault::unauthorized()),
            line(Fault::origin_not_allowed("m")),
            line(Fault::unknown_model("gpt-4o")),
            line(Fault::wrong_method("GET", "/v1/messages")),
            line(Fault::body_timeout()),
            line(Fault::body_too_large(7)),
            line(Fault::not_json()),
            line(Refusal::PoolExhausted { needed: 9, free: 1, total: 10 }.into()),
            line(Refusal::Busy { n_waiting: 7 }.into()),
            line(loading.into()),
            line(Refusal::Interrupted { why: "the drain's deadline passed" }.into()),
            line(Refusal::Fault { id: "req_1".into() }.into()),
        ];
        let want = "\
400 invalid_request_error invalid_value
400 invalid_request_error thread_unsupported_request
400 invalid_request_error context_length_exceeded
401 authentication_error invalid_api_key
403 permission_error origin_not_allowed
404 not_found_error model_not_found
405 invalid_request_error method_not_allowed
408 timeout_error request_timeout
413 request_too_large request_too_large
415 invalid_request_error unsupported_media_type
529 overloaded_error pool_exhausted
529 overloaded_error rate_limit_exceeded
529 overloaded_error model_loading
529 overloaded_error interrupted
500 api_error internal_error";
        assert_eq!(table.join("\n"), want);
    }

    #[test]
    fn a_message_begins_with_the_place_where_it_does_not_name_it() {
        let message = |fault: Fault| AnthropicError::new(&fault, None).error.message;
        assert_eq!(message(Fault::invalid("messages[0].role", "is no role")), "messages[0].role: is no role");
        assert_eq!(message(Fault::missing("max_tokens")), "missing required parameter: 'max_tokens'");
        let too_long = Fault::too_long(9000, 8192).at("messages");
        assert_eq!(message(too_long), "prompt is too long: 9000 tokens > 8192 maximum");
    }
}
